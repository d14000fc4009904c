"""Decisions: nothing acknowledged is lost, and files hold them without change."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.dataset import Dataset
from assay.data.decisions import (
    LABEL,
    NO_CLASS,
    SKIP,
    UNDO,
    Decision,
    DecisionRequest,
    Stale,
    State,
    open_decisions,
    read_decisions,
    read_states,
    standing,
    with_decisions,
    write_csv,
)
from assay.data.memory import MemorySource
from assay.errors import BusyError, DataError, LabelError, ResourceError, TableError, UsageError
from assay.types import UNKNOWN

ME, BO = {"who": "mia, the 1st", "client": "one"}, {"who": "bo", "client": "two"}


@pytest.fixture
def store(tmp_path):
    """An empty file of decisions, open."""
    found = open_decisions(tmp_path / "decisions.sqlite")
    yield found
    found.close()


def decide(store, name, label, revision=0, by=ME):
    (found,) = store.decide([DecisionRequest(name, label, "dog", revision)], **by)
    return found


def labels_of(store):
    return {name: state.label for name, state in store.states.items()}


def kinds(store):
    return [kind for (kind,) in store.connection.execute("SELECT kind FROM decisions ORDER BY id")]


# The database


def test_a_decision_is_there_after_opening_again(store):
    """Image, from, to, who, when, client and revision; a second one has what it replaces, a skip no label."""
    row, second = decide(store, "a.png", "cat"), decide(store, "a.png", "ape", 1)
    skip = decide(store, "b.png", None)
    assert read_states(store.path) == {"a.png": State((row, second), 2), "b.png": State((skip,), 1)}
    assert replace(row, at="") == Decision("a.png", 1, LABEL, "dog", "cat", ME["who"], "", "one")
    assert (second.before, second.after, second.revision) == ("cat", "ape", 2)
    assert datetime.fromisoformat(row.at).utcoffset().total_seconds() == 0
    assert (labels_of(store), kinds(store)) == ({"a.png": "ape", "b.png": None}, [LABEL, LABEL, SKIP])


def test_a_stale_decision_is_not_written(store):
    """Fault 50: who answers an old revision gets what holds now, also from another process."""
    first = decide(store, "a.png", "cat")
    assert decide(store, "a.png", "ape", by=BO) == Stale("a.png", State((first,), 1))
    other = open_decisions(store.path)
    decide(store, "b.png", "bee")
    assert isinstance(decide(other, "b.png", "ape", by=BO), Stale)
    assert (labels_of(other), kinds(store)) == ({"a.png": "cat", "b.png": "bee"}, [LABEL] * 2)
    other.close()


def test_several_decisions_are_written_together(store):
    """Those that are not stale; of an image that comes twice, the second has not seen the first."""
    decide(store, "old.png", "cat")
    wanted = [DecisionRequest(name, "ape", "dog", 0) for name in ("a.png", "old.png", "b.png", "a.png")]
    assert [isinstance(found, Stale) for found in store.decide(wanted, **ME)] == [False, True, False, True]
    assert labels_of(store) == {"old.png": "cat", "a.png": "ape", "b.png": "ape"}


def test_undo_is_another_row(store):
    """It brings back the label from before, step by step, and deletes nothing; then one decides again."""
    decide(store, "a.png", "cat")
    decide(store, "a.png", "ape", 1)
    assert [store.undo(**ME).after, store.undo(**ME).after, store.undo(**ME)] == ["cat", "dog", None]
    assert (labels_of(store), kinds(store)) == ({"a.png": None}, [LABEL, LABEL, UNDO, UNDO])
    row = decide(store, "a.png", "ape", 4)
    assert (row.before, row.revision) == ("dog", 5)


def test_undo_takes_back_ones_own_newest(store):
    """Not what another window did since; of an image that the other changed it is stale."""
    decide(store, "a.png", "cat")
    decide(store, "b.png", "cat")
    decide(store, "c.png", "cat", by=BO)
    other = decide(store, "b.png", "ape", 1, by=BO)
    assert store.undo(**ME).state.last == other
    assert store.undo(**ME, known_stale={"b.png"}).name == "a.png"
    assert labels_of(store) == {"a.png": None, "b.png": "ape", "c.png": "cat"}


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
            decide(store, "a", step, store.states.get("a", State()).revision)
            stack.append(step)
    store.close()
    assert labels_of(store).get("a") == (stack[-1] if stack else None)
    assert read_states(store.path) == store.states


@pytest.mark.parametrize(
    ("statement", "word"),
    [("UPDATE decisions SET after = 'ape'", "changed"), ("DELETE FROM decisions", "deleted")],
)
def test_rows_can_neither_be_changed_nor_deleted(store, statement, word):
    """The file itself refuses, whatever program asks."""
    decide(store, "a.png", "cat")
    with pytest.raises(sqlite3.IntegrityError, match=f"never {word}"):
        store.connection.execute(statement)


def test_names_are_kept_byte_for_byte(store):
    """Fault 25: names that are not UTF-8, or look like code, read back as they are."""
    names = ["é.png", "\udcff\udcfe.png", 'a"\n<b>.png', "'; DROP TABLE decisions; --"]
    store.decide([DecisionRequest(name, "cät\udcff", name, 0) for name in names], **ME)
    found = [(state.last.name, state.label, state.last.before) for state in read_states(store.path).values()]
    assert found == [(name, "cät\udcff", name) for name in names]


def test_rows_of_another_file_are_taken_over_once(store):
    """Images that are decided here stay as they are; the others keep who and when."""
    mine = decide(store, "a.png", "cat")
    decide(store, "b.png", "cat")
    store.undo(**ME)
    iterating = iter(store.states.items())
    at = "2026-01-02T03:04:05+00:00"
    names = ("a.png", "b.png", "c.png")
    theirs = [Decision(name, 1, LABEL, "dog", "ape", "bo", at, "x") for name in names]
    assert (store.add(theirs), store.add(theirs)) == (2, 0)
    assert [name for name, _ in iterating] == ["a.png", "b.png"]
    last = [state.last for state in store.states.values()]
    assert last == [mine, replace(theirs[1], revision=3), theirs[2]]


# Processes that are killed, that wait, and that fill the disk

OPENED = """
import sys, time
from pathlib import Path
from assay.data.decisions import DecisionRequest, open_decisions
store = open_decisions(Path(sys.argv[1]))
def decide(name):
    store.decide([DecisionRequest(name, "cat", "dog", 0)], who="mia", client="one")
