"""The file of decisions: nothing acknowledged is lost, nobody overwrites what they have not seen."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.decision_store import (
    LABEL,
    SKIP,
    UNDO,
    Decision,
    DecisionRequest,
    Stale,
    State,
    open_decisions,
    read_states,
)
from assay.data.decisions import read_decisions
from assay.errors import BusyError, DataError, ResourceError, UsageError

ME = {"who": "mia", "client": "one"}
BO = {"who": "bo", "client": "two"}


@pytest.fixture
def store(tmp_path):
    """An empty file of decisions, open."""
    found = open_decisions(tmp_path / "decisions.sqlite")
    yield found
    found.close()


def decide(store, label, *, name="a.png", revision=0, by=ME):
    return store.decide(name, label, noisy="dog", revision=revision, **by)


def label_of(store, name="a.png"):
    return store.states.get(name, State()).label


def kinds(store):
    return [row.kind for row in store.rows()]


def test_a_decision_is_there_after_opening_again(store):
    """Image, from, to, who, when, client and revision; a second one has what it replaces, a skip no label."""
    row = decide(store, "cat")
    second = decide(store, "ape", revision=1)
    store.close()
    again = open_decisions(store.path)
    assert again.states == {"a.png": State((row, second), 2)}
    assert replace(row, at="") == Decision("a.png", 1, LABEL, "dog", "cat", "mia", "", "one")
    assert (second.before, second.after, second.revision) == ("cat", "ape", 2)
    assert datetime.fromisoformat(row.at).utcoffset().total_seconds() == 0
    assert (again.states["a.png"].is_decided, label_of(again)) == (True, "ape")
    decide(again, None, name="b.png")
    state = again.states["b.png"]
    assert (state.is_skipped, state.is_decided, state.label, kinds(again)[-1]) == (True, False, None, SKIP)
    again.close()


def test_a_stale_decision_is_not_written(store):
    """Fault 50: who answers an old revision gets what holds now, also from another process."""
    first = decide(store, "cat")
    assert decide(store, "ape", by=BO) == Stale("a.png", State((first,), 1))
    other = open_decisions(store.path)
    decide(store, "bee", name="b.png")
    assert isinstance(decide(other, "ape", name="b.png", by=BO), Stale)
    assert (label_of(other, "b.png"), kinds(store)) == ("bee", [LABEL] * 2)
    other.close()


def test_several_decisions_are_written_together(store):
    """Those that are not stale; of an image that comes twice, the second has not seen the first."""
    decide(store, "cat", name="old.png")
    wanted = [DecisionRequest(name, "ape", "dog", 0) for name in ("a.png", "old.png", "b.png", "a.png")]
    found = store.decide_all(wanted, **ME)
    assert [isinstance(outcome, Stale) for outcome in found] == [False, True, False, True]
    assert [label_of(store, name) for name in ("a.png", "old.png", "b.png")] == ["ape", "cat", "ape"]


def test_undo_is_another_row(store):
    """It brings back the label from before, step by step, and deletes nothing; then one decides again."""
    decide(store, "cat")
    decide(store, "ape", revision=1)
    assert (store.undo(**ME).after, label_of(store)) == ("cat", "cat")
    assert (store.undo(**ME).after, label_of(store)) == ("dog", None)
    assert not store.states["a.png"].history
    assert kinds(store) == [LABEL, LABEL, UNDO, UNDO]
    assert store.undo(**ME) is None
    row = decide(store, "ape", revision=4)
    assert (row.before, row.revision) == ("dog", 5)


def test_undo_takes_back_ones_own_newest(store):
    """Not what another window did since; of an image that the other changed it is stale."""
    decide(store, "cat")
    decide(store, "cat", name="b.png")
    decide(store, "cat", name="c.png", by=BO)
    other = decide(store, "ape", name="b.png", revision=1, by=BO)
    found = store.undo(**ME)
    assert isinstance(found, Stale)
    assert found.state.last == other
    assert store.undo(**ME, known_stale={"b.png"}).name == "a.png"
    assert (label_of(store, "b.png"), label_of(store, "c.png")) == ("ape", "cat")


def test_rows_can_neither_be_changed_nor_deleted(store):
    """The file itself refuses, whatever program asks."""
    decide(store, "cat")
    for statement, word in (
        ("UPDATE decisions SET after = 'ape'", "changed"),
        ("DELETE FROM decisions", "deleted"),
    ):
        with pytest.raises(sqlite3.IntegrityError, match=f"never {word}"):
            store.connection.execute(statement)


def test_names_are_kept_byte_for_byte(store):
    """Fault 25: names that are not UTF-8, or look like code, read back as they are."""
    names = ["é.png", "\udcff\udcfe.png", 'a"\n<b>.png', "'; DROP TABLE decisions; --"]
    for name in names:
        store.decide(name, "cät\udcff", noisy=name, revision=0, **ME)
    found = [(state.last.name, state.label, state.last.before) for state in read_states(store.path).values()]
    assert found == [(name, "cät\udcff", name) for name in names]


@given(st.lists(st.sampled_from(["cat", "ape", None, "undo"]), max_size=12))
def test_any_history_is_a_stack_of_labels(tmp_path_factory, steps):
    """After any steps the label is that of a plain stack, here and after opening again."""
    store = open_decisions(tmp_path_factory.mktemp("any") / "decisions.sqlite")
    store.connection.execute("PRAGMA synchronous = OFF")  # a hundred examples in a second
    stack = []
    for step in steps:
        if step == "undo":
            store.undo(**ME)
            stack = stack[:-1]
        else:
            decide(store, step, name="a", revision=store.states.get("a", State()).revision)
            stack.append(step)
    store.close()
    assert label_of(store, "a") == (stack[-1] if stack else None)
    assert read_states(store.path) == store.states


def test_rows_of_another_file_are_taken_over_once(store):
    """Images that are decided here stay as they are; the others keep who and when."""
    mine = decide(store, "cat")
    decide(store, "cat", name="b.png")
    store.undo(**ME)
    iterating = iter(store.states.items())
    theirs = [
        Decision(name, 1, LABEL, "dog", "ape", "bo", "2026-01-02T03:04:05+00:00", "x")
        for name in ("a.png", "b.png", "c.png")
    ]
    assert store.add(theirs) == 2
    assert store.add(theirs) == 0
    assert [name for name, _ in iterating] == ["a.png", "b.png"]
    last = [state.last for state in store.states.values()]
    assert last == [mine, replace(theirs[1], revision=3), theirs[2]]


def python(path, code):
    """A process that has the file open and runs the code."""
    words = (
        "import sys, time; from pathlib import Path; from assay.data.decision_store import open_decisions\n"
        f"store = open_decisions(Path(sys.argv[1]))\n{code}"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", words, path], stdout=subprocess.PIPE, text=True, env=environment
    )


@contextmanager
def killed(path, code):
    """As ``python``; it is alive inside, after the code, and killed at the end."""
    process = python(path, f"{code}\nprint('done', flush=True); time.sleep(600)")
    try:
        assert process.stdout.readline() == "done\n"
        yield
    finally:
        process.kill()
        process.communicate()


WRITER = """
for i in range({count}):
    store.decide(f"{prefix}-{{i}}.png", "cat", noisy="dog", revision=0, who="mia", client="one")
    print(i, flush=True)
