"""Decisions in CSV and in Label Studio's JSON: out, and back in without change."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.decision_files import (
    read_any_decisions,
    read_decisions,
    standing,
    write_csv,
    write_label_studio,
)
from assay.data.decision_store import open_decisions
from assay.data.decisions import State
from assay.errors import TableError

WRITERS = {"decisions.csv": write_csv, "decisions.json": write_label_studio}
LABELS = ("cat", "NA", "007", "=cmd()", "<script>", 'a"b, c', "two\nlines", "é", None)

ME = {"who": "mia, the 1st", "client": "one"}


def decided(folder, names, labels):
    store = open_decisions(folder / "decisions.sqlite")
    for name, label in zip(names, labels, strict=False):
        store.decide(name, label, noisy="dog", revision=0, **ME)
    return store


@pytest.fixture
def store(tmp_path):
    found = decided(tmp_path, [f"{i}.png" for i in range(9)], LABELS)
    found.decide("0.png", "ape", noisy="dog", revision=1, **ME)
    found.undo(**ME)
    found.decide("gone.png", "cat", noisy=None, revision=0, **ME)
    found.undo(**ME)
    yield found
    found.close()


EXPECTED = {f"{i}.png": label for i, label in enumerate(LABELS) if label is not None}


@pytest.mark.parametrize("name", ["decisions.sqlite", *WRITERS])
def test_the_labels_are_read_from_any_of_the_files(store, tmp_path, name):
    """The database, CSV and JSON say the same; what was skipped or taken back is in none."""
    if name in WRITERS:
        WRITERS[name](tmp_path / name, store.states)
    assert read_decisions(tmp_path / name) == EXPECTED


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_comes_back_without_change(store, tmp_path, name):
    """Exported, imported into an empty store and exported again: the same bytes, skips included."""
    WRITERS[name](tmp_path / name, store.states)
    (tmp_path / "other").mkdir()
    other = open_decisions(tmp_path / "other" / "decisions.sqlite")
    assert other.add(read_any_decisions(tmp_path / name)) == len(LABELS)
    WRITERS[name](tmp_path / "again", other.states)
    assert (tmp_path / "again").read_bytes() == (tmp_path / name).read_bytes()
    assert other.states["8.png"].is_skipped
    other.close()


def test_the_given_label_is_the_one_that_came_with_the_image(store, tmp_path):
    """Of an image that was decided twice too, from whichever file; one undo takes the import back."""
    store.decide("0.png", "bird", noisy="dog", revision=store.states["0.png"].revision, **ME)
    for name, write in WRITERS.items():
        write(tmp_path / name, store.states)
    for name in ("decisions.sqlite", *WRITERS):
        (row,) = (row for row in read_any_decisions(tmp_path / name) if row.name == "0.png")
        assert (row.before, row.after) == ("dog", "bird")
        (tmp_path / f"in {name}").mkdir()
        other = open_decisions(tmp_path / f"in {name}" / "decisions.sqlite")
        other.add([row])
        write_csv(tmp_path / "again.csv", {"0.png": other.states["0.png"]})
        assert ",bird,decided,dog," in (tmp_path / "again.csv").read_text()
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
    """Whatever the images are called."""
    folder = tmp_path_factory.mktemp("any")
    store = decided(folder, labels, labels.values())
    expected = [(row.name, row.after, row.before, row.who, row.at) for row in standing(store.states)]
    for name, write in WRITERS.items():
        write(folder / name, store.states)
        read = read_any_decisions(folder / name)
        assert [(row.name, row.after, row.before, row.who, row.at) for row in read] == expected
    store.close()


def test_csv_is_a_file_of_trusted_labels(store, tmp_path):
    """It has the columns that a label file has, and an empty label for a skipped image."""
    write_csv(tmp_path / "decisions.csv", {"a.png": store.states["0.png"], "b.png": store.states["8.png"]})
    header, first, second = (tmp_path / "decisions.csv").read_text().splitlines()
    assert header == "file_name,label,status,noisy,who,at"
    assert first.startswith('0.png,cat,decided,dog,"mia, the 1st",20')
    assert second.startswith('8.png,,skipped,dog,"mia, the 1st",20')


def test_nothing_decided_is_a_file_too(tmp_path):
    """An empty export reads back as nothing."""
    for name, write in WRITERS.items():
        write(tmp_path / name, {"a": State()})
        assert read_decisions(tmp_path / name) == {}


def test_json_is_as_label_studio_has_it(store, tmp_path):
    """One task an image, one annotation, one choice; a skip is a cancelled annotation."""
    write_label_studio(tmp_path / "x.json", {name: store.states[name] for name in ("0.png", "8.png")})
    first, second = json.loads((tmp_path / "x.json").read_text())
    assert first["data"] == {"image": "0.png", "noisy": "dog"}
    (annotation,) = first["annotations"]
    assert annotation["result"] == [
        {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": ["cat"]}}
    ]
    assert (annotation["was_cancelled"], second["annotations"][0]["was_cancelled"]) == (False, True)


def test_tasks_that_label_studio_exported_are_read(tmp_path):
    """Its additional fields are ignored, its last annotation counts, a task without one is open."""
    choice = {"value": {"choices": ["cat"]}, "id": "x", "type": "choices", "from_name": "l", "to_name": "i"}
    tasks = [
        {
            "id": 1,
            "data": {"image": "a.png"},
            "annotations": [
                {"id": 5, "completed_by": 3, "was_cancelled": True, "result": []},
                {"id": 6, "completed_by": 3, "was_cancelled": False, "result": [choice], "lead_time": 1.5},
            ],
            "predictions": [],
        },
        {"id": 2, "data": {"image": "b.png"}, "annotations": []},
    ]
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "x.json").write_text(json.dumps(tasks), encoding=encoding)
        assert read_decisions(tmp_path / "x.json") == {"a.png": "cat"}
        assert [row.name for row in read_any_decisions(tmp_path / "x.json")] == ["a.png"]


BAD_TASK = "expected data.image and one choice for it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "bad_json: x.json is not JSON that can be read"),
        ("[1,", "bad_json: x.json is not JSON that can be read"),
        ("[" + "1" * 5000 + "]", "bad_json: x.json is not JSON that can be read"),
        ('[{"id": 1, "id": 2}]', "bad_json: x.json is not JSON that can be read: the key 'id' comes twice"),
        ("{}", "bad_json: x.json: expected a list of Label Studio's tasks, got one object"),
        ("[1]", f"bad_json: x.json task 1: {BAD_TASK}"),
        ('[{"data": {}, "annotations": [{"result": []}]}]', f"bad_json: x.json task 1: {BAD_TASK}"),
        (
            '[{"data": {"image": "a"}, "annotations": [{"result": [{"value": {"choices": ["a", "b"]}}]}]}]',
            f"bad_json: x.json task 1: {BAD_TASK}",
        ),
        (
            '[{"data": {"image": 7}, "annotations": [{"result": [{"value": {"choices": ["a"]}}]}]}]',
            f"bad_json: x.json task 1: {BAD_TASK}",
        ),
        (
            "path,label\n1,2\n",
            "x.json: expected decisions with the columns file_name and label, got 'path', 'label'",
        ),
        ("file_name,label\n,cat\n", "line 2: expected the name of an image, got an empty cell"),
        ("file_name,label\na,cat\na,dog\n", "x.json: 'a' is both 'cat' and 'dog'; keep one of the two rows"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, message):
    """Malformed, deep, huge or contradictory files are named with their place."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(TableError, match=re.escape(message)):
        read_decisions(tmp_path / "x.json")


def test_a_file_that_is_not_there_is_named(tmp_path):
    """The message has the path and the reason."""
    with pytest.raises(TableError, match=r"cannot read .*x\.csv: No such file"):
        read_decisions(tmp_path / "x.csv")
