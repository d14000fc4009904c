"""Systems of a comparison on the few drawn images, to be worked on in the test's own process."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import planted
import pytest
from small_runs import SmallData, work_here

from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset
from assay.notebook.compare import Compared, CompareOptions
from assay.notebook.systems import System
from assay.notebook.work import Entry, train
from assay.pipeline.folder import data_facts
from assay.pipeline.options import RunOptions
from assay.types import ignore_message, silent

HELD = 24
"""Holdout of ``draw_data``'s 120 trusted images."""

KNOWN = {
    "histogram": planted.constant,
    "cnn-1": planted.killed,
    "cnn-2": planted.hungry,
    "model-2": planted.quick,
}


@dataclass(frozen=True)
class FinishedComparison:
    found: Compared
    options: CompareOptions

    @property
    def out(self) -> Path:
        return self.found.folder

    def rows(self) -> dict[str, dict]:
        return {row["system"]: row for row in self.found.rows}


def compare_options(data: SmallData, cache: Path, **settings: object) -> CompareOptions:
    """The tiny backbone for all; ``settings`` are fields of RunOptions or of CompareOptions."""
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    own = {name: settings.pop(name) for name in CompareOptions.__dataclass_fields__ if name in settings}
    run = RunOptions(read=read, cache=cache, workers=1, **({"backbone": "tiny"} | settings))
    return CompareOptions(run=run, **({"backbone": "tiny"} | own))


@contextmanager
def working_here() -> Iterator[None]:
    """Inside, systems work in this very process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.notebook.compare.run_apart", work_here)
        yield


def entry_of(
    data: SmallData, out: Path, options: CompareOptions, system: str, function: System | None = planted.quick
) -> Entry:
    """What the comparison hands to a process, the bytes of the images aside."""
    dataset = read_dataset(data.images, options.run.read)
    basis = {"settings": options.settings(), "data": data_facts(dataset)}
    return Entry(system, function, data.images, out, options, basis)


def save_models(data: SmallData, out: Path, cache: Path, fitted: dict[str, System]) -> Path:
    """The folder of a comparison with a trained model of each system, that of assay too."""
    options = compare_options(data, cache)
    for system, learn in fitted.items():
        train(entry_of(data, out, options, system, learn), ignore_message, silent)
    if "assay" in fitted:
        (out / "model").mkdir()
        for file in (out / "models" / "assay").iterdir():
            shutil.move(file, out / "model" / file.name)
    return out