"""

WRITER = """
for i in range({count}):
    decide(f"{prefix}-{{i}}.png")
    print(i, flush=True)
"""

HALF = """
decide("a.png")
store.connection.execute('PRAGMA cache_size = 1')
store.connection.execute('BEGIN IMMEDIATE')
insert = "INSERT INTO decisions (name, revision, kind, who, at, client) VALUES (?, 1, 'skip', '', '', '')"
for number in range(100):
    store.connection.execute(insert, [str(number) * 5000])
"""


def python(path, code):
    """A process that has the file open and runs the code."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OPENED + code, path]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


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


def test_every_acknowledged_decision_survives_a_kill(tmp_path):
    """Fault 47: killed at any moment, the file has each row that was acknowledged, and is in order."""
    path = tmp_path / "decisions.sqlite"
    for stop in (1, 40):
        writer = python(path, WRITER.format(count=100_000, prefix=stop))
        last = [writer.stdout.readline() for _ in range(stop)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int((rest or [last])[-1])
        store = open_decisions(path)
        assert all(labels_of(store)[f"{stop}-{i}.png"] == "cat" for i in range(acknowledged + 1))
        assert isinstance(decide(store, f"after-{stop}", "cat"), Decision)
        store.close()


def test_many_processes_lose_nothing(tmp_path):
    """Fault 50: three processes write at once; each row is there once, and a reader never finds fewer."""
    path = tmp_path / "decisions.sqlite"
    open_decisions(path).close()
    writers = [python(path, WRITER.format(count=25, prefix=number)) for number in range(3)]
    seen = [0]
    while any(writer.poll() is None for writer in writers):
        seen.append(len(read_states(path)))
    assert seen == sorted(seen)
    assert [writer.communicate()[0].count("\n") for writer in writers] == [25] * 3
    assert len(read_states(path)) == 75


def test_a_copy_of_the_one_file_has_each_decision(store, tmp_path):
    """Nothing lies beside it while a review runs or after it was killed; a commit survives a power cut."""
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (3,)
    path = tmp_path / "killed.sqlite"
    with killed(path, "decide('a.png')"):
        decide(store, "a.png", "cat")
        assert sorted(tmp_path.iterdir()) == [store.path, path]
    (tmp_path / "copies").mkdir()
    for one in (store.path, path):
        copied = shutil.copy(one, tmp_path / "copies" / one.name)
        assert [row.after for row in read_decisions(copied)] == ["cat"]


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
    assert isinstance(decide(store, "b.png", "cat"), Decision)
    store.close()
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def other(store):
    """Another connection to the file of decisions."""
    found = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    yield found
    found.close()


def test_readers_wait_for_a_writer(store, other):
    """A file that is being written to is read a moment later, by a new reader and by an open one."""
    for read in (lambda: read_states(store.path), store.refresh):
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        timer.start()
        read()
        assert not other.in_transaction
        timer.join()


def test_a_file_that_another_process_holds_is_busy(store, other):
    """Fault 50: a decision that cannot be written in time is refused, not queued."""
    other.execute("BEGIN IMMEDIATE")
    store.connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(BusyError, match="another process holds this file"):
        decide(store, "a.png", "cat")
    other.execute("ROLLBACK")
    assert isinstance(decide(store, "a.png", "cat"), Decision)


def test_a_full_disk_loses_nothing(store):
    """Fault 48: the decision is refused, the rows before it stay, and it continues with free space."""
    decide(store, "a.png", "cat")
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ResourceError, match="free disk space: no earlier decision is lost"):
        decide(store, "b.png", "x" * 100_000)
    assert ([*store.states], kinds(store)) == (["a.png"], [LABEL])
    store.connection.execute("PRAGMA max_page_count = 100000")
    assert isinstance(decide(store, "b.png", "cat"), Decision)


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


