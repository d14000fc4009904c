"""Which dtype, layout and batch are fastest here: timed once a machine, then remembered.

bfloat16 is two to four times faster than float32 on a processor with AVX512-BF16 or AMX, and slower
without; which layout wins depends on the version of torch. Features differ a little between the
plans, so the plan is part of the cache key and stays fixed once chosen.
"""

import hashlib
import json
import platform
import time
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn

from assay.data.write import write_json
from assay.embed.cache import CACHE_ADVICE
from assay.embed.fuse import fuse
from assay.embed.threads import one_torch_thread
from assay.errors import UsageError, explain_write_errors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Plan:
    """How to run a network on this machine."""

    dtype: str
    """A key of ``DTYPES``."""
    layout: str
    """A key of ``LAYOUTS``."""
    batch: int
    """Images at a time; small batches stay in the processor's cache."""
    device: str = "cpu"
    """torch's name of it: ``cpu`` or ``cuda``."""

    @property
    def key(self) -> str:
        """The part of a cache key that says how features were computed."""
        return f"{self.dtype}-{self.layout}-{self.batch}-{self.device}"


AT_ONCE, USUAL_SIZE = 256, 224
"""Images that a graphics processor takes at a time up to such a size; of larger ones fewer."""

CANDIDATES = (
    Plan("bfloat16", "channels_last", 8),
    Plan("bfloat16", "channels_last", 16),
    Plan("float32", "channels_last", 16),
    Plan("float32", "contiguous", 16),
)


def fastest_plan(network: nn.Module, name: str, size: int, cache: Path, dtype: str = "auto") -> Plan:
    """The fastest of a few plans for ``network`` at ``size`` pixels; the one remembered, if any.

    Parameters
    ----------
    cache : folder of ``speed.json``, which remembers the plans
    dtype : ``auto``, or a key of ``DTYPES`` to allow only that one

    Raises
    ------
    UsageError : another dtype, or a folder that cannot be written to
    """
    if dtype not in ("auto", *DTYPES):
        raise UsageError(f"--dtype: expected auto, {' or '.join(DTYPES)}, got {dtype!r}")
    if torch.cuda.is_available():
        return _gpu_plan(size, dtype)
    file = cache / "speed.json"
    key = f"{name}-{size}-{dtype}-{torch.__version__}-{platform.machine()}-{_processor()}"
    # Without the lock first: a cache that may only be read is of use too.
    return _remembered(file).get(key) or _timed(network, size, dtype, file, key)


def _gpu_plan(size: int, dtype: str) -> Plan:
    """For a graphics processor: bfloat16 where it knows that itself, as many images as it has room for."""
    quick = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    batch = max(AT_ONCE * USUAL_SIZE**2 // max(size, USUAL_SIZE) ** 2, 1)
    return Plan(quick if dtype == "auto" else dtype, "channels_last", batch, "cuda")


def _processor() -> str:
    """Tells processors apart that may share a cache: one may be quick at what another can only imitate."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    known = {line.split(":")[0].strip(): line for line in lines if ":" in line}
    told = [known.get(what, "") for what in ("model name", "flags", "Features")]
    return hashlib.sha256("\n".join([platform.processor(), *told]).encode()).hexdigest()[:8]


def _timed(network: nn.Module, size: int, dtype: str, file: Path, key: str) -> Plan:
    """The fastest plan by the clock, remembered; of several processes that ask at once, one times."""
    with explain_write_errors(file.parent, advice=CACHE_ADVICE):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.parent / "speed.lock"):
            known = _remembered(file)
            if key not in known:
                allowed = [plan for plan in CANDIDATES if dtype in ("auto", plan.dtype)]
                known[key] = min(allowed, key=lambda plan: _milliseconds(network, size, plan))
                write_json(file, {name: asdict(plan) for name, plan in known.items()})
            return known[key]


def _remembered(file: Path) -> dict[str, Plan]:
    """The plans in ``speed.json``; what is damaged, or not of our making, is timed again."""
    try:
        plans = {key: Plan(**plan) for key, plan in json.loads(file.read_bytes()).items()}
        return {key: plan for key, plan in plans.items() if _can_run(plan)}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _can_run(plan: Plan) -> bool:
    """Whether a plan that was read from a file is one of ours."""
    known = {(candidate.dtype, candidate.layout, candidate.device) for candidate in CANDIDATES}
    return (plan.dtype, plan.layout, plan.device) in known and plan.batch in range(1, 1025)


def _milliseconds(network: nn.Module, size: int, plan: Plan) -> float:
    """Per image, the best of four: the first warms up, and other programs disturb the rest."""
    prepared = prepare(network, plan, size)
    images = torch.zeros(plan.batch, 3, size, size, dtype=DTYPES[plan.dtype])
    images = images.contiguous(memory_format=LAYOUTS[plan.layout])
    best = float("inf")
    with one_torch_thread(), torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            prepared(images)
            best = min(best, time.perf_counter() - start)
    return best / plan.batch * 1000


def prepare_several(network: nn.Module, plan: Plan, size: int, n: int) -> tuple[nn.Module, ...]:
    """``n`` such copies as ``prepare`` makes, one or more."""
    first = prepare(network, plan, size)
    return (first, *(deepcopy(first) for _ in range(n - 1)))


def prepare(network: nn.Module, plan: Plan, size: int) -> nn.Module:
    """A copy of ``network`` in the plan's dtype and layout, on its device, for images of ``size`` pixels."""
    moved: nn.Module = deepcopy(network).to(device=plan.device, dtype=DTYPES[plan.dtype])
    moved = moved.to(memory_format=LAYOUTS[plan.layout])  # type: ignore[call-overload]  # torch's stub lacks memory_format alone
    if plan.device != "cpu":
        return moved
    probe = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return fuse(moved, probe.to(DTYPES[plan.dtype]).contiguous(memory_format=LAYOUTS[plan.layout]))