"""


def test_every_acknowledged_decision_survives_a_kill(tmp_path):
    """Fault 47: killed at any moment, the file has each row that was acknowledged, and is in order."""
    path = tmp_path / "decisions.sqlite"
    for stop in (1, 7, 40):
        writer = python(path, WRITER.format(count=100_000, prefix=stop))
        last = [writer.stdout.readline() for _ in range(stop)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int((rest or [last])[-1])
        store = open_decisions(path)
        assert all(label_of(store, f"{stop}-{i}.png") == "cat" for i in range(acknowledged + 1))
        assert isinstance(decide(store, "cat", name=f"after-{stop}"), Decision)
        store.close()


def test_many_processes_lose_nothing(tmp_path):
    """Fault 50: four processes write at once; each row is there once, and a reader never finds fewer."""
    path = tmp_path / "decisions.sqlite"
    open_decisions(path).close()
    writers = [python(path, WRITER.format(count=25, prefix=number)) for number in range(4)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        found = len(read_states(path))
        assert found >= seen
        seen = found
    assert [writer.communicate()[0].count("\n") for writer in writers] == [25] * 4
    assert len(read_states(path)) == 100


def test_a_copy_of_the_one_file_has_each_decision(store, tmp_path):
    """Nothing lies beside it while a review runs or after it was killed; a commit survives a power cut."""
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (3,)
    path = tmp_path / "killed.sqlite"
    with killed(path, "store.decide('a.png', 'cat', noisy='dog', revision=0, who='mia', client='one')"):
        decide(store, "cat")
        assert sorted(tmp_path.iterdir()) == [store.path, path]
    (tmp_path / "copies").mkdir()
    for one in (store.path, path):
        copied = shutil.copy(one, tmp_path / "copies" / one.name)
        assert [row.after for row in read_decisions(copied)] == ["cat"]


HALF = """
store.decide('a.png', 'cat', noisy='dog', revision=0, who='mia', client='one')
store.connection.execute('PRAGMA cache_size = 1')
store.connection.execute('BEGIN IMMEDIATE')
insert = "INSERT INTO decisions (name, revision, kind, who, at, client) VALUES (?, 1, 'skip', '', '', '')"
for number in range(100):
    store.connection.execute(insert, [str(number) * 5000])
