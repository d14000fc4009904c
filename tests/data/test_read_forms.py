import os
import tarfile

import polars as pl
import pytest

from assay.data.dataset import ReadOptions
from assay.data.label_files import read_label_file
from assay.data.read import read_dataset, read_images, read_trusted
from assay.errors import DataError, LabelError, TableError, UsageError
from assay.types import UNKNOWN


def words(dataset, labels):
    return [dataset.classes[label] if label != UNKNOWN else None for label in labels]


def read(images, **options):
    return read_dataset(images, ReadOptions(**options))


def test_class_folders_are_the_noisy_labels(make_folder):
    """Without a noisy file the folder of an image is its label."""
    data = read(make_folder("dog/1.png", "cat/2.png", "cat/sub/1.png"))
    assert data.names == ("cat/2.png", "cat/sub/1.png", "dog/1.png")
    assert words(data, data.noisy) == ["cat", "cat", "dog"]
    assert "the noisy labels are the class folders" in data.notes


def test_class_folders_and_a_trusted_table(make_folder, write_file):
    """Trusted labels come from a file where the noisy ones are folders."""
    trusted = write_file("t.csv", "file_name;class\ndog/1.png;cat\n")
    data = read(make_folder("dog/1.png", "cat/2.png"), trusted=trusted)
    assert dict(zip(data.names, words(data, data.trusted), strict=True)) == {
        "dog/1.png": "cat",
        "cat/2.png": None,
    }


def test_class_folders_inside_one_folder_of_an_archive(make_zip):
    """The folder that all members share is not the class."""
    data = read(make_zip("animals/dog/1.png", "animals/cat/2.png"))
    assert words(data, data.noisy) == ["cat", "dog"]
    assert isinstance(data.source.read(1), bytes)


def test_an_empty_class_folder(make_folder):
    """A folder without images is refused, or a class without images on request."""
    images = make_folder("dog/1.png", "cat/2.png")
    (images / "owl").mkdir()
    with pytest.raises(
        LabelError, match="got none in 'owl'; remove the folder, or pass --allow-empty-classes"
    ):
        read(images)
    assert read(images, allow_empty_classes=True).classes == ("cat", "dog", "owl")


@pytest.mark.parametrize("names", [["1.png"], ["pics/1.png", "pics/2.png"], ["a/1.png", "2.png", "b/3.png"]])
def test_folders_that_are_no_classes(make_folder, names):
    """Loose images, one folder for all and a mixture say nothing about classes."""
    data = read(make_folder(*names))
    assert data.classes == ()
    assert (data.noisy == UNKNOWN).all()
    assert (data.trusted == UNKNOWN).all()


def test_folders_that_are_parts_of_a_data_set_are_refused(make_folder):
    """Train and test are not classes."""
    with pytest.raises(
        LabelError, match="images holds the folders test, train, which look like parts of a data set"
    ):
        read(make_folder("train/cat/1.png", "test/cat/2.png"))


