"""Features in place of images: .npy, Parquet and arrays, and which label belongs to which row."""

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assay.data.dataset import ReadOptions, Skipped
from assay.data.loader import load
from assay.data.read import read_dataset, read_images, read_trusted
from assay.data.vectors import read_vectors, vectors_of
from assay.errors import DataError, TableError, UsageError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
NAMES = ["a.txt", "b.txt", "c.txt", "d.txt"]
NOISY = "file,label\na.txt,x\nb.txt,y\nc.txt,x\nd.txt,y\n"


@pytest.fixture
def save(tmp_path):
    """Saves an array as .npy or a frame as Parquet."""

    def write(what, name: str = "v.npy") -> Path:
        path = tmp_path / name
        np.save(path, what) if isinstance(what, np.ndarray) else what.write_parquet(path)
        return path

    return write


def frame(rows: np.ndarray = ROWS, **columns) -> pl.DataFrame:
    return pl.DataFrame({"file": NAMES, "embedding": rows.tolist()} | columns)


@pytest.mark.parametrize("kind", [np.float16, np.float64, ">f4", np.int8, "fortran"])
def test_numbers_of_any_type_are_the_same_vectors(save, kind):
    """Whatever a .npy file stores, the rows and what stands for their bytes are those of float32."""
    stored = np.asfortranarray(ROWS) if kind == "fortran" else ROWS.astype(kind)
    found, wanted = read_vectors(save(stored)), vectors_of(ROWS)
    assert np.array_equal(found.rows, ROWS)
    assert [found.read(row) for row in range(4)] == [wanted.read(row) for row in range(4)]


def test_a_file_of_floats_is_mapped_not_copied(save):
    """float32 and float16 stay in the file; bad rows become zeros in memory alone."""
    rows = ROWS.copy()
    rows[1, 2], rows[3, 0] = np.nan, np.inf
    path = save(rows)
    before = path.read_bytes()
    found = read_vectors(path)
    assert isinstance(found.rows, np.memmap)
    assert not found.rows[[1, 3]].any()
    assert path.read_bytes() == before
    assert found.read(1) == Skipped("not_finite", "row 2 of v.npy has NaN or infinity in 1 places")


def test_an_array_of_the_user_is_not_changed():
    """Bad rows are zeros in a copy; what is too large for float32 is a bad row."""
    mine = ROWS.astype(np.float64)
    mine[2, 0] = 1e300
    found = vectors_of(mine)
    assert {*found.skipped} == {2}
    assert mine[2, 0] == 1e300
    small = ROWS.copy()
    small[0, 0] = np.nan
    vectors_of(small)
    assert np.isnan(small[0, 0])


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"file": NAMES, "e": ROWS.tolist()}, True),
        ({"path": NAMES, "e": pl.Series(ROWS.tolist(), dtype=pl.Array(pl.Float64, 3))}, True),
        ({"file": NAMES, "label": [1, 2, 1, 2], **{f"c{i}": ROWS[:, i] for i in range(3)}}, True),
        ({f"c{i}": ROWS[:, i] for i in range(3)}, False),
    ],
)
def test_parquet_holds_lists_or_columns(save, columns, named):
    """One column of lists, or all columns of numbers but names and labels; names where there is a column."""
    found = read_vectors(save(pl.DataFrame(columns), "v.parquet"))
    assert np.array_equal(found.rows, ROWS)
    assert found.names == (tuple(NAMES) if named else None)


def test_a_missing_vector_is_a_skipped_row(save):
    """Null in place of a list, or of a number in it, is a row that cannot be used."""
    rows = [[1.0, 2.0], None, [3.0, None], [4.0, 5.0]]
    found = read_vectors(save(pl.DataFrame({"file": NAMES, "e": rows}), "v.parquet"))
    assert {*found.skipped} == {1, 2}


def refused(what, message: str, kind: type[Exception] = DataError):
    return pytest.param(what, message, kind)