"""


@pytest.mark.parametrize("reads_first", [True, False])
def test_what_a_killed_process_left_half_written_is_rolled_back(tmp_path, reads_first):
    """Fault 47: a reader or a review that comes next finds what was acknowledged and nothing else."""
    path = tmp_path / "decisions.sqlite"
    with killed(path, HALF):
        assert path.stat().st_size > 100_000
    assert (tmp_path / "decisions.sqlite-journal").stat().st_size > 0
    if reads_first:
        assert [row.name for row in read_decisions(path)] == ["a.png"]
    store = open_decisions(path)
    assert [*store.states] == ["a.png"]
    assert isinstance(decide(store, "cat", name="b.png"), Decision)
    store.close()
    assert list(tmp_path.iterdir()) == [path]


def test_readers_wait_for_a_writer(store):
    """A file that is being written to is read a moment later, by a new reader and by an open one."""
    other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    for read in (lambda: read_states(store.path), store.refresh):
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        timer.start()
        read()
        assert not other.in_transaction
        timer.join()
    other.close()


def test_a_full_disk_loses_nothing(store):
    """Fault 48: the decision is refused, the rows before it stay, and it continues with free space."""
    decide(store, "cat")
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ResourceError, match="free disk space: no earlier decision is lost"):
        decide(store, "x" * 100_000, name="b.png")
    assert ([*store.states], kinds(store)) == (["a.png"], [LABEL])
    store.connection.execute("PRAGMA max_page_count = 100000")
    assert isinstance(decide(store, "cat", name="b.png"), Decision)


@pytest.mark.parametrize("version", [0, 99])
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_another_database_is_refused_and_stays_as_it_is(tmp_path, version, mode):
    """Of another program, or of a later version."""
    path = tmp_path / "other"
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE mine (a)")
        other.execute(f"PRAGMA user_version = {version}")
    other.close()
    before = path.read_bytes()
    for read in (open_decisions, read_states):
        with pytest.raises(DataError, match="expected decisions of this version of assay, got another data"):
            read(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path):
    """A place that cannot be written to is refused too."""
    (tmp_path / "text").write_text("no database" * 1000)
    for read in (open_decisions, read_states):
        with pytest.raises(DataError, match="expected decisions as assay writes them"):
            read(tmp_path / "text")
    with pytest.raises(UsageError, match=r"cannot write .*: unable to open database file; check its rights"):
        open_decisions(tmp_path / "nowhere" / "decisions.sqlite")


def test_a_file_that_another_process_holds_is_busy(store):
    """Fault 50: a decision that cannot be written in time is refused, not queued."""
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(BusyError, match="another process holds this file"):
        decide(store, "cat")
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(decide(store, "cat"), Decision)
