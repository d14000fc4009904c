"""assay predict after an interruption."""

import shutil

import pytest

from assay.cli.app import _resumes
from assay.data.dataset import Skipped
from assay.predict.runtime import Runtime


@pytest.fixture
def new(small_data, tmp_path, monkeypatch):
    """Images of which one is none, read in small parts that are brought to disk soon."""
    monkeypatch.setattr("assay.embed.chunks.CHUNK", 16)
    monkeypatch.setattr("assay.data.write.SAVED_EVERY", 32)
    shutil.copytree(small_data.images, tmp_path / "new")
    (tmp_path / "new" / "3.png").write_bytes(b"")
    return tmp_path / "new"


@pytest.fixture
def interrupted(assay, finished, new, tmp_path, monkeypatch):
    """Where the rows of a prediction go that was interrupted after some of them."""
    real, seen = Runtime.probabilities, []

    def dying(self, images):
        seen.append(len(images))
        if sum(seen) > 100:
            raise KeyboardInterrupt
        return real(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "probabilities", dying)
        assert assay("predict", finished, new, "-o", tmp_path / "rows.csv", "-q").code == 130
    return tmp_path / "rows.csv"


def test_an_interrupted_prediction_goes_on(assay, finished, new, interrupted, tmp_path):
    """After the rows that were brought to disk, to the bytes of an unbroken one; skipped images count on."""
    assert assay("predict", finished, new, "-o", tmp_path / "whole.csv", "-q").code == 0
    noisy = assay("predict", finished, new, "-o", interrupted, "--strict")
    assert noisy.code == 4
    assert "going on after 96 rows of the same command" in noisy.err
    assert "1 of 240 images could not be used" in noisy.err
    assert interrupted.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("change", ["place", "flags", "file"])
def test_rows_of_another_command_are_not_gone_on_with(assay, finished, new, interrupted, tmp_path, change):
    """Cameras name their pictures alike every day, and may write them to the same folder."""
    shutil.copytree(new, tmp_path / "other")
    if change == "file":
        shutil.copyfile(new / "5.png", new / "4.png")
    images = tmp_path / ("other" if change == "place" else "new")
    more = ["--min-confidence", "1"] if change == "flags" else []
    noisy = assay("predict", finished, images, "-o", interrupted, *more)
    assert noisy.code == 0
    assert "going on" not in noisy.err
    assert assay("predict", finished, images, "-o", tmp_path / "whole.csv", *more).code == 0
    assert interrupted.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_archive_that_was_changed_is_read_anew(tmp_path):
    """It may hold other pictures under the old names."""
    from assay.cli.predict import PlaceFlags

    archive = tmp_path / "new.zip"
    archive.write_bytes(b"one")
    before = PlaceFlags().whereabouts(archive, ["1.png"])
    archive.write_bytes(b"other")
    assert PlaceFlags().whereabouts(archive, ["1.png"]) != before


def test_a_place_that_was_gone_for_a_while_is_asked_again(
    assay, finished, new, interrupted, tmp_path, monkeypatch
):
    """Rows of images that nobody could read then are not kept; one such image among others is."""
    from assay.data.sources import FolderSource

    read = FolderSource.read

    def gone(self, index):
        if index == 230:
            raise KeyboardInterrupt
        return Skipped("missing") if index >= 128 or index == 3 else read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(FolderSource, "read", gone)
        assert assay("predict", finished, new, "-o", interrupted, "-q").code == 130
    noisy = assay("predict", finished, new, "-o", interrupted)
    assert "going on after 128 rows of the same command" in noisy.err
    assert "1 of 240 images could not be used" in noisy.err


@pytest.mark.parametrize("flags", [[], ["-o", "a.csv", "--all-systems"], ["--out=a.csv", "--all-systems"]])
def test_rows_that_are_not_kept_are_not_gone_on_with(flags):
    """Those that went into a pipe are gone, and those of several models are written in the end."""
    assert _resumes(["predict", "out", "new", "-o", "a.csv"])
    assert not _resumes(["predict", "out", "new", *flags])
