"""One ``assay`` command as a process of its own, and what it took."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ASSAY = Path(sys.executable).parent / "assay"


@dataclass(frozen=True)
class Took:
    """Time and memory of a process and of those that it started."""

    seconds: float
    """From start to end."""
    processor_s: float
    """Of all cores together: on a machine that others share, half of it is what two idle cores would take."""
    peak_gib: float
    """The most memory that one of them held."""
    printed: str


def run_assay(*words: object, cache: Path) -> Took:
    """Run it to its end, without a network; SystemExit where it fails.

    Parameters
    ----------
    words : of the command line
    cache : of features
    """
    command = [str(ASSAY), *map(str, words)]
    environment = {**os.environ, "ASSAY_CACHE": str(cache), "ASSAY_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            raise SystemExit(f"{' '.join(command)} ended with {code}")
        output.seek(0)
        spent, most = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20
        return Took(round(seconds, 1), round(spent, 1), round(most, 3), output.read())
