"""Which dtype, layout and batch are fastest here: timed once a machine, then remembered.

bfloat16 is two to four times faster than float32 on a processor with AVX512-BF16 or AMX, and slower
without; which layout wins depends on the version of torch. Features differ a little between the
plans, so the plan is part of the cache key and stays fixed once chosen.
"""

import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn

from assay._errors import UsageError
from assay.data.write import write_json

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

    @property
    def key(self) -> str:
        """The part of a cache key that says how features were computed."""
        return f"{self.dtype}-{self.layout}-{self.batch}-{self.device}"


CANDIDATES = (
    Plan("bfloat16", "channels_last", 16),
    Plan("bfloat16", "channels_last", 32),
    Plan("float32", "channels_last", 16),
    Plan("float32", "contiguous", 16),
)


def fastest_plan(network: nn.Module, name: str, size: int, cache: Path, dtype: str = "auto") -> Plan:
    """The fastest of a few plans for ``network`` at ``size`` pixels; the one remembered, if any.

    Parameters
    ----------
    dtype : ``auto``, or a key of ``DTYPES`` to allow only that one
    """
    if dtype not in ("auto", *DTYPES):
        raise UsageError(f"--dtype: expected auto, {' or '.join(DTYPES)}, got {dtype!r}")
    if torch.cuda.is_available():
        return Plan("bfloat16" if dtype == "auto" else dtype, "channels_last", 256, "cuda")
    file = cache / "speed.json"
    key = f"{name}-{size}-{dtype}-{torch.get_num_threads()}-{torch.__version__}-{platform.machine()}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "speed.lock"):
        known = json.loads(file.read_text()) if file.exists() else {}
        if key not in known:
            allowed = [plan for plan in CANDIDATES if dtype in ("auto", plan.dtype)]
            known[key] = asdict(min(allowed, key=lambda plan: _milliseconds(network, size, plan)))
            write_json(file, known)
    return Plan(**known[key])


def _milliseconds(network: nn.Module, size: int, plan: Plan) -> float:
    """Per image, the best of three: the others were disturbed."""
    prepared = prepare(network, plan)
    images = torch.zeros(plan.batch, 3, size, size, dtype=DTYPES[plan.dtype])
    images = images.contiguous(memory_format=LAYOUTS[plan.layout])
    best = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            prepared(images)
            best = min(best, time.perf_counter() - start)
    return best / plan.batch * 1000


def prepare(network: nn.Module, plan: Plan) -> nn.Module:
    """A copy of ``network`` in the plan's dtype and layout, on its device."""
    from copy import deepcopy

    # mypy: Module.to is typed without memory_format for copies
    copy: nn.Module = deepcopy(network).to(device=plan.device, dtype=DTYPES[plan.dtype])
    return copy.to(memory_format=LAYOUTS[plan.layout])  # type: ignore[call-overload,no-any-return]  # torch's stub lacks memory_format alone
