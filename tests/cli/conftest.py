"""A finished run that the commands are tried on, and a way to give a command."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from planted import quick
from small_compare import save_models
from small_runs import SmallData, draw_data, quick_learning

from assay.cli.app import run_app
from assay.notebook.systems import TITLES, histogram


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Runs train in a moment; the environment of who runs the tests decides nothing."""
    for name in ("ASSAY_SEED", "ASSAY_BACKBONE", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with quick_learning():
        yield


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """The working folder, a test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def assay(capsys) -> Callable[..., Result]:
    """Give a command."""

    def give(*arguments: object) -> Result:
        code = run_app([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return give


@pytest.fixture
def refused(assay) -> Callable[..., str]:
    """Give a command that must end with this code, print nothing, and explain it on stderr."""

    def give(code: int, message: str, *arguments: object) -> str:
        found = assay(*arguments)
        assert (found.code, found.out) == (code, ""), found
        assert message in found.err
        assert "Traceback" not in found.err
        return found.err

    return give


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> SmallData:
    """240 images of three classes; not to be changed."""
    return draw_data(tmp_path_factory.mktemp("small") / "data")


@pytest.fixture(scope="session")
def finished(small_data, tmp_path_factory) -> Path:
    """The folder of a run that is not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with quick_learning():
        assert run_app(small_data.command(out, "--quiet")) == 0
    return out


@pytest.fixture(scope="session")
def lineup(tmp_path_factory) -> Path:
    """The folder of a comparison with all six models; their first class has a comma and quotes."""
    place = tmp_path_factory.mktemp("lineup")
    data = draw_data(place / "data")
    for name in ("noisy.csv", "trusted.csv"):
        file = data.folder / name
        file.write_text(file.read_text().replace(",ash", ',"ash, ""old"""'))
    fitted = dict.fromkeys(TITLES, quick) | {"histogram": histogram}
    return save_models(data, place / "out", place / "cache", fitted)


@pytest.fixture
def own_data(small_data, tmp_path) -> SmallData:
    """A copy of the images and labels that a test may change."""
    shutil.copytree(small_data.folder, tmp_path / "data")
    return SmallData(tmp_path / "data", small_data.truth, small_data.noisy, small_data.trusted_rows)


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return shutil.copytree(finished, tmp_path / "out")
