"""Functions that a test has mapped over shards, in processes that import them."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from assay.errors import ResourceError


@dataclass(frozen=True)
class Square:
    """The square of a number; what happens first to some of them."""

    folder: Path
    dies_once: tuple[int, ...] = ()
    always_dies: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()
    waits_s: float = 0.0

    def __call__(self, number: int) -> dict[str, int]:
        marker = self.folder / f"tried {number}"
        again = marker.exists()
        marker.touch()
        if number in self.always_dies or (number in self.dies_once and not again):
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.fails:
            raise ResourceError("the disk is full")
        time.sleep(self.waits_s)
        return {"number": number, "square": number**2, "threads": int(os.environ["OMP_NUM_THREADS"])}
