"""Decisions in CSV and in Label Studio's JSON: out, back in without change, and as labels of a data set."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.dataset import Dataset
from assay.data.decision_store import State, open_decisions
from assay.data.decisions import read_decisions, standing, with_decisions, write_csv, write_label_studio
from assay.data.memory import MemorySource
from assay.errors import DataError, LabelError, TableError
from assay.types import UNKNOWN

WRITERS = {"decisions.csv": write_csv, "decisions.json": write_label_studio}
LABELS = ("cat", "NA", "007", "=cmd()", "<script>", 'a"b, c', "two\nlines", "é", None)
ME = {"who": "mia, the 1st", "client": "one"}


def decided(folder, names, labels):
    store = open_decisions(folder / "decisions.sqlite")
    store.connection.execute("PRAGMA synchronous = OFF")  # a hundred examples in a second
    for name, label in zip(names, labels, strict=False):
        store.decide(name, label, noisy="dog", revision=0, **ME)
    return store


@pytest.fixture
def store(tmp_path):
    """Nine images decided, the first one twice and back, and one taken back."""
    found = decided(tmp_path, [f"{i}.png" for i in range(9)], LABELS)
    found.decide("0.png", "ape", noisy="dog", revision=1, **ME)
    found.undo(**ME)
    found.decide("gone.png", "cat", noisy=None, revision=0, **ME)
    found.undo(**ME)
    yield found
    found.close()


def facts(rows):
    return [(row.name, row.after, row.before, row.who, row.at) for row in rows]


@pytest.mark.parametrize("name", ["decisions.sqlite", *WRITERS])
def test_the_labels_are_read_from_any_of_the_files(store, tmp_path, name):
    """Fault 35: the database, CSV and JSON have the same labels; what was taken back is in none."""
    if name in WRITERS:
        WRITERS[name](tmp_path / name, store.states)
    found = {row.name: row.after for row in read_decisions(tmp_path / name)}
    assert found == {f"{i}.png": label for i, label in enumerate(LABELS)}


@pytest.mark.parametrize("name", ["decisions.sqlite", *WRITERS])
def test_the_noisy_label_is_the_one_that_came_with_the_image(store, tmp_path, name):
    """Of an image that was decided twice too; one undo takes an import back."""
    store.decide("0.png", "bird", noisy="dog", revision=store.states["0.png"].revision, **ME)
    if name in WRITERS:
        WRITERS[name](tmp_path / name, store.states)
    (row,) = (row for row in read_decisions(tmp_path / name) if row.name == "0.png")
    assert (row.before, row.after) == ("dog", "bird")
    (tmp_path / "in").mkdir()
    other = open_decisions(tmp_path / "in" / "decisions.sqlite")
    other.add([row])
    assert other.undo(who="bo", client=row.client).after == "dog"
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
    store = decided(folder, labels, labels.values())
    for name, write in WRITERS.items():
        write(folder / name, {**store.states, "undone": State()})
        assert facts(read_decisions(folder / name)) == facts(standing(store.states))
    store.close()


def test_csv_is_a_file_of_trusted_labels(store, tmp_path):
    """It has the columns that a label file has, and an empty label for a skipped image."""
    write_csv(tmp_path / "decisions.csv", {"a.png": store.states["0.png"], "b.png": store.states["8.png"]})
    header, first, second = (tmp_path / "decisions.csv").read_text().splitlines()
    assert header == "file,label,status,noisy_label,who,at"
    assert first.startswith('0.png,cat,decided,dog,"mia, the 1st",20')
    assert second.startswith('8.png,,skipped,dog,"mia, the 1st",20')


def test_json_is_as_label_studio_has_it(store, tmp_path):
    """One task an image, one annotation, one choice; a skip is a cancelled annotation."""
    write_label_studio(tmp_path / "x.json", {name: store.states[name] for name in ("0.png", "8.png")})
    first, second = json.loads((tmp_path / "x.json").read_text())
    assert first["data"] == {"image": "0.png", "noisy_label": "dog"}
    (annotation,) = first["annotations"]
    assert annotation["result"] == [
        {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": ["cat"]}}
    ]
    assert (annotation["was_cancelled"], second["annotations"][0]["was_cancelled"]) == (False, True)


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
        (bad_task("a", []), BAD_TASK),
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
    monkeypatch.setattr("assay.data.decisions._JSON_LIMIT", 3)
    (tmp_path / "x.json").write_text("[   ]")
    with pytest.raises(TableError, match=r"x\.json: expected at most 3 bytes; split the file"):
        read_decisions(tmp_path / "x.json")


@pytest.fixture
def dataset():
    """Four images of two classes; the first is trusted."""
    names, noisy, trusted = ("a.png", "b.png", "c.png", "d.png"), [0, 1, 1, -1], [1, -1, -1, -1]
    return Dataset(names, MemorySource(names), ("cat", "dog"), np.array(noisy), np.array(trusted))


def csv(tmp_path, rows: str):
    (tmp_path / "d.csv").write_text(f"file,label\n{rows}")
    return tmp_path / "d.csv"


def test_decisions_stand_beside_the_trusted_labels(dataset, tmp_path):
    """They change no label; names may begin above the images; an empty file changes nothing."""
    (tmp_path / "images").mkdir()
    rows = "images/d.png,dog\nb.png,cat\nc.png,\n/c.png,dog\n"
    found = with_decisions(dataset, csv(tmp_path, rows), tmp_path / "images")
    assert found.decided == {1: 0, 3: 1}
    assert found.known.tolist() == [1, 0, UNKNOWN, 1]
    assert found.trusted.tolist() == dataset.trusted.tolist()
    assert found.fingerprint() == dataset.fingerprint()
    assert found.notes[0] == "d.csv: decisions used as trusted labels for training, in no figure: 2"
    found = with_decisions(dataset, csv(tmp_path, ""), tmp_path)
    assert (found.decided, found.decisions_digest(), found.notes) == ({}, None, ())


def test_a_trusted_label_stays(dataset, tmp_path):
    """A decision of its image, or of one that is not here, is left out; others have a digest of their own."""
    found = with_decisions(dataset, csv(tmp_path, "a.png,cat\nb.png,cat\ngone.png,dog\n"), tmp_path)
    assert found.decided == {1: 0}
    assert found.notes[1:] == (
        "d.csv: decisions of images with a trusted label, which stays: 1",
        "d.csv: decisions of images that are not here: 1",
    )
    rows = ["b.png,cat\nc.png,dog\n", "c.png,dog\nb.png,cat\n", "b.png,dog\nc.png,dog\n"]
    one, same, other = (
        with_decisions(dataset, csv(tmp_path, row), tmp_path).decisions_digest() for row in rows
    )
    assert one == same != other  # the order does not matter


def test_decisions_that_do_not_fit_are_refused(dataset, tmp_path):
    """A label that is no class, and decisions of other images."""
    with pytest.raises(LabelError, match=r"d\.csv: 'b\.png' was decided to be 'cow', which is no class"):
        with_decisions(dataset, csv(tmp_path, "b.png,cow\n"), tmp_path)
    with pytest.raises(DataError, match=r"none of its 1 decisions is of an image of this data set.*'x\.png'"):
        with_decisions(dataset, csv(tmp_path, "x.png,cat\n"), tmp_path)
