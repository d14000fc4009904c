"""What the benchmarks share: results files, the machine in words, and one ``assay`` command as a process."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from assay.data.dataset import ReadOptions
from assay.data.read import read_images
from assay.embed.backbone import DEFAULT_BACKBONE, load_backbone
from assay.embed.images import embed_images
from assay.types import Labels, Matrix

ASSAY = Path(sys.executable).parent / "assay"
RESULTS = Path(__file__).parent / "results"


def read_results(name: str) -> dict[str, Any]:
    """What results/``name``.json holds."""
    file = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def write_results(name: str, found: dict[str, Any]) -> None:
    """Put ``found`` into results/``name``.json, in place of what is there."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def keep(name: str, part: str, found: dict[str, Any]) -> None:
    """Print a part of the results and put it beside the others."""
    # Read again each time: another process may have written its part meanwhile.
    write_results(name, read_results(name) | {part: found, "machine": machine()})
    print(part, json.dumps(found, indent=1), flush=True)


def machine() -> str:
    """Cores, processor and system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return f"{os.cpu_count()} cores, {next(names, 'unknown')}, {platform.platform()}"


def label_words(data: Path) -> list[str]:
    """Words of the command line for the labels of the course data."""
    return ["--noisy", str(data / "noisy_labels.csv"), "--trusted", str(data / "clean_labels.csv")]


def image_names(data: Path) -> list[str]:
    """The course images in the order of their labels."""
    with zipfile.ZipFile(data / "images.zip") as source:
        return sorted(name for name in source.namelist() if name.endswith(".png"))


def trusted_views(data: Path, cache: Path) -> tuple[Labels, tuple[Matrix, ...]]:
    """True classes of the trusted course images, and float32 features (N, D) of each view as at ``fast``."""
    truth: Labels = np.array((data / "clean_labels.csv").read_text().split(), dtype=np.int64)
    with tempfile.TemporaryDirectory() as temporary:
        images = zip_some(data, image_names(data)[: len(truth)], Path(temporary) / "trusted.zip")
        backbone = load_backbone(DEFAULT_BACKBONE, cache)
        features = embed_images(read_images(images, ReadOptions()), backbone, cache)
    return truth, tuple(np.asarray(view, dtype=np.float32) for view in features.views)


def zip_some(data: Path, names: Sequence[str], target: Path) -> Path:
    """A zip of some of the course images."""
    with zipfile.ZipFile(data / "images.zip") as source, zipfile.ZipFile(target, "w") as zipped:
        for name in names:
            zipped.writestr(name, source.read(name))
    return target


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
    """Run a command to its end, without a network; SystemExit where it fails."""
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


def measure(command: list[str], cache: Path, every_s: float = 0.05) -> dict[str, Any]:
    """Seconds, and the most memory of the process and all below it; SystemExit where it fails."""
    environment = {**os.environ, "ASSAY_CACHE": str(cache), "ASSAY_OFFLINE": "1"}
    start, most, processes = time.perf_counter(), 0, 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            tree = [watched, *watched.children(recursive=True)]
            held = [one.memory_full_info().pss for one in tree]
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # ended while it was read
            continue
        if sum(held) > most:
            most, processes = sum(held), len(held)
        time.sleep(every_s)
    if process.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    seconds = round(time.perf_counter() - start, 1)
    return {"seconds": seconds, "peak_gib": round(most / 2**30, 2), "processes": processes}
