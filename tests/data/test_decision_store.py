"""The file of decisions: nothing acknowledged is lost, nobody overwrites what they have not seen."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.decision_store import open_decisions, read_rows
from assay.data.decisions import LABEL, SKIP, UNDO, Decision, Stale, State
from assay.errors import BusyError, DataError, ResourceError, UsageError

ME = {"who": "mia", "client": "one"}


@pytest.fixture
def store(tmp_path):
    """An empty file of decisions, open."""
    found = open_decisions(tmp_path / "decisions.sqlite")
    yield found
    found.close()


def label_of(store, name):
    return store.states.get(name, State()).label


def test_a_decision_is_there_after_opening_again(store):
    """What was decided is read back whole: image, from, to, who, when, client, revision."""
    row = store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    store.close()
    again = open_decisions(store.path)
    assert again.rows() == [row]
    assert replace(row, at="") == Decision("a.png", 1, LABEL, "dog", "cat", "mia", "", "one")
    assert datetime.fromisoformat(row.at).utcoffset().total_seconds() == 0
    assert again.states["a.png"].is_decided
    again.close()


def test_a_second_decision_says_what_it_replaces(store):
    """The second row goes from the first one's label, and the first stays."""
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    row = store.decide("a.png", "ape", noisy="dog", revision=1, **ME)
    assert (row.before, row.after, row.revision) == ("cat", "ape", 2)
    assert [found.after for found in store.rows()] == ["cat", "ape"]
    assert label_of(store, "a.png") == "ape"


def test_a_skip_is_a_row_without_a_label(store):
    """A skipped image is looked at and has no label."""
    store.decide("a.png", None, noisy="dog", revision=0, **ME)
    state = store.states["a.png"]
    assert (state.is_skipped, state.is_decided, state.label) == (True, False, None)
    assert store.rows()[0].kind == SKIP


def test_a_stale_decision_is_not_written(store):
    """Who answers an old revision is told what holds now, and the file stays as it was."""
    first = store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    late = store.decide("a.png", "ape", noisy="dog", revision=0, who="bo", client="two")
    assert late == Stale("a.png", State((first,), 1))
    assert store.rows() == [first]


def test_two_processes_cannot_overwrite_each_other(store):
    """A second open file sees the first one's rows when it decides, and is stale."""
    other = open_decisions(store.path)
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    assert isinstance(other.decide("a.png", "ape", noisy="dog", revision=0, **ME), Stale)
    assert label_of(other, "a.png") == "cat"
    other.close()


def test_undo_is_another_row(store):
    """Undoing brings back the label from before, step by step, and deletes nothing."""
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    store.decide("a.png", "ape", noisy="dog", revision=1, **ME)
    assert store.undo(**ME).after == "cat"
    assert label_of(store, "a.png") == "cat"
    assert store.undo(**ME).after == "dog"
    assert label_of(store, "a.png") is None
    assert not store.states["a.png"].history
    assert [row.kind for row in store.rows()] == [LABEL, LABEL, UNDO, UNDO]
    assert store.undo(**ME) is None


def test_after_an_undo_one_can_decide_again(store):
    """The next decision answers the revision of the undo."""
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    store.undo(**ME)
    row = store.decide("a.png", "ape", noisy="dog", revision=2, **ME)
    assert (row.before, row.revision) == ("dog", 3)


def test_undo_takes_back_ones_own_newest(store):
    """Undo is for what this window did last, whatever another one did since."""
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    store.decide("b.png", "cat", noisy="dog", revision=0, who="bo", client="two")
    assert store.undo(**ME).name == "a.png"
    assert label_of(store, "b.png") == "cat"


def test_undo_of_what_another_changed_is_stale(store):
    """Another window's later decision is not undone by this one's key."""
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    other = store.decide("a.png", "ape", noisy="dog", revision=1, who="bo", client="two")
    found = store.undo(**ME)
    assert isinstance(found, Stale)
    assert found.state.last == other


def test_rows_can_neither_be_changed_nor_deleted(store):
    """The file itself refuses, whoever asks."""
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    with sqlite3.connect(store.path) as other:
        for statement, message in (
            ("UPDATE decisions SET after = 'ape'", "never changed"),
            ("DELETE FROM decisions", "never deleted"),
        ):
            with pytest.raises(sqlite3.IntegrityError, match=message):
                other.execute(statement)
    other.close()


@pytest.mark.parametrize("name", ["é.png", "\udcff\udcfe.png", 'a"\n<b>.png', "'; DROP TABLE decisions; --"])
def test_names_are_kept_byte_for_byte(tmp_path, name):
    """Names that are not UTF-8, or look like code, read back as they are."""
    store = open_decisions(tmp_path / "decisions.sqlite")
    store.decide(name, "cät\udcff", noisy=name, revision=0, **ME)
    store.close()
    (state,) = read_rows(store.path).values()
    assert (state.last.name, state.label, state.last.before) == (name, "cät\udcff", name)


