"""A copy of the input's label file with corrected labels."""

import polars as pl
import pytest

from assay.data.dataset import ReadOptions
from assay.data.relabel import relabel
from assay.data.tables import read_table
from assay.errors import DataError, UsageError

NAMES = ["a.png", "b.png", "c.png"]
NEW = {"b.png": "new", "nowhere.png": "x"}


def relabelled(tmp_path, name, content, labels=NEW, names=NAMES, **columns):
    (tmp_path / name).write_bytes(content)
    options = ReadOptions(**columns)
    relabel(
        tmp_path / name, tmp_path / f"new-{name}", labels, names, images=tmp_path / "images", options=options
    )
    return (tmp_path / f"new-{name}").read_bytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"1\n2\n3\n", b"1\nnew\n3\n"),
        (b"1\n2", b"1\nnew"),
        (b"1\r\n2\r\n3\r\n", b"1\r\nnew\r\n3\r\n"),
        (b"1\n\n3\n\n\n", b"1\nnew\n3\n\n\n"),
        (b"label\n1\n2\n3\n", b"label\n1\nnew\n3\n"),
        (b"\xef\xbb\xbf1\n2\n3\n", b"\xef\xbb\xbf1\nnew\n3\n"),
        (b"path,label\nb.png,2\na.png,1\n", b"path,label\nb.png,new\na.png,1\n"),
        (b"label;x;file\n2;\"q\";b.png\n1;'z';a.png\n", b"label;x;file\nnew;q;b.png\n1;'z';a.png\n"),
        (b"path\tlabel\n\nb.png\t2\n\nb.png\t3\n", b"path\tlabel\n\nb.png\tnew\n\nb.png\tnew\n"),
        (b'path,label\na.png,"two\nlines"\nb.png,"2\n2"\n', b'path,label\na.png,"two\nlines"\nb.png,new\n'),
        # As a spreadsheet writes it.
        (
            b"sep=;\r\nfile;label\r\na.png;1;\r\n;;\r\nb.png;1;\r\n;;\r\n\r\n",
            b"sep=;\r\nfile;label\r\na.png;1;\r\n;;\r\nb.png;new;\r\n;;\r\n\r\n",
        ),
    ],
)
def test_only_the_labels_that_changed_are_other_bytes(tmp_path, content, expected):
    """Order, delimiter, header, line ends, mark and all other rows stay, byte for byte."""
    assert relabelled(tmp_path, "labels.csv", content) == expected


def test_columns_may_be_named_and_cells_need_quotes(tmp_path):
    """As when the file was read for the run; the copy reads back to the very label."""
    content = b"n,L\na.png,1\nb.png,2\n"
    label = {"b.png": 'a "b", c\nd'}
    relabelled(tmp_path, "labels.csv", content, label, path_column="n", label_column="L")
    table = read_table(tmp_path / "new-labels.csv", path_column="n", label_column="L")
    assert table.rows == (("a.png", "1"), ("b.png", 'a "b", c\nd'))


def test_formulas_stay_marked(tmp_path):
    """A file that --excel-safe wrote has no live formula afterwards either."""
    content = b"file,label,excel_safe\n'=a.png,1,true\nb.png,2,true\n"
    new = relabelled(tmp_path, "labels.csv", content, {"=a.png": "+1", "b.png": "3"}, ["=a.png", "b.png"])
    assert new == b"file,label,excel_safe\n'=a.png,'+1,true\nb.png,3,true\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"file_name":"b.png","n":0.10,"label":"2"}', '{"file_name":"b.png","n":0.10,"label":"5"}'),
        ('{"file_name":"b.png"}', '{"file_name":"b.png", "label": "5"}'),
        ('{"file_name":"b.png","w":2 }', '{"file_name":"b.png","w":2, "label": "5" }'),
        (
            '{"category":{"label":[1, "}"]},"file_name":"b.png","label" : 3}',
            '{"category":{"label":[1, "}"]},"file_name":"b.png","label" : 5}',
        ),
        ('{"label":null,"file_name":"b.png"}', '{"label":"5","file_name":"b.png"}'),
        (
            '{"label":"","x":"\\"label\\": 1","file_name":"b.png"}',
            '{"label":"5","x":"\\"label\\": 1","file_name":"b.png"}',
        ),
    ],
)
@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
def test_a_label_in_json_lines_is_replaced_where_it_is(tmp_path, name, line, expected):
    """Other fields and lines stay; a missing label is added, and a number stays a number."""
    first = '{"file_name": "a.png", "label": "1"}\n'
    new = relabelled(tmp_path, name, (first + line + "\n").encode(), {"b.png": "5"})
    assert new.decode() == first + expected + "\n"


def test_an_image_is_known_by_any_spelling_of_its_path(tmp_path):
    """Fault 26: a run knows it by one of them; all its rows get its label."""
    name = "caf\u00e9/b.png"
    text = f"file,label\n./{name},1\nimages/{name},1\ncafe\u0301/b.png,1\ncaf\u00e9\\b.png,1\nother.png,1\n"
    new = relabelled(tmp_path, "labels.csv", text.encode(), {name: "new"}, [name]).decode()
    assert new == text.replace("b.png,1", "b.png,new")


def test_what_cannot_be_relabelled_is_refused(tmp_path):
    """The file itself, Parquet, and more labels than images; what changed is counted."""
    (tmp_path / "x.csv").write_text("1\n2\n3\n")
    labels = {"a.png": "1", "b.png": "5", "c.png": "6"}
    assert relabel(tmp_path / "x.csv", tmp_path / "y.csv", labels, NAMES, images=tmp_path) == 2
    with pytest.raises(UsageError, match="expected another file than the labels themselves"):
        relabel(tmp_path / "x.csv", tmp_path / "x.csv", NEW, NAMES, images=tmp_path)
    with pytest.raises(UsageError, match=r"expected CSV or JSON lines, got paths and labels with spaces be"):
        relabelled(tmp_path, "z.txt", b"a.png cat\nb.png dog\n")
    pl.DataFrame({"file": ["a.png"], "label": ["x"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="expected CSV or JSON lines, got Parquet"):
        relabel(tmp_path / "x.parquet", tmp_path / "y.parquet", NEW, NAMES, images=tmp_path)
    with pytest.raises(DataError, match=r"more.csv: expected at most 3 labels, one for each image .* got 4;"):
        relabelled(tmp_path, "more.csv", b"1\n2\n3\n4\n")
    assert (tmp_path / "x.csv").read_text() == "1\n2\n3\n"