@pytest.mark.parametrize(
    ("what", "message", "kind"),
    [
        refused(
            np.ones(3), r"v.npy: expected numbers in rows of one length, .* got an array \(3,\) of float64"
        ),
        refused(np.ones((0, 3)), r"got an array \(0, 3\) of float64"),
        refused(np.ones((2, 3), complex), r"got an array \(2, 3\) of complex128"),
        refused(np.array([["a"]]), r"got an array \(1, 1\) of <U1"),
        refused(np.array([{}], object), r"expected an array in a .npy file, or Parquet, .*Python objects"),
        refused(pl.DataFrame({"e": [[1.0], [1.0, 2.0]]}), r"row 2: expected 1 numbers .* got 2", TableError),
        refused(
            pl.DataFrame({"file": ["a"]}), r"expected one column of lists .* file \(String\)", TableError
        ),
        refused(pl.DataFrame({"e": [[1]], "f": [[1]]}), r"expected one column of lists", TableError),
        refused(
            pl.DataFrame({"file": ["a", "b", "a"], "e": [[1], [2], [3]]}),
            r"rows 1 and 3: expected different names, got 'a' in both",
            TableError,
        ),
        refused(pl.DataFrame({"file": ["a"], "path": ["b"], "e": [[1]]}), r"one column of names", TableError),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(save, what, message, kind):
    """Each says what was expected and what came."""
    name = "v.npy" if isinstance(what, np.ndarray) else "v.parquet"
    with pytest.raises(kind, match=message):
        read_vectors(save(what, name))


def test_a_pickle_is_not_opened(tmp_path):
    """Under the name of .npy it is no array; a missing file is named."""
    path = tmp_path / "v.npy"
    path.write_bytes(pickle.dumps(ROWS))
    with pytest.raises(DataError, match=r"v\.npy: expected an array in a \.npy file.*magic string"):
        read_vectors(path)
    with pytest.raises(DataError, match=r"cannot read .*other\.npy: No such file"):
        read_vectors(tmp_path / "other.npy")


# Rows and labels


def test_row_i_belongs_to_line_i(save, write_file):
    """The header is not counted; names are those of the label file, without one numbers from 1."""
    features = save(ROWS)
    dataset = read_dataset(None, ReadOptions(features=features, noisy=write_file("noisy.csv", NOISY)))
    assert dataset.names == tuple(NAMES)
    assert dataset.noisy.tolist() == [0, 1, 0, 1]
    assert np.array_equal(dataset.vectors, ROWS)
    alone = read_dataset(None, ReadOptions(features=features, noisy=write_file("lone.csv", "x\ny\n\ny\n")))
    assert alone.names == ("1", "2", "3", "4")
    assert alone.noisy.tolist() == [0, 1, -1, 1]


def test_names_in_parquet_find_their_labels(save, write_file):
    """In the order of the noisy file; a label without a vector and a vector without a label stay rows."""
    features = save(frame().reverse()[1:].vstack(frame()[:0]), "v.parquet")  # c, b, a
    noisy = write_file("noisy.csv", "file,label\nd.txt,y\na.txt,x\nb.txt,y\n")
    dataset = read_dataset(None, ReadOptions(features=features, noisy=noisy))
    assert dataset.names == ("d.txt", "a.txt", "b.txt", "c.txt")
    assert dataset.noisy.tolist() == [1, 0, 1, -1]
    assert dataset.skipped[0].reason == "missing_features"
    assert np.array_equal(dataset.vectors, [[0, 0, 0], *ROWS[[0, 1, 2]]])
    (batch,) = load(dataset, [])
    assert batch.decoded.tolist() == [1, 2, 3]
    assert np.array_equal(batch.images[0], ROWS[:3])


def test_names_that_no_row_has_are_refused(save, write_file):
    """Not one label with a vector is a mistake, and the message shows a name of each side."""
    noisy = write_file("noisy.csv", "file,label\nx.txt,y\nz.txt,x\n")
    with pytest.raises(
        DataError, match=r"none of its 2 paths names a row of v.parquet: .*'x.txt', a row is called 'a"
    ):
        read_dataset(None, ReadOptions(features=save(frame(), "v.parquet"), noisy=noisy))


def test_parquet_may_hold_the_labels_too(save, write_file):
    """Without --noisy its label column is the noisy labels, which are no feature."""
    features = save(frame(label=["x", "y", "x", "y"]), "v.parquet")
    trusted = write_file("trusted.csv", "file,label\nc.txt,y\n")
    dataset = read_dataset(None, ReadOptions(features=features, trusted=trusted))
    assert dataset.noisy.tolist() == [0, 1, 0, 1]
    assert dataset.trusted.tolist() == [-1, -1, 1, -1]


def test_images_name_the_rows_where_labels_do_not(save, write_file, make_folder):
    """Labels without names follow the images in natural order; so do the rows."""
    images, lone = make_folder("10.png", "2.png"), write_file("lone.csv", "x\ny\n")
    dataset = read_dataset(images, ReadOptions(features=save(ROWS[:2]), noisy=lone))
    assert dataset.names == ("2.png", "10.png")
    with pytest.raises(DataError, match=r"a row for each of the 2 images of images in natural order.* got 4"):
        read_dataset(images, ReadOptions(features=save(ROWS), noisy=lone))
    named = write_file("noisy.csv", NOISY)
    with pytest.raises(DataError, match=r"images of the 4 rows of v.npy, found none: .*'a.txt'.*'2.png'"):
        read_dataset(images, ReadOptions(features=save(ROWS), noisy=named))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x\ny\nx\n",
            r"noisy.csv: expected 4 labels, one for each row of v.npy, got 3; .*label i belongs to row",
        ),
        (NOISY + "e.txt,x\n", r"expected 4 lines, one for each row of v.npy, got 5; line i belongs to row i"),
        (
            NOISY.replace("d.txt", "a.txt"),
            r"noisy.csv line 5: expected a name of its own, got 'a.txt' as in line 2",
        ),
    ],
)
def test_another_number_of_labels_is_refused(save, write_file, text, message):
    """A label too many or too few, or one name for two rows, would shift all labels."""
    with pytest.raises(DataError, match=message):
        read_dataset(None, ReadOptions(features=save(ROWS), noisy=write_file("noisy.csv", text)))


