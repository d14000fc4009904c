"""A small comparison, shared; the data and the run that it is of."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_compare import KNOWN, FinishedComparison, working_here
from small_runs import SmallData, draw_data, quick_learning

from assay.data.dataset import ReadOptions
from assay.notebook.compare import CompareOptions, compare_systems
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick_learning():
        yield


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> SmallData:
    """240 images of three classes; not to be changed."""
    return draw_data(tmp_path_factory.mktemp("small") / "data")


@pytest.fixture(scope="session")
def options(small_data, tmp_path_factory) -> RunOptions:
    """Of the shared run."""
    read = ReadOptions(noisy=small_data.folder / "noisy.csv", trusted=small_data.folder / "trusted.csv")
    return RunOptions(read=read, backbone="tiny", cache=tmp_path_factory.mktemp("features"), workers=1)


@pytest.fixture(scope="session")
def finished(small_data, options, tmp_path_factory) -> Path:
    """The folder of a run that is not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with quick_learning():
        run(small_data.images, out, options)
    return out


@pytest.fixture(scope="session")
def compared(small_data, options, finished, tmp_path_factory) -> FinishedComparison:
    """A comparison of three systems in the folder of the run, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("compared") / "out"
    shutil.copytree(finished, out)
    wanted = CompareOptions(run=options, systems=("histogram", "model-2", "assay"), backbone="tiny")
    with working_here():
        found = compare_systems(small_data.images, out, wanted, known=KNOWN)
    return FinishedComparison(found, wanted)


@pytest.fixture
def here() -> Iterator[None]:
    """Systems work in this very process."""
    with working_here():
        yield


@pytest.fixture
def own_data(small_data, tmp_path) -> SmallData:
    """A copy of the images and labels that a test may change."""
    shutil.copytree(small_data.folder, tmp_path / "data")
    return SmallData(tmp_path / "data", small_data.truth, small_data.noisy, small_data.trusted_rows)


@pytest.fixture
def own_run(finished, tmp_path) -> Path:
    """A copy of the run that a test may change."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def own_comparison(compared, tmp_path) -> Path:
    """A copy of the comparison that a test may change."""
    shutil.copytree(compared.out, tmp_path / "own")
    return tmp_path / "own"
