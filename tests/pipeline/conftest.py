"""Finished runs on a few drawn images, shared; and the quick head for runs of a test's own."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small_runs import SmallData, draw_data, quick_learning

from assay.pipeline.options import RunOptions
from assay.pipeline.result import RunResult
from assay.pipeline.run import run


@dataclass(frozen=True)
class Finished:
    result: RunResult
    options: RunOptions
    said: list[str]

    @property
    def out(self) -> Path:
        return self.result.path


@pytest.fixture(autouse=True)
def _quick():
    with quick_learning():
        yield


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> SmallData:
    """240 images of three classes; not to be changed."""
    return draw_data(tmp_path_factory.mktemp("small") / "data")


@pytest.fixture(scope="session")
def options(small_data, tmp_path_factory) -> RunOptions:
    """How the shared run was made."""
    return RunOptions(read=small_data.read, backbone="tiny", cache=tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def finished(small_data, options, tmp_path_factory) -> Finished:
    """A run that is not to be changed."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("finished") / "out"
    with quick_learning():
        result = run(small_data.images, out, options, command=("assay", "run", "…"), notify=said.append)
    return Finished(result, options, said)


@pytest.fixture(scope="session")
def without_holdout(small_data, options, tmp_path_factory) -> RunResult:
    """The same run with --holdout 0, not to be changed."""
    with quick_learning():
        return run(small_data.images, tmp_path_factory.mktemp("all") / "out", replace(options, holdout=0))


@pytest.fixture
def own_data(small_data, tmp_path) -> SmallData:
    """A copy of the images and labels that a test may change."""
    shutil.copytree(small_data.folder, tmp_path / "data")
    return SmallData(tmp_path / "data", small_data.truth, small_data.noisy, small_data.trusted_rows)


@pytest.fixture
def own_run(finished, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    shutil.copytree(finished.out, tmp_path / "out")
    return tmp_path / "out"