# Files for other tools

LABELS = ("cat", "NA", "007", "=cmd()", "<script>", 'a"b, c', "two\nlines", "é", None)


@pytest.fixture
def reviewed(store):
    """Nine images decided, the first one twice and back, and one taken back."""
    store.decide([DecisionRequest(f"{i}.png", label, "dog", 0) for i, label in enumerate(LABELS)], **ME)
    decide(store, "0.png", "ape", 1)
    store.undo(**ME)
    decide(store, "gone.png", "cat")
    store.undo(**ME)
    return store


def facts(rows):
    return [(row.name, row.after, row.before, row.who, row.at) for row in rows]


@pytest.mark.parametrize("name", ["decisions.sqlite", "decisions.csv"])
def test_the_labels_are_read_from_any_of_the_files(reviewed, tmp_path, name):
    """Fault 35: the database and CSV have the same labels, and the noisy one that came with the image,
    whatever was decided in between; what was taken back is in none, and one undo takes an import back.
    """
    decide(reviewed, "0.png", "bird", reviewed.states["0.png"].revision)
    if name == "decisions.csv":
        write_csv(tmp_path / name, reviewed.states)
    rows = read_decisions(tmp_path / name)
    labels = ("bird", *LABELS[1:])
    assert [(row.name, row.before, row.after) for row in rows] == [
        (f"{i}.png", "dog", label) for i, label in enumerate(labels)
    ]
    (tmp_path / "in").mkdir()
    other = open_decisions(tmp_path / "in" / "decisions.sqlite")
    other.add(rows[:1])
    assert other.undo(who="bo", client=rows[0].client).after == "dog"
    other.close()


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        st.sampled_from(LABELS),
        max_size=4,
    )
)
def test_any_names_come_back(tmp_path_factory, labels):
    """Fault 25: whatever the images are called, from no image on."""
    folder = tmp_path_factory.mktemp("any")
    rows = {
        name: Decision(name, 1, SKIP if label is None else LABEL, "dog", label, "mia", "now", "one")
        for name, label in labels.items()
    }
    states = {name: State((row,), 1) for name, row in rows.items()}
    write_csv(folder / "decisions.csv", {**states, "undone": State()})
    assert facts(read_decisions(folder / "decisions.csv")) == facts(standing(states))


def test_csv_is_a_file_of_trusted_labels(reviewed, tmp_path):
    """It has the columns that a label file has, and an empty label for a skipped image."""
    write_csv(tmp_path / "decisions.csv", {name: reviewed.states[name] for name in ("0.png", "8.png")})
    header, first, second = (tmp_path / "decisions.csv").read_text().splitlines()
    assert header == "file,label,status,noisy_label,who,at"
    assert first.startswith('0.png,cat,decided,dog,"mia, the 1st",20')
    assert second.startswith('8.png,,skipped,dog,"mia, the 1st",20')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tasks_that_label_studio_exported_are_read(tmp_path, encoding):
    """Its additional fields are ignored, its last annotation counts, a task without one is open."""
    choice = {"value": {"choices": ["cat"]}, "id": "x", "type": "choices", "from_name": "l", "to_name": "i"}
    annotations = [
        {"id": 5, "completed_by": 3, "was_cancelled": True, "result": []},
        {"id": 6, "completed_by": 3, "was_cancelled": False, "result": [choice], "lead_time": 1.5},
    ]
    tasks = [
        {"id": 1, "data": {"image": "a.png"}, "annotations": annotations, "predictions": []},
        {"id": 2, "data": {"image": "b.png"}, "annotations": []},
    ]
    (tmp_path / "x.json").write_text(json.dumps(tasks), encoding=encoding)
    assert facts(read_decisions(tmp_path / "x.json")) == [("a.png", "cat", None, "3", "")]


def bad_task(image, result):
    return json.dumps([{"data": {"image": image}, "annotations": [{"result": result}]}])


