"""One run holds a folder, and nothing is deleted that no run wrote."""

import os
import subprocess
import sys

import pytest
from filelock import Timeout

from assay.errors import BusyError, OtherRunError, UsageError
from assay.pipeline.folder import RESULTS, SCHEMA, RunFolder
from assay.pipeline.run import run

HOLD = """
import sys
from pathlib import Path
from assay.pipeline.folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``tmp_path / "out"``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_held_folder_is_refused_until_its_holder_is_dead(holder, tmp_path):
    """The message names the holding process; the lock of a killed run falls with it."""
    folder = RunFolder(tmp_path / "out")
    message = (
        rf"out: another run \(process {holder.pid}\) holds this folder; wait for it, or name another folder "
        r"with --out$"
    )
    with pytest.raises(BusyError, match=message), folder.lock():
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / "out" / ".pid").read_text() == str(holder.pid)
    with folder.lock(), pytest.raises(BusyError, match=rf"process {os.getpid()}\)"), folder.lock():
        pass
    assert not (tmp_path / "out" / ".pid").exists()


def test_a_timeout_inside_is_not_taken_for_a_held_folder(tmp_path):
    """Only the folder's own lock makes a BusyError."""
    with pytest.raises(Timeout), RunFolder(tmp_path / "out").lock():
        raise Timeout("another lock")
    with RunFolder(tmp_path / "out").lock():
        pass


def test_half_files_of_a_killed_run_are_swept_away(tmp_path):
    """What a kill left beside its place is gone once the folder is held again; other files stay."""
    (tmp_path / "model").mkdir()
    (tmp_path / ".x.tmp").mkdir()
    for name in (".0123456789abcdef.tmp", "model/.0123456789abcdef.tmp", ".session.tmp", "mine.tmp"):
        (tmp_path / name).write_text("x")
    with RunFolder(tmp_path).lock():
        left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {".session.tmp", "mine.tmp", ".lock", ".pid"}


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path):
    """A place below a file is refused with the system's reason."""
    (tmp_path / "file").write_text("")
    message = r"^cannot write .*file/out: Not a directory; choose another folder with --out$"
    with pytest.raises(UsageError, match=message), RunFolder(tmp_path / "file" / "out").lock():
        pass


def test_other_files_are_refused_untouched(small_data, options, tmp_path):
    """Where files of others lie nothing is written, with --overwrite too; hidden files do not count."""
    (tmp_path / "labels.csv").write_text("mine")
    message = r"expected an empty folder or one that holds a run, found other files; name another with --out$"
    with pytest.raises(OtherRunError, match=message):
        run(small_data.images, tmp_path, options, overwrite=True)
    message = r"expected a folder for the results, got a file; name a folder$"
    with pytest.raises(UsageError, match=message):
        run(small_data.images, tmp_path / "labels.csv", options)
    assert (tmp_path / "labels.csv").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["labels.csv"]
    (tmp_path / "labels.csv").rename(tmp_path / ".hidden")
    RunFolder(tmp_path).check()


@pytest.mark.parametrize("text", ["{", "[]", "{}", f'{{"schema": {SCHEMA + 1}}}', '{"schema": "1"}'])
def test_a_strange_record_is_refused(tmp_path, text):
    """A run.json of another program, or of a newer assay, is not taken for a run's."""
    (tmp_path / "run.json").write_text(text)
    message = r"run.json: expected what this version of assay writes, got something else; name another folder"
    with pytest.raises(OtherRunError, match=message):
        RunFolder(tmp_path).check()


def test_clearing_deletes_what_a_run_wrote_and_nothing_else(own_run):
    """A user's files beside the results and inside the model's folder stay; an empty folder goes."""
    for name in ("notes.txt", "model/notes.txt"):
        (own_run / name).write_text("mine")
    RunFolder(own_run).clear()
    left = {str(file.relative_to(own_run)) for file in own_run.rglob("*") if file.is_file()}
    assert left == {".lock", "notes.txt", "model/notes.txt"}
    (own_run / "model" / "notes.txt").unlink()
    RunFolder(own_run).clear()
    assert {file.name for file in own_run.iterdir()} == {".lock", "notes.txt"}


def test_all_that_a_run_writes_is_known(finished):
    """RESULTS and run.json are all visible files of a finished run."""
    files = {str(file.relative_to(finished.out)) for file in finished.out.rglob("[!.]*") if file.is_file()}
    assert files == {*RESULTS, "run.json"} - {"annotators.csv"}