def test_several_annotators_need_names(save, write_file):
    """A label file with several lines for one row cannot be in the order of the rows; names in Parquet do."""
    text = "file,annotator,label\na.txt,p,x\na.txt,q,y\nb.txt,p,y\nc.txt,p,x\nd.txt,q,y\n"
    annotations = write_file("long.csv", text)
    with pytest.raises(
        DataError, match=r"v.npy: expected features with names, as long.csv has several lines"
    ):
        read_dataset(None, ReadOptions(features=save(ROWS), annotations=annotations))
    named = read_dataset(None, ReadOptions(features=save(frame(), "v.parquet"), annotations=annotations))
    assert named.annotations.names == ("p", "q")


def test_a_test_set_and_new_rows_are_read_in_the_same_way(save, write_file):
    """Row i of a test set belongs to line i of its labels; without labels names are numbers or Parquet's."""
    features, labels = save(ROWS), write_file("labels.csv", NOISY)
    assert read_trusted(None, ReadOptions(features=features, trusted=labels)).trusted.tolist() == [0, 1, 0, 1]
    assert read_images(None, ReadOptions(features=features)).names == ("1", "2", "3", "4")
    assert read_images(None, ReadOptions(features=save(frame(), "v.parquet"))).names == tuple(NAMES)


def test_neither_images_nor_features_are_refused():
    """One of the two is needed."""
    with pytest.raises(UsageError, match=r"^expected IMAGES or --features FILE, got neither"):
        read_images(None)
