"""Threads, repeatable CUDA and the fastest plan of a machine."""

import json
import re
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from assay.errors import UsageError

torch = pytest.importorskip("torch", reason="needs the train extra")

from torch import nn  # noqa: E402  # after torch is known to be there

from assay.embed import device  # noqa: E402  # the same
from assay.embed.device import (  # noqa: E402  # the same
    CANDIDATES,
    Plan,
    deterministic,
    fastest_plan,
    one_thread_each,
    prepare,
)

pytestmark = pytest.mark.train


class Slow(nn.Module):
    """Takes its time with one dtype or one layout."""

    def __init__(self, dtype=None, layout=None) -> None:
        super().__init__()
        self.dtype, self.layout, self.calls = dtype, layout, [0]
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, images):
        self.calls[0] += 1
        slow_layout = self.layout is not None and images.is_contiguous(memory_format=self.layout)
        if images.dtype == self.dtype or slow_layout:
            time.sleep(0.005)
        return images.mean(dim=(2, 3)) * self.weight

    def __deepcopy__(self, memo):
        copy = Slow(self.dtype, self.layout)
        copy.calls = self.calls
        return copy


def remembered(cache) -> dict:
    return json.loads((cache / "speed.json").read_text())


@pytest.mark.parametrize(("slow", "fast"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_the_faster_dtype_and_layout_are_chosen(tmp_path, slow, fast):
    """What runs faster here is chosen, unless the flag fixes a dtype."""
    assert fastest_plan(Slow(getattr(torch, slow)), "net", 8, tmp_path).dtype == fast
    assert fastest_plan(Slow(getattr(torch, slow)), "net", 8, tmp_path, slow).dtype == slow
    plan = fastest_plan(Slow(layout=torch.channels_last), "other", 8, tmp_path, "float32")
    assert plan == Plan("float32", "contiguous", 16)


def test_a_plan_without_hope_is_tried_with_one_image(tmp_path):
    """On a processor without bfloat16 its plans would take most of the time."""
    network = Slow(torch.bfloat16)
    fastest_plan(network, "net", 8, tmp_path)
    assert network.calls[0] == 2 * (2 + 4) + 2 * 2


@pytest.mark.parametrize(
    ("native", "size", "dtype", "plan"),
    [
        (True, 128, "auto", ("bfloat16", 256)),
        (False, 128, "auto", ("float32", 256)),
        (False, 448, "bfloat16", ("bfloat16", 64)),
        (True, 1024, "float32", ("float32", 12)),
    ],
)
def test_a_gpu_has_a_plan_without_timing(monkeypatch, tmp_path, native, size, dtype, plan):
    """A GPU uses bfloat16 unless it would only emulate it, and takes fewer large images at a time."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    found = fastest_plan(Slow(), "net", size, tmp_path, dtype)
    assert (found.dtype, found.batch, found.device) == (*plan, "cuda")


def test_a_plan_is_timed_once_and_remembered(tmp_path):
    """The second time nothing runs, and no lock is needed, as in a cache that may only be read."""
    network = Slow(torch.bfloat16)
    first = fastest_plan(network, "net", 8, tmp_path)
    calls = network.calls[0]
    assert calls > 0
    (tmp_path / "speed.lock").unlink(missing_ok=True)
    (tmp_path / "speed.lock").mkdir()
    assert fastest_plan(network, "net", 8, tmp_path) == first
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path) == first
    assert network.calls[0] == calls


def test_each_network_size_dtype_and_cpu_has_its_own_plan(tmp_path, monkeypatch):
    """A remembered plan is not used for another case, nor lost when another comes."""
    cases = [("net", 8, "auto"), ("net", 16, "auto"), ("other", 8, "auto"), ("net", 8, "float32")]
    plans = [fastest_plan(Slow(torch.float32), *case, tmp_path, dtype) for *case, dtype in cases]
    assert [plan.dtype for plan in plans] == ["bfloat16"] * 3 + ["float32"]
    monkeypatch.setattr(device, "_processor", lambda: "another")
    assert fastest_plan(Slow(torch.bfloat16), "net", 8, tmp_path).dtype == "float32"
    assert len(remembered(tmp_path)) == 5


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        '{"KEY": {"dtype": "float16", "layout": "contiguous", "batch": 16}}',
        '{"KEY": {"dtype": "float32", "layout": "contiguous", "batch": 0}}',
        '{"KEY": {"dtype": "float32", "layout": "contiguous", "batch": 16, "device": "cuda"}}',
    ],
)
def test_a_damaged_file_of_plans_is_timed_again(tmp_path, damage):
    """Content that assay cannot have written is ignored and replaced."""
    fastest_plan(Slow(torch.float32), "net", 8, tmp_path)
    (key,) = remembered(tmp_path)
    (tmp_path / "speed.json").write_text(damage.replace("KEY", key))
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path).dtype == "bfloat16"
    assert remembered(tmp_path)[key]["dtype"] == "bfloat16"


def test_a_plan_that_is_no_longer_a_candidate_stays(tmp_path):
    """A remembered plan is kept so that features stay the same, even if it would not be tried today."""
    fastest_plan(Slow(torch.float32), "net", 8, tmp_path)
    ((key, plan),) = remembered(tmp_path).items()
    (tmp_path / "speed.json").write_text(json.dumps({key: plan | {"batch": 5}}))
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path).batch == 5


def test_an_unknown_dtype_or_a_cache_that_is_no_folder_is_refused(tmp_path):
    """Both refusals name what was given."""
    message = "--dtype: expected auto, float32 or bfloat16, got 'int8'"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        fastest_plan(Slow(), "net", 8, tmp_path, "int8")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write .*/file: File exists; choose another cache"):
        fastest_plan(Slow(), "net", 8, tmp_path / "file")


@pytest.mark.parametrize("plan", CANDIDATES, ids=lambda plan: plan.key)
def test_a_prepared_network_is_a_copy_in_the_plans_form(plan):
    """Dtype and layout are the plan's; the network itself stays as it was, and no two plans share a key."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    prepared = prepare(network, plan, 8)
    assert prepared[0].weight.dtype == prepared[1].running_var.dtype == plan.torch_dtype
    assert prepared[0].weight.is_contiguous(memory_format=plan.memory_format)
    assert network[0].weight.dtype == torch.float32
    assert network[0].weight.is_contiguous()
    assert len({plan.key for plan in CANDIDATES}) == len(CANDIDATES)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_cuda_is_exact_and_repeatable_inside_only(kind):
    """Afterwards the settings are as before, also after an error; a CPU's are never changed."""

    def settings() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic

    before = settings()
    with deterministic(kind):
        assert settings() == (before if kind == "cpu" else (False, True))
    assert settings() == before
    with pytest.raises(RuntimeError, match="inside"), deterministic(kind):
        raise RuntimeError("inside")
    assert settings() == before


@pytest.mark.parametrize("fails", [False, True])
def test_blas_and_torch_use_one_thread_inside_only(fails):
    """Afterwards they use as many as before, also after an error."""

    def blas() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    np.ones((2, 2)) @ np.ones((2, 2))
    before, threads = blas(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError) if fails else nullcontext(), one_thread_each():
            assert blas() == {torch.get_num_threads()} == {1}
            if fails:
                raise RuntimeError("inside")
        assert (blas(), torch.get_num_threads()) == (before, 2)
    finally:
        torch.set_num_threads(threads)


def test_torch_is_not_loaded_for_its_threads(monkeypatch):
    """Without torch in memory nothing imports it."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with one_thread_each():
        assert "torch" not in sys.modules


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_too_small_an_address_space_is_refused(tmp_path):
    """Fault 66: before torch is loaded, which would crash; the message names the limit."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "from pathlib import Path; from assay.embed.backbone import load_backbone\n"
        "load_backbone('tf_efficientnet_lite0', Path('cache'))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert "ResourceError: out of memory: expected an address space of 2.5 GiB or more" in found.stderr
    assert "got a limit of 2.0 GiB; raise it (ulimit -v unlimited)" in found.stderr
