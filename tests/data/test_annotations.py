"""Labels of several annotators: which are read, what is refused, and what stands for all of an image."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest

import assay
from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset
from assay.errors import LabelError, TableError, UsageError

LONG = (
    "file,annotator,label\n"
    "0.png,bob,dog\n"
    "0.png,ann,cat\n"
    "1.png,ann,cat\n"
    "0.png,eve,dog\n"
    "1.png,bob,dog\n"
    "2.png,bob,\n"
)
PIXELS = np.zeros((3, 8, 8, 3), np.uint8)


@pytest.fixture
def read(make_folder, tmp_path):
    """Reads a table of annotations, of three images."""
    images = make_folder("0.png", "1.png", "2.png")

    def read(text, name="long.csv", **options):
        (tmp_path / name).write_text(text)
        return read_dataset(images, ReadOptions(annotations=tmp_path / name, **options))

    return read


def told(dataset):
    """(file, annotator, label) of all labels, as a person would say them."""
    given = dataset.annotations
    names, people, words = dataset.names, given.names, dataset.classes
    return [
        (names[i], people[a], words[label])
        for i, a, label in zip(given.image, given.annotator, given.label, strict=True)
    ]


def test_all_labels_are_kept_and_the_most_frequent_is_the_noisy_one(read):
    """Of two equally frequent the first in the file; an empty label is none."""
    found = read(LONG)
    rows = [tuple(line.split(",")) for line in LONG.splitlines()[1:-1]]
    assert told(found) == rows
    assert [found.classes[label] if label >= 0 else "" for label in found.noisy] == ["dog", "cat", ""]
    assert "long.csv: 5 labels of 2 images by 3 annotators" in found.notes
    assert "long.csv: images with different labels, the most frequent is used: 2, in a tie the first: 1" in (
        found.notes
    )


@pytest.mark.parametrize("header", ["task,worker,label", "label,image,ANNOTATOR_ID", "path,worker_id,class"])
def test_usual_names_of_columns_are_known(read, header):
    """In any order and case, without a word on columns that were read."""
    columns = ["label" if name in ("label", "class") else name.casefold()[0] for name in header.split(",")]
    cells = {"t": "0.png", "i": "0.png", "p": "0.png", "w": "ann", "a": "ann"}
    lines = [",".join(cells.get(column, label) for column in columns) for label in ("cat", "cat")]
    found = read("\n".join([header, *lines, lines[0].replace("0.png", "1.png").replace("cat", "dog")]))
    assert told(found) == [("0.png", "ann", "cat"), ("1.png", "ann", "dog")]
    assert not [note for note in found.notes if "not read" in note]


def test_json_parquet_and_data_frames_are_read_as_csv_is(read, make_folder, tmp_path):
    """The same labels from each, and from tables in memory."""
    images, expected = make_folder("0.png", "1.png", "2.png"), told(read(LONG))
    rows = [dict(zip(("file", "annotator", "label"), line.split(","), strict=True)) for line in LONG.split()]
    frame = pl.DataFrame(rows[1:])
    frame.write_parquet(tmp_path / "long.parquet")
    lines = "\n".join(map(json.dumps, rows[1:]))
    assert told(read(lines, "long.jsonl")) == expected
    for table in (tmp_path / "long.parquet", frame, pd.DataFrame(rows[1:]), frame.to_dict(as_series=False)):
        assert told(assay.read_dataset(images, annotations=table)) == expected


def test_images_in_memory_are_named_by_place_or_path():
    """Place 0 is the first image; a row of no image stays a row with its reason."""
    table = {"task": [0, 0, 2], "worker": ["a", "b", "a"], "label": ["x", "y", "y"]}
    found = assay.read_dataset(PIXELS, trusted=[None, "x", None], annotations=table)
    assert told(found) == [("0", "a", "x"), ("0", "b", "y"), ("2", "a", "y")]
    assert found.noisy.tolist() == [0, -1, 1]
    few = assay.read_dataset(PIXELS[:2], annotations=table)
    assert few.names == ("0", "1", "2")
    assert few.skipped[2].detail == "annotations row 3 names '2', which does not exist"
    with pytest.raises(UsageError, match="--noisy or --annotations, got both"):
        assay.read_dataset(PIXELS, noisy=["x"] * 3, annotations=table)


def test_one_label_of_an_annotator_for_an_image(read):
    """Two different ones are refused with both rows; a row that comes twice counts once."""
    with pytest.raises(
        LabelError, match=r"long.csv line 8: 'ann' labels '0.png' as 'dog' here and as 'cat' in line 3"
    ):
        read(LONG + "0.png,ann,dog\n")
    assert told(read(LONG + "0.png,ann,cat\n")) == told(read(LONG))


def test_without_names_all_labels_are_of_one_pooled_annotator(read):
    """Two labels of an image may then be of two people."""
    found = read("file,label\n0.png,cat\n0.png,dog\n0.png,dog\n1.png,cat\n")
    assert told(found) == [
        ("0.png", "", "cat"),
        ("0.png", "", "dog"),
        ("0.png", "", "dog"),
        ("1.png", "", "cat"),
    ]
    assert "long.csv: 4 labels of 2 images by annotators who are not named" in found.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label\ncat\ndog\n", "long.csv: expected columns such as file, annotator, label"),
        ("file,worker,label\n0.png,,cat\n", "long.csv line 2: expected the annotator who gave the label"),
        (
            "file,worker,annotator,label\n0.png,a,b,cat\n",
            "one column of annotators, got 'worker' and 'annotator'",
        ),
    ],
)
def test_a_table_that_does_not_say_who_labelled_what_is_refused(read, text, message):
    """With its place, and what to do."""
    with pytest.raises(TableError, match=message):
        read(text)


def test_annotations_take_the_place_of_noisy_labels(read, tmp_path):
    """Both at once are refused."""
    with pytest.raises(UsageError, match="expected --noisy or --annotations, got both"):
        read(LONG, noisy=tmp_path / "long.csv")


def test_hidden_labels_hide_what_annotators_said(read):
    """Of the holdout nothing is left, and another annotator makes another data set."""
    found = read(LONG)
    assert told(found.without(np.array([0]))) == [("1.png", "ann", "cat"), ("1.png", "bob", "dog")]
    assert found.fingerprint() == read(LONG).fingerprint()
    assert found.fingerprint() != read(LONG.replace("eve", "joe")).fingerprint()
    assert found.fingerprint() != read(LONG.replace("eve,dog", "eve,cat")).fingerprint()
