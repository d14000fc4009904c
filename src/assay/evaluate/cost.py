"""Cost of a run: seconds by stage, memory at its peak, bytes on disk."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Cost of making a model, or of using it."""

    seconds: float
    peak_memory_bytes: int
    """The most that the whole process ever held in memory, not this step alone."""
    model_bytes: int | None = None
    """Size of the model's files; None where none was written."""

    def to_json(self) -> dict[str, float | int | None]:
        """The same as a plain dict."""
        return asdict(self)


@dataclass
class Stopwatch:
    """Collects the seconds of named stages, in the order in which they first began.

    ::

        watch = Stopwatch()
        with watch.stage("embed"):
            ...
        watch.seconds  # {"embed": 1.93}
    """

    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each stage so far; a stage that is entered again adds to its time."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds since any moment; must not run backwards."""
    earlier: Mapping[str, float] = field(default_factory=dict)
    """Seconds of earlier processes of the same run, which were killed."""
    _begun: dict[str, float] = field(default_factory=dict)
    """Start of each running stage."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block; it counts even if it fails. A stage inside a stage counts for both."""
        self.seconds.setdefault(name, 0.0)
        self._begun[name] = start = self.clock()
        try:
            yield
        finally:
            self.seconds[name] += self.clock() - start
            self._begun.pop(name, None)

    def so_far(self) -> dict[str, float]:
        """Wall time of each stage up to now, running ones included, plus ``earlier``."""
        now = {name: self.clock() - begun for name, begun in self._begun.items()}
        names = dict.fromkeys((*self.earlier, *self.seconds))
        parts = (self.earlier, self.seconds, now)
        return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def peak_memory_bytes() -> int:
    """The most memory that this process alone has held since it started; 0 where that is not known."""
    if sys.platform == "linux":
        # ru_maxrss would begin at the size of the process that started this one.
        status = Path("/proc/self/status")
        for line in status.read_text("ascii", "replace").splitlines() if status.is_file() else ():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # its kB are kibibytes
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux and the BSDs kibibytes.
    return peak if sys.platform == "darwin" else peak * 1024
