import shutil
from pathlib import Path

import pytest
from small_runs import SmallData, draw_data, quick_learning

from assay.data.dataset import ReadOptions
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> SmallData:
    """120 images of three classes, one of them damaged; not to be changed."""
    data = draw_data(tmp_path_factory.mktemp("small") / "data", 120)
    (data.images / "7.png").write_bytes(b"")
    return data


@pytest.fixture(scope="session")
def finished(small_data, tmp_path_factory) -> Path:
    """The folder of a run that is not to be changed."""
    place = tmp_path_factory.mktemp("finished")
    read = ReadOptions(noisy=small_data.folder / "noisy.csv", trusted=small_data.folder / "trusted.csv")
    options = RunOptions(read=read, backbone="tiny", cache=place / "cache")
    with quick_learning():
        run(small_data.images, place / "out", options, command=("assay", "run", "my images/", "-o", "out"))
    return place / "out"


@pytest.fixture
def own_run(finished, tmp_path) -> Path:
    """A copy of the run that a test may change."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"