def choices(*labels):
    return [{"value": {"choices": labels}}]


NOT_JSON, BAD_TASK = "bad_json: x.json is not JSON that can be read", "bad_json: x.json task 1: expected data"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, NOT_JSON),
        ("[1,", NOT_JSON),
        ("[" + "1" * 5000 + "]", NOT_JSON),
        ('[{"id": 1, "id": 2}]', f"{NOT_JSON}: the key 'id' comes twice"),
        ("{}", "bad_json: x.json: expected a list of Label Studio's tasks, got one object"),
        ("[1]", BAD_TASK),
        (bad_task("a", choices("")), BAD_TASK),
        (bad_task("a", choices("b", "c")), BAD_TASK),
        (bad_task(7, choices("b")), BAD_TASK),
        (bad_task("a", choices(7)), BAD_TASK),
        ("a,label\n1,2\n", "x.json: expected decisions with the columns file and label, got 'a', 'label'"),
        ("file,label\n,cat\n", "line 2: expected the name of an image, got an empty cell"),
        ("file,label\na,cat\na,dog\n", "x.json: 'a' is both 'cat' and 'dog'; keep one of the two rows"),
    ],
)
def test_decisions_that_cannot_be_meant_are_refused(tmp_path, text, message):
    """Fault 41: malformed, deep, huge or contradictory files are named with their place."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(TableError, match=re.escape(message)):
        read_decisions(tmp_path / "x.json")


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path, monkeypatch):
    """The message has the path and the reason."""
    with pytest.raises(TableError, match=r"cannot read .*x\.json: No such file"):
        read_decisions(tmp_path / "x.json")
    monkeypatch.setattr("assay.data.label_studio._JSON_LIMIT", 3)
    (tmp_path / "x.json").write_text("[   ]")
    with pytest.raises(TableError, match=r"x\.json: expected at most 3 bytes; split the file"):
        read_decisions(tmp_path / "x.json")


# Labels of a data set


@pytest.fixture
def decided(tmp_path):
    """A data set of four images and two classes, the first image trusted, with the decisions of a CSV."""
    names, noisy, trusted = ("a.png", "b.png", "c.png", "d.png"), [0, 1, 1, -1], [1, -1, -1, -1]
    dataset = Dataset(names, MemorySource(names), ("cat", "dog"), np.array(noisy), np.array(trusted))
    (tmp_path / "images").mkdir()

    def found(*rows):
        (tmp_path / "d.csv").write_text("\n".join(["file,label", *rows]))
        return with_decisions(dataset, tmp_path / "d.csv", tmp_path / "images")

    return found


def test_decisions_stand_beside_the_trusted_labels(decided):
    """They change no label; names may begin above the images; an empty file changes nothing."""
    found, before = decided("images/d.png,dog", "b.png,cat", "c.png,", "/c.png,dog"), decided()
    assert (found.decided, found.known.tolist()) == ({1: 0, 3: 1}, [1, 0, UNKNOWN, 1])
    assert found.trusted.tolist() == before.trusted.tolist()
    assert found.fingerprint() == before.fingerprint()
    assert found.notes[0] == "d.csv: decisions used as trusted labels for training, in no figure: 2"
    assert (before.decided, before.decisions_digest(), before.notes) == ({}, None, ())


def test_a_trusted_label_stays(decided):
    """A decision of its image, or of one that is not here, is left out; others have a digest of their own."""
    found = decided("a.png,cat", "b.png,cat", "gone.png,dog")
    assert found.decided == {1: 0}
    assert found.notes[1:] == (
        "d.csv: decisions of images with a trusted label, which stays: 1",
        "d.csv: decisions of images that are not here: 1",
    )
    one, same = decided("b.png,cat", "c.png,dog"), decided("c.png,dog", "b.png,cat")
    other = decided("b.png,dog", "c.png,dog")
    assert one.decisions_digest() == same.decisions_digest() != other.decisions_digest()


def test_decisions_that_do_not_fit_are_refused(decided):
    """A label that is no class, and decisions of other images."""
    with pytest.raises(LabelError, match=r"d\.csv: 'b\.png' was decided to be 'cow', which is no class"):
        decided("b.png,cow")
    with pytest.raises(DataError, match=r"none of its 1 decisions is of an image of this data set.*'x\.png'"):
        decided("x.png,cat")


def test_a_decision_that_no_class_is_right_comes_back_from_every_file(store, tmp_path):
    """It differs from a skipped image, and no class has its empty name."""
    decide(store, "1.png", NO_CLASS)
    decide(store, "2.png", None)
    write_csv(tmp_path / "file", store.states)
    for path in (tmp_path / "file", store.path):
        assert [row.after for row in read_decisions(path)] == [NO_CLASS, None]
