import json
import re
import time

import pytest

from assay.errors import UsageError

torch = pytest.importorskip("torch", reason="needs the train extra")

from torch import nn  # noqa: E402  # after torch is known to be there

from assay.embed import speed  # noqa: E402  # the same
from assay.embed.speed import CANDIDATES, DTYPES, LAYOUTS, Plan, fastest_plan, prepare  # noqa: E402  # the same

pytestmark = pytest.mark.train


class Slow(nn.Module):
    """Takes its time with one dtype or one layout."""

    def __init__(self, dtype=None, layout=None) -> None:
        super().__init__()
        self.dtype, self.layout, self.calls = dtype, layout, [0]
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, images):
        self.calls[0] += 1
        assert self.weight.dtype == images.dtype
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
def test_the_faster_dtype_is_taken(tmp_path, slow, fast):
    """What runs faster here is chosen, whichever it is."""
    assert fastest_plan(Slow(DTYPES[slow]), "net", 8, tmp_path).dtype == fast


def test_the_faster_layout_is_taken(tmp_path):
    """Both layouts are tried in float32."""
    plan = fastest_plan(Slow(layout=torch.channels_last), "net", 8, tmp_path, "float32")
    assert plan == Plan("float32", "contiguous", 16)


@pytest.mark.parametrize(
    ("knows", "size", "dtype", "plan"),
    [
        (True, 128, "auto", ("bfloat16", 256)),
        (False, 128, "auto", ("float32", 256)),
        (False, 448, "bfloat16", ("bfloat16", 64)),
        (True, 1024, "float32", ("float32", 12)),
    ],
)
def test_a_graphics_processor_is_given_what_it_knows_and_has_room_for(
    monkeypatch, tmp_path, knows, size, dtype, plan
):
    """bfloat16 unless it would only imitate that; of large images fewer at a time."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: knows)
    found = fastest_plan(Slow(), "net", size, tmp_path, dtype)
    assert (found.dtype, found.batch, found.device) == (*plan, "cuda")


def test_a_plan_is_timed_once_and_remembered(tmp_path):
    """The second time nothing runs, even for a network that has become another."""
    network = Slow(torch.bfloat16)
    first = fastest_plan(network, "net", 8, tmp_path)
    calls = network.calls[0]
    assert calls > 0
    assert fastest_plan(network, "net", 8, tmp_path) == first
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path) == first
    assert network.calls[0] == calls


def test_a_remembered_plan_needs_no_lock(tmp_path):
    """A cache that may only be read, where no lock can be taken, still tells its plan."""
    first = fastest_plan(Slow(torch.bfloat16), "net", 8, tmp_path)
    (tmp_path / "speed.lock").unlink(missing_ok=True)
    (tmp_path / "speed.lock").mkdir()
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path) == first


def test_processors_that_share_a_cache_have_plans_of_their_own(tmp_path, monkeypatch):
    """What one is quick at another may only imitate."""
    first = fastest_plan(Slow(torch.bfloat16), "net", 8, tmp_path)
    monkeypatch.setattr(speed, "_processor", lambda: "another")
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path) != first
    assert len(remembered(tmp_path)) == 2


def test_each_network_size_and_dtype_has_a_plan_of_its_own(tmp_path):
    """What is remembered for one is not taken for another, nor lost when another comes."""
    asked = [("net", 8, "auto"), ("net", 16, "auto"), ("other", 8, "auto"), ("net", 8, "float32")]
    plans = [fastest_plan(Slow(torch.float32), *name, tmp_path, dtype) for *name, dtype in asked]
    assert len(remembered(tmp_path)) == 4
    assert [plan.dtype for plan in plans] == ["bfloat16"] * 3 + ["float32"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dtype_may_be_fixed(tmp_path, dtype):
    """The flag wins over the clock."""
    assert fastest_plan(Slow(DTYPES[dtype]), "net", 8, tmp_path, dtype).dtype == dtype


def test_an_unknown_dtype_is_refused(tmp_path):
    """Only dtypes that are fit for features may be asked for."""
    message = "--dtype: expected auto, float32 or bfloat16, got 'int8'"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        fastest_plan(Slow(), "net", 8, tmp_path, "int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"KEY": 3}',
        '{"KEY": {"dtype": "float32"}}',
        '{"KEY": {"dtype": ["float32"], "layout": "contiguous", "batch": 16}}',
        '{"KEY": {"dtype": "float16", "layout": "contiguous", "batch": 16}}',
        '{"KEY": {"dtype": "float32", "layout": "contiguous", "batch": 0}}',
        '{"KEY": {"dtype": "float32", "layout": "contiguous", "batch": "16"}}',
        '{"KEY": {"dtype": "float32", "layout": "contiguous", "batch": 16, "device": "cuda"}}',
        '{"KEY": {"dtype": "float32", "layout": "contiguous", "batch": 16, "more": 1}}',
    ],
)
def test_a_damaged_memory_is_timed_again(tmp_path, damage):
    """What cannot have been written by us is not believed, and mended."""
    fastest_plan(Slow(torch.float32), "net", 8, tmp_path)
    (key,) = remembered(tmp_path)
    (tmp_path / "speed.json").write_text(damage.replace("KEY", key))
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path).dtype == "bfloat16"
    assert remembered(tmp_path)[key]["dtype"] == "bfloat16"


def test_a_plan_that_is_no_candidate_any_more_stays(tmp_path):
    """What was once chosen stays, so that features stay the same, even if we would no longer try it."""
    fastest_plan(Slow(torch.float32), "net", 8, tmp_path)
    ((key, plan),) = remembered(tmp_path).items()
    (tmp_path / "speed.json").write_text(json.dumps({key: plan | {"batch": 5}}))
    assert fastest_plan(Slow(torch.float32), "net", 8, tmp_path).batch == 5


def test_a_cache_that_cannot_be_made_is_refused(tmp_path):
    """A plan needs a place to be remembered."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write .*/file: File exists; choose another cache"):
        fastest_plan(Slow(), "net", 8, tmp_path / "file")


def test_the_key_of_a_plan_names_all_that_it_says():
    """Two plans that compute differently never share features."""
    plans = {*CANDIDATES, Plan("float32", "contiguous", 16, "cuda"), Plan("float32", "contiguous", 8)}
    assert len({plan.key for plan in plans}) == len(plans)


@pytest.mark.parametrize("plan", CANDIDATES, ids=lambda plan: plan.key)
def test_a_prepared_network_is_a_copy_in_the_plans_form(plan):
    """Dtype and layout are the plan's; the network itself stays as it was."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    prepared = prepare(network, plan, 8)
    assert prepared[0].weight.dtype == prepared[1].running_var.dtype == DTYPES[plan.dtype]
    assert prepared[0].weight.is_contiguous(memory_format=LAYOUTS[plan.layout])
    assert network[0].weight.dtype == torch.float32
    assert network[0].weight.is_contiguous()
