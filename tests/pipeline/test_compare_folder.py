"""The files of a comparison: whose they are, and who works there."""

import json
import os

import pytest
from filelock import FileLock
from small_compare import compare_options, entry_of

from assay.errors import BusyError, OtherRunError, UsageError
from assay.notebook import compare_folder
from assay.notebook.compare_entry import train
from assay.notebook.compare_folder import CompareFolder
from assay.pipeline.folder import SCHEMA
from assay.types import ignore_message, silent


@pytest.fixture
def folder(tmp_path):
    """A place where nothing is yet."""
    return CompareFolder(tmp_path / "new")


def test_free_places_and_our_own_are_taken(folder, own_run):
    """Nothing there, an empty folder, one with a comparison, one with a run; nothing is written yet."""
    folder.check()
    assert not folder.path.exists()
    folder.path.mkdir()
    folder.check()
    (folder.path / ".hidden").write_text("")
    folder.check()
    folder.write({"schema": SCHEMA})
    (folder.path / "models").mkdir()
    folder.check()
    CompareFolder(own_run).check()


@pytest.mark.parametrize("name", ["notes.txt", "models", "compare.csv"])
def test_a_place_with_other_files_is_refused(folder, name):
    """What nobody knows may be dear to somebody."""
    folder.path.mkdir()
    (folder.path / name).write_text("dear")
    with pytest.raises(OtherRunError, match=r"expected an empty folder, or one that holds a run or a comp"):
        folder.check()


def test_files_of_our_names_beside_a_run_are_refused(own_run):
    """A run's folder with a ``pictures`` of the user's own is not taken."""
    (own_run / "pictures").mkdir()
    with pytest.raises(OtherRunError, match="found other files; name another with --out"):
        CompareFolder(own_run).check()


def test_a_file_is_no_folder(folder):
    """A name that is taken by a file."""
    folder.path.write_text("")
    with pytest.raises(UsageError, match="expected a folder for the results, got a file"):
        folder.check()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}'])
def test_a_record_of_another_assay_is_refused(folder, text):
    """Half a file, another kind of value, a newer form."""
    folder.path.mkdir()
    (folder.path / "compare.json").write_text(text)
    with pytest.raises(OtherRunError, match=r"compare.json: expected what this version of assay writes"):
        folder.record()


def test_two_comparisons_do_not_share_a_folder(folder):
    """The second is told who holds it; when the first is gone, so is its lock."""
    with folder.lock():
        with pytest.raises(BusyError, match=rf"another comparison \(process {os.getpid()}\) holds this fol"):
            CompareFolder(folder.path).lock().__enter__()
        # A run in the same folder is no rival: a comparison starts one.
        with folder.run.lock():
            pass
    with folder.lock():
        assert (folder.path / ".compare.pid").exists()
    assert not (folder.path / ".compare.pid").exists()


def test_a_process_that_outlives_its_comparison_is_waited_for(folder, monkeypatch):
    """For a while; if it does not end, the folder is busy."""
    monkeypatch.setattr(compare_folder, "WAIT_S", 0.05)
    folder.path.mkdir()
    message = "a process of an earlier comparison still works in this folder"
    with FileLock(folder.path / compare_folder.CHILD_LOCK), pytest.raises(BusyError, match=message):
        folder.lock().__enter__()
    with folder.lock():
        pass


def test_half_files_are_swept_away(folder):
    """What was being written when a comparison was killed goes when the next one begins."""
    places = [folder.path, folder.path / "pictures", folder.beside("cnn-1"), folder.beside("assay")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".0123456789abcdef.tmp").write_text("half")
    with folder.lock():
        assert not list(folder.path.rglob("*.tmp"))


def test_half_files_of_a_run_at_work_stay(folder):
    """Whoever holds the run's lock is writing them at this moment."""
    halves = [folder.path / ".labels.csv.123.tmp", folder.path / "model" / ".model.onnx.123.tmp"]
    with folder.run.lock():
        for half in halves:
            half.parent.mkdir(exist_ok=True)
            half.write_text("half")
        with folder.lock():
            assert all(half.exists() for half in halves)


def test_clearing_deletes_what_a_comparison_wrote_and_nothing_else(small_data, own_run, tmp_path):
    """The run stays, and so does a file that somebody put there."""
    folder = CompareFolder(own_run)
    before = [path for path in own_run.rglob("*") if ".lock" not in path.name]
    options = compare_options(small_data, tmp_path / "cache")
    for system in ("cnn-1", "cnn-2"):
        train(entry_of(small_data, own_run, options, system), ignore_message, silent)
    for name in ("compare.csv", "compare.md", "pictures/samples.svg", "models/cnn-1/history.svg"):
        (own_run / name).parent.mkdir(exist_ok=True)
        (own_run / name).write_text("")
    folder.write({"schema": SCHEMA})
    mine = folder.beside("cnn-2") / "notes.txt"
    mine.write_text("dear")
    folder.clear()
    left = {path for path in own_run.rglob("*") if ".lock" not in path.name}
    assert left == {*before, mine, mine.parent, mine.parent.parent}


def test_the_assay_model_is_that_of_the_run(folder, own_run):
    """Its figures lie with those of the others, its package in ``model/``."""
    run = CompareFolder(own_run)
    assert run.model("assay") == own_run / "model"
    assert run.holdout("assay") == own_run / "models" / "assay" / "holdout.csv"
    assert run.weights("assay") is not None
    assert run.weights("cnn-1") is None
    files = ("config.json", "model.safetensors", "labels.json", "README.md", "model.onnx", "manifest.json")
    assert run.model_bytes("assay") == sum((own_run / "model" / name).stat().st_size for name in files)


def test_rows_are_written_whole_with_their_schema(folder):
    """What is read is what was written; without a file there is no row."""
    assert folder.row("cnn-1") == {}
    folder.write_row("cnn-1", {"system": "cnn-1"})
    assert folder.row("cnn-1") == {"system": "cnn-1", "schema": SCHEMA}
    assert json.loads((folder.path / "models" / "cnn-1" / "row.json").read_text()) == folder.row("cnn-1")
