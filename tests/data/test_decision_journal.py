"""The file of decisions is whole by itself, while it is written and after its writer was killed."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from assay.data.decision_files import read_decisions
from assay.data.decision_store import open_decisions, read_rows
from assay.data.decisions import Decision
from assay.errors import DataError

ME = {"who": "mia", "client": "one"}


@pytest.fixture
def store(tmp_path):
    """A file of decisions with one in it, open."""
    found = open_decisions(tmp_path / "decisions.sqlite")
    found.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    yield found
    found.close()


@contextmanager
def killed(path, code):
    """A process that opened the file and did something to it, is alive inside, and killed at the end."""
    words = (
        "import sys, time; from pathlib import Path; from assay.data.decision_store import open_decisions\n"
        f"store = open_decisions(Path(sys.argv[1]))\n{code}\nprint('done', flush=True); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", words, path], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout.readline() == "done\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def alone(path, folder):
    """A copy of the one file, without what may be beside it."""
    folder.mkdir(exist_ok=True)
    return shutil.copy(path, folder / path.name)


def later(action):
    """Done by another thread in a moment."""
    timer = threading.Timer(0.3, action)
    timer.start()
    return timer


def test_it_is_written_through_to_the_disk(store):
    """A rollback journal with synchronous=EXTRA: an acknowledged row survives a power cut."""
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (3,)


def test_each_decision_is_in_the_file_itself(store, tmp_path):
    """While the review runs, a copy of the one file has them all, and nothing lies beside it."""
    for number in range(3):
        store.decide(f"{number}.png", "cat", noisy="dog", revision=0, **ME)
        assert list(tmp_path.iterdir()) == [store.path]
        copied = read_rows(alone(store.path, tmp_path.parent / f"{tmp_path.name}-copy"))
        assert copied == store.states


def test_each_decision_is_in_the_file_of_a_killed_review(tmp_path):
    """A process that ended without closing left nothing beside it."""
    path = tmp_path / "decisions.sqlite"
    with killed(path, "store.decide('a.png', 'cat', noisy='dog', revision=0, who='mia', client='one')"):
        pass
    assert read_decisions(alone(path, tmp_path / "copy")) == {"a.png": "cat"}


HALF = """
store.decide('a.png', 'cat', noisy='dog', revision=0, who='mia', client='one')
store.connection.execute('PRAGMA cache_size = 1')
store.connection.execute('BEGIN IMMEDIATE')
insert = "INSERT INTO decisions (name, revision, kind, who, at, client) VALUES (?, 1, 'skip', '', '', '')"
for number in range(100):
    store.connection.execute(insert, [str(number) * 5000])
"""


@pytest.mark.parametrize("reads_first", [True, False])
def test_what_a_killed_process_left_half_written_is_taken_back(tmp_path, reads_first):
    """Whoever comes next, a reader or a review, finds what was acknowledged and nothing else."""
    path = tmp_path / "decisions.sqlite"
    with killed(path, HALF):
        assert path.stat().st_size > 100_000
    assert (tmp_path / "decisions.sqlite-journal").stat().st_size > 0
    if reads_first:
        assert read_decisions(path) == {"a.png": "cat"}
    store = open_decisions(path)
    assert [row.name for row in store.rows()] == ["a.png"]
    assert isinstance(store.decide("b.png", "cat", noisy="dog", revision=0, **ME), Decision)
    store.close()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_the_journal_of_another_database_stays(tmp_path, mode):
    """It is refused before anything of it is changed."""
    path = tmp_path / "other"
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE mine (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="expected decisions"):
        open_decisions(path)
    assert path.read_bytes() == before


def test_readers_wait_for_who_writes(store):
    """A file that is being written to is read a moment later, by a new reader and by an open one."""
    other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    for read in (lambda: read_rows(store.path), store.refresh):
        other.execute("BEGIN EXCLUSIVE")
        waiting = later(lambda: other.execute("COMMIT"))
        read()
        assert not other.in_transaction
        waiting.join()
    other.close()


QUICK = """
import threading
def write():
    for number in range(100000):
        store.decide(f'{number}.png', 'cat', noisy='dog', revision=0, who='mia', client='one')
        time.sleep(0.01)
threading.Thread(target=write, daemon=True).start()
"""


def test_readers_and_a_writer_get_on(tmp_path):
    """Another process decides far quicker than a person; each look finds at least what the last one did."""
    path = tmp_path / "decisions.sqlite"
    with killed(path, QUICK):
        open_one, seen = open_decisions(path), 0
        for number in range(40):
            found = len(read_rows(path))
            assert found >= seen
            row = open_one.decide(f"mine-{number}", "cat", noisy="dog", revision=0, **ME)
            assert isinstance(row, Decision)
            seen = len(open_one.states)
            assert seen > found
        open_one.close()
    assert len(read_rows(path)) >= seen
