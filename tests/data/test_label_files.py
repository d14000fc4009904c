import json

import polars as pl
import pytest

from assay.data.label_files import LabelFile, read_label_file
from assay.errors import TableError

ROWS = [("b/1.png", "NA"), ("a.png", "007"), ("c.png", "")]


def test_csv_json_lines_and_parquet_say_the_same(tmp_path, write_file):
    """One table in three formats gives the same entries and labels."""
    paths, labels = zip(*ROWS, strict=True)
    write_file("a.csv", "label,file_name\n" + "".join(f"{label},{path}\n" for path, label in ROWS))
    records = [json.dumps({"file_name": path, "label": label or None}) + "\n" for path, label in ROWS]
    write_file("a.jsonl", "".join(records))
    pl.DataFrame({"image": paths, "label": labels}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        file = read_label_file(tmp_path / name)
        assert (file.entries, file.labels) == (paths, labels)
    assert file.where(2) == "a.parquet row 3"


def test_one_column_has_no_entries(write_file):
    """A file of labels alone belongs to the images by order."""
    path = write_file("a.csv", "x\ny\n")
    assert read_label_file(path) == LabelFile(path, ("x", "y"), None, (1, 2))


def test_columns_can_be_named(write_file):
    """Given names win over known ones."""
    path = write_file("a.csv", "path,label,name,corrected\np,l,n,f\n")
    file = read_label_file(path, path_column="name", label_column="corrected")
    assert (file.entries, file.labels) == (("n",), ("f",))


@pytest.mark.parametrize("column", ["file", "name", "NAME"])
def test_a_path_column_that_another_file_has_is_none_of_this_one(write_file, column):
    """One flag serves all files: where there is no such column, the one of a known name is meant."""
    file = read_label_file(write_file("a.csv", f"{column},label\np,l\n"), path_column="img")
    assert (file.entries, file.labels) == (("p",), ("l",))


def test_a_name_is_a_path_only_where_nothing_else_is(write_file):
    """The tables of assay call the image so; others call the class so."""
    file = read_label_file(write_file("a.csv", "name,file,label\nn,f,l\n"))
    assert file.entries == ("f",)


@pytest.mark.parametrize(
    ("text", "named", "message"),
    [
        (
            "path,weight\n1.png,2\n",
            {},
            "a.csv: expected one label column (label, class, target, y, category), got none in "
            "'path', 'weight'; "
            "name it with --label-col",
        ),
        (
            "id,label\n1,2\n",
            {},
            "a.csv: expected one path column (path, file_name, filename, filepath, image, "
            "image_path, file), got "
            "none in 'id', 'label'; name it with --path-col",
        ),
        (
            "path,label,class\n1,2,3\n",
            {},
            "a.csv: expected one label column (label, class, target, y, category), got 2 in 'path', 'label', "
            "'class'; name it with --label-col",
        ),
        (
            "path,label\n1,2\n",
            {"label_column": "klass"},
            "a.csv: expected one label column ('klass'), got none in 'path', 'label'; name it with "
            "--label-col",
        ),
    ],
)
def test_columns_that_cannot_be_told_are_refused(write_file, text, named, message):
    """No column, or more than one, that may be meant is an error that says which flag decides."""
    with pytest.raises(TableError) as refused:
        read_label_file(write_file("a.csv", text), **named)
    assert str(refused.value) == message


def test_a_label_that_is_not_utf_8_is_refused_with_its_line(write_file):
    """Latin-1 text is refused as a label, naming line and byte."""
    path = write_file("a.csv", b"path,label\n1.png,cat\n2.png,k\xf6ter\n")
    with pytest.raises(TableError, match=r"a\.csv line 3: byte 0xF6 of 'k\\udcf6ter' is not UTF-8"):
        read_label_file(path)


def test_json_of_another_form_is_told_apart(write_file):
    """Lines are read; a whole file of COCO's or Label Studio's is not taken for CSV."""
    assert read_label_file(write_file("a.json", '{"path": "1.png", "label": 3}\n')).labels == ("3",)
    for text in ('[\n {"image": "1.png"}\n]\n', '{"images": [], "annotations": []}\n{'):
        with pytest.raises(TableError, match="of JSON only lines are read"):
            read_label_file(write_file("b.json", text))