@pytest.mark.parametrize("file", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_metadata_file_among_the_images(make_folder, file):
    """A Hugging Face metadata file gives the noisy labels, paths relative to itself."""
    images = make_folder("a/1.png", "b/2.png")
    rows = {"file_name": ["b/2.png", "a/1.png"], "label": ["x", "y"]}
    frame = pl.DataFrame(rows)
    writers = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
    writers[file.rpartition(".")[2]](images / file)
    data = read(images)
    assert (data.names, words(data, data.noisy)) == (("b/2.png", "a/1.png"), ["x", "y"])
    assert f"the noisy labels are those of {file}" in data.notes


def test_metadata_without_labels_or_in_two_files(make_folder):
    """Captions are no labels, so folders decide; two metadata files are refused."""
    images = make_folder("a/1.png", "b/2.png")
    (images / "metadata.csv").write_text("file_name,text\na/1.png,hello\n")
    data = read(images)
    assert words(data, data.noisy) == ["a", "b"]
    assert "metadata.csv has no label column, so its rows were not read" in data.notes
    (images / "metadata.jsonl").write_text("{}")
    with pytest.raises(
        UsageError, match=r"images holds metadata\.csv, metadata\.jsonl; say which one with --noisy"
    ):
        read(images)


def test_metadata_that_is_hostile_is_refused(make_folder):
    """A broken line of JSON is refused with its place."""
    images = make_folder("1.png")
    (images / "metadata.jsonl").write_text('{"file_name": "1.png", "label": ' + "[" * 5_000)
    with pytest.raises(TableError, match=r"metadata\.jsonl line 1: bad_json: nested deeper than 32"):
        read(images)


def test_images_in_a_parquet_file(tmp_path, make_folder, write_file):
    """Rows keep their order, labels are strings, and a trusted file joins by row or by name."""
    pictures = [(make_folder("x.png") / "x.png").read_bytes() + bytes([i]) for i in range(3)]
    images = [{"bytes": data, "path": f"{i}.png"} for i, data in zip([10, 9, 2], pictures, strict=True)]
    path = tmp_path / "train.parquet"
    pl.DataFrame({"image": images, "label": [7, None, 12]}).write_parquet(path)
    data = read(path, trusted=write_file("t.csv", "12\n7\n"))
    assert (data.names, data.classes) == (("10.png", "9.png", "2.png"), ("7", "12"))
    assert words(data, data.noisy) == ["7", None, "12"]
    assert words(data, data.trusted) == ["12", "7", None]
    assert [data.source.read(i) for i in range(3)] == pictures
    named = read(path, trusted=write_file("t.csv", "path,label\n2.png,7\n"))
    assert words(named, named.trusted)[named.names.index("2.png")] == "7"
    assert read_images(path).classes == ()


def test_a_parquet_file_of_paths_is_a_table(tmp_path, make_folder):
    """Paths in Parquet label the images of a folder."""
    images = make_folder("1.png", "2.png")
    pl.DataFrame({"image": ["2.png", "1.png"], "label": [3, 4]}).write_parquet(tmp_path / "l.parquet")
    data = read(images, noisy=tmp_path / "l.parquet")
    assert (data.names, data.classes) == (("2.png", "1.png"), ("3", "4"))


def test_a_parquet_file_without_labels(tmp_path):
    """Images alone are a data set without classes."""
    pl.DataFrame({"image": [b"x", b"y"]}).write_parquet(tmp_path / "i.parquet")
    data = read(tmp_path / "i.parquet")
    assert (data.classes, data.names, data.notes) == ((), ("1", "2"), ("i.parquet has no label column",))


def test_an_image_beside_class_folders_is_said(make_folder):
    """Then folders are no classes, which would otherwise be noticed by its absence alone."""
    data = read_dataset(make_folder("cat/1.png", "dog/2.png", "cover.jpg"), ReadOptions())
    assert (data.noisy == UNKNOWN).all()
    assert (
        "the 2 folders of images are not taken for classes: 1 of 3 images lie outside them, such as "
        "'cover.jpg'" in data.notes
    )


@pytest.mark.parametrize("names", [("Cat/1.png", "Dog/2.png"), ("train/1.png", "test/2.png")])
def test_trusted_labels_alone_can_be_read(make_folder, write_file, names):
    """Folders, of whatever name, are then no labels."""
    images = make_folder(*names)
    trusted = write_file("t.csv", f"path,label\n{names[0]},cat\n{names[1]},dog\n")
    data = read_trusted(images, ReadOptions(trusted=trusted))
    assert data.classes == ("cat", "dog")
    assert (data.noisy == UNKNOWN).all()
    assert words(data, data.trusted) == ["cat", "dog"]


def test_a_path_that_may_not_be_looked_at_is_refused(tmp_path):
    """Too long for the system, or below a folder that is closed: the system's word, and no traceback."""
    place = tmp_path / ("x" * 300)
    with pytest.raises(DataError, match=r"cannot read .*: File name too long; check the path"):
        read_dataset(place, ReadOptions())
    with pytest.raises(TableError, match=r"cannot read .*: File name too long"):
        read_label_file(place)


@pytest.mark.parametrize("paths", [[None, None], ["same.png", "same.png"]])
def test_a_parquet_file_labels_its_own_rows(tmp_path, make_folder, paths):
    """As the data sets of hubs are: named as the trusted labels, or as the noisy ones."""
    picture = (make_folder("x.png") / "x.png").read_bytes()
    images = [{"bytes": picture, "path": path} for path in paths]
    path = tmp_path / "test.parquet"
    pl.DataFrame({"image": images, "label": ["cat", "dog"]}).write_parquet(path)
    judged = read_trusted(path, ReadOptions(trusted=path))
    assert (judged.names, words(judged, judged.trusted)) == (("1", "2"), ["cat", "dog"])
    data = read(path, noisy=path)
    assert words(data, data.noisy) == ["cat", "dog"]


def test_the_only_column_that_can_hold_images_does(tmp_path, make_folder, write_file):
    """Whatever it is called, and whatever the column of another file is."""
    picture = (make_folder("x.png") / "x.png").read_bytes()
    path = tmp_path / "train.parquet"
    pl.DataFrame({"img": [picture, picture], "label": ["cat", "dog"]}).write_parquet(path)
    trusted = write_file("t.csv", "file,label\n2,cat\n")
    for column in (None, "img"):
        data = read(path, trusted=trusted, path_column=column)
        assert words(data, data.trusted) == [None, "cat"]


def test_the_trusted_file_may_have_a_column_of_its_own(make_folder, write_file):
    """A copy of the noisy table with a column of what was found: that one holds the trusted labels."""
    images = make_folder("1.png", "2.png")
    noisy = write_file("n.csv", "file,label\n1.png,cat\n2.png,dog\n")
    trusted = write_file("t.csv", "file,label,checked\n1.png,cat,dog\n")
    data = read(images, noisy=noisy, trusted=trusted, trusted_label_column="checked")
    assert words(data, data.trusted) == ["dog", None]
    assert "t.csv: the labels are those of column 'checked'; not read: 'label'" in data.notes
    both = {"noisy": noisy, "trusted": trusted, "label_column": "label"}
    assert words(data, read(images, **both, trusted_label_column="checked").trusted) == ["dog", None]
    assert "t.csv: the labels are those of column 'label'; not read: 'checked'" in read(images, **both).notes


def test_a_trusted_column_that_is_not_there_is_refused(make_folder, write_file):
    """Neither another column nor a file without columns takes its place, and the flag is named."""
    images = make_folder("1.png", "2.png")
    noisy = write_file("n.csv", "file,label\n1.png,cat\n2.png,dog\n")
    for text in ("file,label\n1.png,cat\n", "cat\n"):
        trusted = write_file("t.csv", text)
        with pytest.raises(TableError, match=r"t\.csv: expected one label column \('checked'\), got none"):
            read(images, noisy=noisy, trusted=trusted, trusted_label_column="checked")
    trusted = write_file("t.csv", "file,gefunden\n1.png,cat\n")
    with pytest.raises(TableError, match=r"name it with --trusted-label-col$"):
        read(images, noisy=noisy, trusted=trusted)
    with pytest.raises(TableError, match=r"name it with --label-col$"):
        read_trusted(images, ReadOptions(trusted=trusted))


def test_one_image_is_a_place_too(make_folder, write_file):
    """A file that is an image is the only one of its listing, also one that cannot be read here."""
    images = make_folder("1.png", "2.png")
    alone = read_images(images / "2.png")
    assert alone.names == ("2.png",)
    assert alone.source.read(0) == (images / "2.png").read_bytes()
    assert read_images(write_file("a.heic", b"\0\0\0\x18ftypheic" + bytes(20))).names == ("a.heic",)


def test_what_begins_like_an_image_may_be_something_else(tmp_path, make_folder):
    """A tar whose first name looks like a format is a tar, and a pipe is not waited for."""
    images = make_folder("1.png", "2.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(images / "1.png", "P1 photos/1.png")
    assert read_images(tmp_path / "a.tar").names == ("P1 photos/1.png",)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"expected a zip or tar file, got .*pipe\.png', which is no file"):
        read_images(tmp_path / "pipe.png")
