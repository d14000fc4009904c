"""Runs on a few drawn images, with a head that learns in a moment.

Started as a script this is ``assay`` with that head, and with the systems that PLANTED names; with
WORKING_HERE the systems of a comparison work in that very process.
"""

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from assay.data.dataset import ReadOptions

if TYPE_CHECKING:
    from assay.train.heads import MLPHead

CLASSES = ("ash", "birch", "cedar")


@dataclass(frozen=True)
class SmallData:
    """Images of three classes, two of five labels wrong, every second one trusted."""

    folder: Path
    truth: np.ndarray
    noisy: np.ndarray
    trusted_rows: np.ndarray

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def read(self) -> ReadOptions:
        """The label files."""
        return ReadOptions(noisy=self.folder / "noisy.csv", trusted=self.folder / "trusted.csv")

    @property
    def labels(self) -> list[str]:
        """The flags that name the label files."""
        return ["--noisy", str(self.folder / "noisy.csv"), "--trusted", str(self.folder / "trusted.csv")]

    def command(self, out: Path, *more: str) -> list[str]:
        """``assay run`` on all of it."""
        return ["run", str(self.images), *self.labels, "-o", str(out), "--backbone", "tiny", *more]


def draw_data(folder: Path, n: int = 240, seed: int = 0) -> SmallData:
    """Each class has its bright third, so that colours say nothing, and a mirror image says the same."""
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.arange(n) % len(CLASSES))
    wrong = generator.random(n) < 0.4
    noisy = np.where(wrong, (truth + generator.integers(1, len(CLASSES), n)) % len(CLASSES), truth)
    (folder / "images").mkdir(parents=True)
    for row, label in enumerate(truth):
        Image.fromarray(draw_image(label, generator)).save(folder / "images" / f"{row}.png")
    trusted_rows = np.arange(0, n, 2)
    write_labels(folder / "noisy.csv", range(n), noisy)
    write_labels(folder / "trusted.csv", trusted_rows, truth[trusted_rows])
    return SmallData(folder, truth, noisy, trusted_rows)


def draw_image(label: int, generator: np.random.Generator, side: int = 32) -> np.ndarray:
    """Dark noise; the upper, middle or lower third of it brighter."""
    pixels = generator.integers(0, 90, (side, side, 3), np.uint8)
    third = side // len(CLASSES)
    pixels[third * label : third * (label + 1)] += generator.integers(60, 120, (1, 1, 3), np.uint8)
    return pixels


def write_labels(file: Path, rows: Sequence[int], labels: Sequence[int]) -> Path:
    """A label file with a header."""
    lines = [f"{row}.png,{CLASSES[label]}\n" for row, label in zip(rows, labels, strict=True)]
    file.write_text("file,label\n" + "".join(lines))
    return file


def read_rows(out: Path, name: str = "labels.csv") -> list[dict[str, str]]:
    """A table of a run folder."""
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_record(out: Path) -> dict:
    """run.json of a run folder."""
    return json.loads((out / "run.json").read_text())


def same_bytes(out: Path) -> list[bytes]:
    """What is equal whenever settings and data are equal."""
    return [(out / name).read_bytes() for name in ("labels.csv", "noise.json", "model/model.safetensors")]


def quick_head(seed: int) -> "MLPHead":
    """A linear head after a few steps: good enough for drawn thirds.

    With SLOW_HEAD_S it comes that late, and the file that SLOW_HEAD_BEGUN names tells that it is awaited.
    """
    from assay.train.heads import MLPHead

    if "SLOW_HEAD_BEGUN" in os.environ:
        Path(os.environ["SLOW_HEAD_BEGUN"]).touch()
    time.sleep(float(os.environ.get("SLOW_HEAD_S", "0")))
    return MLPHead(hidden=0, epochs=1, min_steps=30, learning_rate=0.05, random_state=seed)


@contextmanager
def quick_learning() -> Iterator[None]:
    """Inside, runs, plans and the estimator learn the quick head."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.pipeline.learn.make_head", quick_head)
        patch.setattr("assay.pipeline.plan.make_head", quick_head)
        patch.setattr("assay.train.estimator.MLPHead", lambda *, random_state: quick_head(random_state))
        yield


def start_assay(arguments: Sequence[str], **options: object) -> subprocess.Popen:
    """A process that is ``assay`` with the quick head; its output is text in pipes."""
    path = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)} | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **(pipes | options))


def run_assay(arguments: Sequence[str], **options: object) -> subprocess.CompletedProcess:
    """The finished process."""
    process = start_assay(arguments, **options)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def work_here(work, entry, *, notify, progress):
    """In the place of ``run_apart``: takes less time; processes have tests of their own."""
    return work(entry, notify, progress)


@contextmanager
def shards_done_here() -> Iterator[None]:
    """Inside, shards are done in this process, by a copy of the function as another one would get it."""
    from assay.pipeline import sharded  # with Parquet and stores, which few tests need

    def map_here(function, shards, engine):
        for once_a_process in (sharded._backbone, sharded._head, sharded._learned):
            once_a_process.cache_clear()
        return map(pickle.loads(pickle.dumps(function)), shards)

    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "map_shards", map_here)
        yield


def die_at_rename(number: int, name: str = "") -> None:
    """Kill this process in the moment in which it would give its file of this number its name.

    With ``name`` only files that get this name count.
    """
    rename, left = os.replace, [number]

    def counted(source: os.PathLike, target: os.PathLike) -> None:
        left[0] -= name in ("", Path(target).name)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = counted


TRAIN_NOTHING = {"-h", "--help", "predict", "serve"}
"""Commands that start in half the time when no head is loaded."""

# The second name is this script in a process that it started.
if __name__ in ("__main__", "__mp_main__") and not TRAIN_NOTHING & {*sys.argv[1:2]}:
    import assay.pipeline.learn

    assay.pipeline.learn.make_head = quick_head

if __name__ == "__main__":
    from assay.cli.app import main

    # A test may have been started where Ctrl-C is ignored, and processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PLANTED" in os.environ:
        from planted import plant

        plant(os.environ["PLANTED"])
    if "WORKING_HERE" in os.environ:
        import assay.notebook.compare

        assay.notebook.compare.run_apart = work_here
    if "DIE_AT_RENAME" in os.environ:
        number, _, name = os.environ["DIE_AT_RENAME"].partition(" ")
        die_at_rename(int(number), name)
    main()