@given(st.lists(st.sampled_from(["cat", "ape", None, "undo"]), max_size=12))
def test_any_history_is_what_a_stack_of_labels_says(tmp_path_factory, steps):
    """After any steps the label is that of a plain stack, here and after opening again."""
    store = open_decisions(tmp_path_factory.mktemp("any") / "decisions.sqlite")
    stack = []
    for step in steps:
        revision = store.states.get("a", State()).revision
        if step == "undo":
            store.undo(**ME)
            stack = stack[:-1]
        else:
            store.decide("a", step, noisy="dog", revision=revision, **ME)
            stack.append(step)
    store.close()
    expected = stack[-1] if stack else None
    assert label_of(store, "a") == expected
    assert read_rows(store.path) == store.states
    assert [row.revision for row in store.states.get("a", State()).history] == sorted(
        row.revision for row in store.states.get("a", State()).history
    )


WRITER = """
import sys
from pathlib import Path
from assay.data.decision_store import open_decisions
store = open_decisions(Path(sys.argv[1]))
for i in range(100000):
    store.decide(f"{i}.png", "cat", noisy="dog", revision=0, who="mia", client="one")
    print(i, flush=True)
"""


def test_every_acknowledged_decision_survives_a_kill(tmp_path):
    """Killed at any moment, the file has each row that was acknowledged and opens as if nothing was."""
    path = tmp_path / "decisions.sqlite"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for stop in (1, 7, 40):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER.replace('f"{i}.png"', f'f"{stop}-{{i}}.png"'), path],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        last = [writer.stdout.readline() for _ in range(stop)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int((rest or [last])[-1])
        store = open_decisions(path)
        assert all(label_of(store, f"{stop}-{i}.png") == "cat" for i in range(acknowledged + 1))
        assert isinstance(store.decide(f"after-{stop}", "cat", noisy=None, revision=0, **ME), Decision)
        store.close()


def test_many_processes_lose_nothing(tmp_path):
    """Four processes write at once; each row is there once."""
    path = tmp_path / "decisions.sqlite"
    open_decisions(path).close()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    code = WRITER.replace("100000", "25").replace('f"{i}.png"', 'f"{sys.argv[2]}-{i}.png"')
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, path, str(number)], stdout=subprocess.PIPE, env=environment
        )
        for number in range(4)
    ]
    assert [writer.communicate()[0].count(b"\n") for writer in writers] == [25] * 4
    assert len(read_rows(path)) == 100


def test_a_full_disk_loses_nothing(store):
    """Out of room, the decision is refused, the rows before it stay, and it goes on with room."""
    row = store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ResourceError, match="make room: nothing is lost"):
        store.decide("b.png", "x" * 100_000, noisy="dog", revision=0, **ME)
    assert store.rows() == [row]
    assert "b.png" not in store.states
    store.connection.execute("PRAGMA max_page_count = 100000")
    assert isinstance(store.decide("b.png", "cat", noisy="dog", revision=0, **ME), Decision)


def test_another_file_is_refused_and_stays_as_it_is(tmp_path):
    """A text, another database and one of a later version are not touched."""
    (tmp_path / "text").write_text("no database" * 1000)
    for name, version in (("other", 0), ("later", 99)):
        with sqlite3.connect(tmp_path / name) as other:
            other.execute("CREATE TABLE mine (a)")
            other.execute(f"PRAGMA user_version = {version}")
        other.close()
    for name in ("text", "other", "later"):
        with pytest.raises(DataError, match="expected decisions"):
            open_decisions(tmp_path / name).close()
        with pytest.raises(DataError, match="expected decisions"):
            read_rows(tmp_path / name)
    assert (tmp_path / "text").read_text() == "no database" * 1000


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    """The message says what to check."""
    with pytest.raises(UsageError, match=r"cannot write .*: unable to open database file; check its rights"):
        open_decisions(tmp_path / "nowhere" / "decisions.sqlite")


def test_a_file_that_another_process_holds_is_busy(store, monkeypatch):
    """A decision that cannot be written in time is refused, not queued."""
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(BusyError, match="another process holds this file"):
        store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(store.decide("a.png", "cat", noisy="dog", revision=0, **ME), Decision)


def test_rows_of_another_file_are_taken_over_once(store):
    """Images that are decided here stay as they are; the others keep who and when."""
    mine = store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    theirs = [
        Decision(name, 1, LABEL, "dog", "ape", "bo", "2026-01-02T03:04:05+00:00", "x")
        for name in ("a.png", "b.png")
    ]
    assert store.add(theirs) == 1
    assert store.add(theirs) == 0
    assert store.rows() == [mine, theirs[1]]


def test_what_was_taken_back_here_may_come_from_another_file(store):
    """It comes after what there was, and can be taken back itself; who walks through the states may go on."""
    store.decide("a.png", "cat", noisy="dog", revision=0, **ME)
    store.undo(**ME)
    walking = iter(store.states.items())
    theirs = Decision("a.png", 1, LABEL, "dog", "ape", "bo", "2026-01-02T03:04:05+00:00", "x")
    assert store.add([theirs, replace(theirs, name="b.png")]) == 2
    assert [name for name, _ in walking] == ["a.png"]
    assert store.rows()[2] == replace(theirs, revision=3)
    assert label_of(store, "a.png") == "ape"
