"""How this machine runs networks: threads, repeatable CUDA, and the fastest dtype, layout and batch.

Batches run side by side with one thread each. Two threads inside one step of a small network mostly wait for
each other: with a busy neighbour on two cores they took 83 ms an image, one thread in each of two batches
7.5 ms. It also makes results independent of the number of cores. torch is imported where it is needed.
"""

import hashlib
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from filelock import FileLock

from assay.data.write import write_json
from assay.embed.cache import CACHE_ADVICE
from assay.errors import ResourceError, UsageError, explain_write_errors

DTYPES = ("float32", "bfloat16")

GPU_IMAGES, GPU_SIZE = 256, 224
"""Images in a batch on a GPU up to this size in pixels; of larger ones fewer, for the same memory."""


@dataclass(frozen=True)
class Plan:
    """How a network runs on this machine."""

    dtype: Literal["float32", "bfloat16"]
    layout: Literal["channels_last", "contiguous"]
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    """Images at a time; small batches stay in the CPU's cache."""
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def key(self) -> str:
        """The part of a feature cache's key that names how features were computed."""
        return f"{self.dtype}-{self.layout}-{self.batch}-{self.device}"

    @property
    def torch_dtype(self) -> Any:
        """Torch's object of that name."""
        import torch

        return getattr(torch, self.dtype)

    @property
    def memory_format(self) -> Any:
        """Torch's object for the layout."""
        import torch

        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format


CANDIDATES = (
    Plan("float32", "channels_last", 16),
    Plan("float32", "contiguous", 16),
    Plan("bfloat16", "channels_last", 8),
    Plan("bfloat16", "channels_last", 16),
)

HOPELESS = 5.0
"""A plan that takes so many times as long for one image as another one is timed no further."""


ADDRESS_SPACE = 5 * 2**29
"""Bytes that a process with torch maps, most of them never used; with less it crashes instead of failing."""


def check_address_space() -> None:
    """ResourceError where ``ulimit -v`` leaves too little for torch."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE:
        raise ResourceError(
            f"out of memory: expected an address space of {ADDRESS_SPACE / 2**30:g} GiB or more for torch, "
            f"got a limit of {limit / 2**30:.1f} GiB; raise it (ulimit -v unlimited)"
        )


def cores() -> int:
    """CPU cores that this process may use: fewer than the machine's in a container, or by OMP_NUM_THREADS."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(found, max(int(wanted), 1)) if wanted.isdecimal() else found


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Inside, torch uses one thread a call, in every thread that calls it."""
    torch = sys.modules.get("torch")  # not loaded for this
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Inside, torch and BLAS use one thread a call, so that several fits can run side by side."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), one_torch_thread():
        yield


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Inside, CUDA multiplies float32 in float32 and repeats its results to the byte; a CPU always does."""
    if device == "cpu":
        yield
        return
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    # By default cuDNN rounds factors to ten binary digits (TF32) and may add in any order.
    cudnn.allow_tf32, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before


def fastest_plan(network: Any, name: str, size: int, cache: Path, dtype: str = "auto") -> Plan:
    """The fastest plan for ``network`` at ``size`` pixels, timed once a machine and remembered.

    bfloat16 is two to four times faster than float32 on a CPU with AVX512-BF16 or AMX and slower without,
    and the fastest layout depends on torch's version. Features differ a little between plans, so the plan is
    part of the cache key and stays fixed once chosen, in ``speed.json`` of ``cache``.
    """
    import torch

    if dtype not in ("auto", *DTYPES):
        raise UsageError(f"--dtype: expected auto, {' or '.join(DTYPES)}, got {dtype!r}")
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        batch = max(GPU_IMAGES * GPU_SIZE**2 // max(size, GPU_SIZE) ** 2, 1)
        chosen = ("bfloat16" if native else "float32") if dtype == "auto" else dtype
        return Plan(chosen, "channels_last", batch, "cuda")  # type: ignore[arg-type]  # checked above
    file = cache / "speed.json"
    key = f"{name}-{size}-{dtype}-{torch.__version__}-{platform.machine()}-{_processor()}"
    # Without the lock first: a cache that may only be read must work.
    if key in (known := _read_plans(file)):
        return known[key]
    with explain_write_errors(cache, advice=CACHE_ADVICE):
        cache.mkdir(parents=True, exist_ok=True)
        # Processes that start together time once: the others wait here and find the plan.
        with FileLock(cache / "speed.lock"):
            known = _read_plans(file)
            if key not in known:
                allowed = [plan for plan in CANDIDATES if dtype in ("auto", plan.dtype)]
                times: dict[Plan, tuple[float, float]] = {}
                for plan in allowed:
                    limit = HOPELESS * min((alone for _, alone in times.values()), default=math.inf)
                    times[plan] = _seconds(network, size, plan, limit)
                known[key] = min(times, key=lambda plan: times[plan])
                write_json(file, {name: asdict(plan) for name, plan in known.items()})
            return known[key]


def _processor() -> str:
    """A digest of the CPU's model and flags, since machines that share a cache may differ in speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    known = {line.split(":")[0].strip(): line for line in lines if ":" in line}
    described = [known.get(name, "") for name in ("model name", "flags", "Features")]
    return hashlib.sha256("\n".join([platform.processor(), *described]).encode()).hexdigest()[:8]


def _read_plans(file: Path) -> dict[str, Plan]:
    """The plans in ``speed.json``; a damaged file counts as empty, and its plans are timed again."""
    try:
        plans = msgspec.json.decode(file.read_bytes(), type=dict[str, Plan])
    except (OSError, msgspec.DecodeError):
        return {}
    return {key: plan for key, plan in plans.items() if plan.device == "cpu"}  # GPU plans are not kept


def _seconds(network: Any, size: int, plan: Plan, limit: float) -> tuple[float, float]:
    """Per image of a batch, and for one alone, of a network in the plan's form.

    The first is infinite if the second is above ``limit``.
    """
    import torch

    prepared = prepare(network, plan, size)
    images = torch.zeros(plan.batch, 3, size, size, dtype=plan.torch_dtype)
    images = images.contiguous(memory_format=plan.memory_format)

    def taken(some: Any) -> float:
        start = time.perf_counter()
        prepared(some)
        return (time.perf_counter() - start) / len(some)

    with one_torch_thread(), torch.inference_mode():
        # Other programs disturb some. Without its instructions bfloat16 takes forty times as long.
        alone = min(taken(images[:1]) for _ in range(2))
        return (math.inf if alone > limit else min(taken(images) for _ in range(4))), alone


def prepare(network: Any, plan: Plan, size: int) -> Any:
    """A copy of ``network`` in the plan's dtype and layout, on its device, for images of ``size`` pixels."""
    import torch

    from assay.embed.fast_kernels import fuse_convolutions

    moved = deepcopy(network).to(device=plan.device, dtype=plan.torch_dtype)
    moved = moved.to(memory_format=plan.memory_format)
    if plan.device != "cpu":
        return moved
    probe = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return fuse_convolutions(moved, probe.to(plan.torch_dtype).contiguous(memory_format=plan.memory_format))
