"""From a place of images and label files to one Dataset."""

import json
import os
import re
import sys
import tarfile

import numpy as np
import polars as pl
import pytest
from small_datasets import drawn

from assay.data.dataset import ReadOptions, Skipped
from assay.data.read import read_dataset, read_images, read_trusted
from assay.errors import AssayError, DataError, LabelError, TableError, UsageError
from assay.types import UNKNOWN


def words(dataset, labels):
    return [dataset.classes[label] if label != UNKNOWN else None for label in labels]


def read(images, **options):
    """The data set; label files may be given as their text."""
    for name in ("noisy", "trusted"):
        if isinstance(text := options.get(name), str | bytes):
            options[name] = images.parent / f"{name}.csv"
            options[name].write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_dataset(images, ReadOptions(**options))


def test_files_without_headers(make_folder):
    """Two files of lines label the images in natural order; the trusted one only the first (fault 37)."""
    images = make_folder("10.png", "1.png", "2.png")
    data = read(images, noisy="b\na\nb\n", trusted="b\nb\n")
    assert data.names == ("1.png", "2.png", "10.png")
    assert data.classes == ("a", "b")
    assert words(data, data.noisy) == ["b", "a", "b"]
    assert words(data, data.trusted) == ["b", "b", None]
    assert data.notes == (
        "noisy.csv: 3 labels by order of names: 1.png → b, 2.png → a, 10.png → b",
        "trusted.csv: 2 labels by order of names: 1.png → b, 2.png → b",
        "classes without a trusted label: 'a'",
        "classes with only one noisy label: 'a'",
    )
    assert not data.skipped
    assert data.source.read(0) == (images / "1.png").read_bytes()


def test_a_table_comes_in_its_own_order(make_folder, write_file):
    """Rows of the table first, bad ones included, then the other images (fault 30)."""
    images = make_folder("10.png", "1.png", "2.png", "sub/3.png")
    (images / "4.png").symlink_to(write_file("outside.png", "x"))
    entries = ["a,images/sub/3.png", "b,gone.png", "a,../../etc/passwd", "b,10.png", ",2.png"]
    lines = "\n".join(["label,path", *entries, "a,images/10.png"])
    data = read(images, noisy=lines, duplicates="vote")
    assert data.names == ("sub/3.png", "gone.png", "../../etc/passwd", "10.png", "2.png", "1.png", "4.png")
    assert words(data, data.noisy) == ["a", "b", "a", "b", None, None, None]
    reasons = {row: why.reason for row, why in data.skipped.items()}
    assert reasons == {1: "missing_image", 2: "bad_path", 6: "outside_root"}
    assert data.usable.tolist() == [True, False, False, True, True, True, False]
    for row, file in enumerate(["sub/3.png", None, None, "10.png", "2.png", "1.png"]):
        expected = (images / file).read_bytes() if file else Skipped("missing_image")
        assert data.source.read(row) == expected
    assert data.notes == (
        "noisy.csv: rows without an image: 2, such as 'gone.png'",
        "noisy.csv: empty labels, used as unknown: 1",
        "noisy.csv: rows that repeat an image, merged: 1",
        "noisy.csv: images with different labels, the most frequent is used: 1, in a tie the first: 1",
        "noisy.csv: images without a row, used as unlabeled: 2",
    )


def test_hostile_paths_are_never_opened(make_folder, write_file):
    """No path of the table is opened that does not lie among the images (fault 21)."""
    images, secret = make_folder("1.png", "2.png"), write_file("secret.png", "secret")
    hostile = [
        str(secret),
        "../secret.png",
        "a\\..\\..\\secret.png",
        f"file://{secret}",
        "C:\\x",
        "\\\\host\\x",
    ]
    entries = [*hostile, "http://x/1.png", "", "1.png", "2.png"]
    table = "path,label\n" + "".join(f"{entry},{i % 2}\n" for i, entry in enumerate(entries))
    opened, watching = [], [True]
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and watching else None)
    data = read(images, noisy=table)
    contents = [data.source.read(row) for row in range(len(data))]
    watching.clear()
    assert [isinstance(content, bytes) for content in contents] == [False] * 8 + [True] * 2
    assert [why.reason for why in data.skipped.values()] == ["bad_path"] * 8
    assert opened
    assert not [path for path in opened if "secret" in str(path)]


@pytest.mark.parametrize("names_in", ["noisy", "trusted"])
def test_noisy_and_trusted_may_differ_in_form(make_folder, names_in):
    """A file of lines and a table of names meet at the images; the noisy table sets the order."""
    images = make_folder("1.png", "2.png", "3.png")
    files = {"noisy": "b\nb\na\n", "trusted": "b\nb\na\n"}
    data = read(images, **{**files, names_in: "path,label\n3.png,a\n2.png,b\n1.png,b\n"})
    assert data.names == (("3.png", "2.png", "1.png") if names_in == "noisy" else ("1.png", "2.png", "3.png"))
    assert (data.noisy == data.trusted).all()


def test_a_trusted_row_without_an_image_stays_a_row(make_folder):
    """Missing images of the trusted table come after the images that the noisy lines label (fault 30)."""
    images = make_folder("1.png", "2.png")
    data = read(images, noisy="a\nb\n", trusted="path,label\nno.png,a\n2.png,b\n")
    assert data.names == ("1.png", "2.png", "no.png")
    assert words(data, data.trusted) == [None, "b", "a"]
    assert list(data.skipped) == [2]


@pytest.mark.parametrize(
    ("trusted", "duplicates", "message"),
    [
        ("1.png,a\nimages/1.png,b\n", "vote", "trusted.csv line 3: 'images/1.png' is 'b' here and 'a' for "
         "'1.png' in line 2; correct the file"),
        ("1.png,a\n", "refuse", "noisy.csv line 4: '1.png' is 'b' here and 'a' in line 2; correct the file, "
         "or use the most frequent label with --duplicates=vote"),
    ],
)  # fmt: skip  # one case after another
def test_two_labels_for_one_image_are_refused(make_folder, trusted, duplicates, message):
    """Both lines and both labels are named; among noisy ones a vote may decide (fault 31)."""
    files = {"noisy": "path,label\n1.png,a\n2.png,b\n1.png,b\n", "trusted": f"path,label\n{trusted}"}
    with pytest.raises(LabelError) as refused:
        read(make_folder("1.png", "2.png"), **files, duplicates=duplicates)
    assert str(refused.value) == message


@pytest.mark.parametrize("names", [("Cat/1.png", "Dog/2.png"), ("train/1.png", "test/2.png")])
def test_trusted_labels_alone(make_folder, write_file, names):
    """They give the classes; a test set may have one class, and its folders are no labels."""
    images = make_folder(*names)
    trusted = f"path,label\n{names[0]},cat\n{names[1]},dog\n"
    data = read_trusted(images, ReadOptions(trusted=write_file("t.csv", trusted)))
    assert (data.classes, words(data, data.trusted)) == (("cat", "dog"), ["cat", "dog"])
    assert (data.noisy == UNKNOWN).all()
    one = write_file("one.csv", f"path,label\n{names[0]},cat\n")
    assert read_trusted(images, ReadOptions(trusted=one)).classes == ("cat",)


def test_odd_names_and_labels_come_through(make_folder):
    """Labels and names of any text are kept byte for byte (faults 25, 35)."""
    names = [
        *(b"a b.png", b"new\nline.png", b'q"u,o.png', "😀.png".encode(), b"\xff\x80.png", b"-x.png"),
        *(b"a" * 251 + b".png", b"1.png", b"2.png", b"3.png", b"'.png", b"semi;comma,.png"),
        "e\u0301.png".encode(),
    ]
    labels = ["NA", "None", "null", "nan", "007", "7", "1.0", "true", " x", "y ", "=cmd()", "<script>"]
    labels.append("l" * 10_000)
    pairs = zip(names, labels, strict=True)
    quoted = [b'"' + name.replace(b'"', b'""') + b'",' + label.encode() for name, label in pairs]
    images = make_folder(*map(os.fsdecode, names))
    classes = dict(zip(labels[:4], labels[:4], strict=True))
    data = read(images, noisy=b"path,label\n" + b"\n".join(quoted), class_map=classes)
    assert [os.fsencode(name) for name in data.names] == names
    assert words(data, data.noisy) == labels
    assert not data.skipped


def test_labels_one_line_off_are_reported(make_folder):
    """A line that is missing in one of the files gives a warning (fault 37)."""
    images = make_folder(*(f"{i}.png" for i in range(60)))
    labels = np.random.default_rng(0).integers(5, size=60).astype(str).tolist()
    for trusted, is_off in ((labels[1:], True), (labels[:40], False)):
        notes = read(images, noisy="\n".join(labels), trusted="\n".join(trusted)).notes
        start = "warning: possible_misalignment: noisy and trusted labels agree on 0."
        assert any(note.startswith(start) for note in notes) is is_off


def test_an_impossible_way_to_treat_duplicates_is_refused(make_folder):
    """An image has one noisy label."""
    with pytest.raises(UsageError, match="expected --duplicates refuse or vote, got 'all': an image has one"):
        read(make_folder("1.png"), duplicates="all")


# Places


def test_places_without_images_are_refused(tmp_path, write_file):
    """No place, an empty one, a file of another kind, a pipe and a name that is too long are refused."""
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for place, error, message in (
        (tmp_path / "nowhere", DataError, r"no such folder or file of images: .*nowhere"),
        (tmp_path / "empty", DataError, r"expected images in .*empty, got none"),
        (
            write_file("labels.csv", "path,label\n"),
            DataError,
            "got labels.csv, which looks like a label file;",
        ),
        (write_file("labels", "path,label\n"), AssayError, "expected a zip or tar"),
        (tmp_path / "pipe.png", DataError, r"expected a zip or tar file, got .*pipe\.png', which is no file"),
        (tmp_path / ("x" * 300), DataError, r"cannot read .*: File name too long; check the path"),
    ):
        with pytest.raises(error, match=message):
            read_images(place)


def test_images_alone(make_folder, write_file):
    """No class is read, even where folders look like one; a single image is a place too."""
    images = make_folder("a/2.png", "a/1.png", "b/10.png")
    data = read_images(images)
    assert (data.names, data.classes) == (("a/1.png", "a/2.png", "b/10.png"), ())
    assert (data.noisy == UNKNOWN).all()
    alone = read_images(images / "a/2.png")
    assert (alone.names, alone.source.read(0)) == (("2.png",), (images / "a/2.png").read_bytes())
    assert read_images(write_file("a.heic", b"\0\0\0\x18ftypheic" + bytes(20))).names == ("a.heic",)
    with tarfile.open(images.parent / "a.tar", "w") as archive:  # begins like an image format
        archive.add(images / "a/1.png", "P1 photos/1.png")
    assert read_images(images.parent / "a.tar").names == ("P1 photos/1.png",)


def test_the_same_input_gives_the_same_fingerprint(make_folder, make_zip):
    """A folder and a zip of the same images with the same labels are the same data."""
    names, noisy = ["1.png", "2.png", "10.png"], "a\nb\na\n"
    folder, archive = read(make_folder(*reversed(names)), noisy=noisy), read(make_zip(*names), noisy=noisy)
    assert folder.fingerprint() == archive.fingerprint()


# Labels that come with the images


@pytest.mark.parametrize("inside", ["", "animals/"])
def test_class_folders_are_the_noisy_labels(make_zip, inside):
    """Without a noisy file the folder of an image is its label; a folder that all share is no class."""
    images = make_zip(*(inside + name for name in ("dog/1.png", "cat/2.png", "cat/sub/1.png")))
    trusted = f"file_name;class\n{inside}dog/1.png;cat\n"
    data = read(images, trusted=trusted)
    assert dict(zip(data.names, words(data, data.noisy), strict=True)) == {
        f"{inside}cat/2.png": "cat",
        f"{inside}cat/sub/1.png": "cat",
        f"{inside}dog/1.png": "dog",
    }
    assert words(data, data.trusted)[data.names.index(f"{inside}dog/1.png")] == "cat"
    assert "noisy labels are the class folders" in data.notes
    assert isinstance(data.source.read(1), bytes)


def test_an_empty_class_folder(make_folder):
    """A folder without images is refused, or a class without images on request."""
    images = make_folder("dog/1.png", "cat/2.png")
    (images / "owl").mkdir()
    message = "got none in 'owl'; remove the folder, or pass --allow-empty-classes"
    with pytest.raises(LabelError, match=message):
        read(images)
    assert read(images, allow_empty_classes=True).classes == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    "names", [["1.png"], ["pics/1.png", "pics/2.png"], ["a/1.png", "cover.jpg", "b/3.png"]]
)
def test_folders_that_are_no_classes(make_folder, names):
    """No folders, one for all, and a mixture, which is reported."""
    data = read(make_folder(*names))
    assert (data.classes, set(data.noisy.tolist())) == ((), {UNKNOWN})
    outside = "1 of 3 images lie outside them, such as 'cover.jpg'"
    message = f"the 2 folders of images are not read as classes: {outside}"
    assert (message in data.notes) == ("cover.jpg" in names)


def test_parts_of_a_data_set_are_no_classes(make_folder):
    """Folders such as train and test are refused."""
    with pytest.raises(LabelError, match="images holds the folders test, train, which are parts of a data"):
        read(make_folder("train/cat/1.png", "test/cat/2.png"))


@pytest.mark.parametrize("file", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_metadata_file_among_the_images(make_folder, file):
    """A Hugging Face metadata file gives the noisy labels, its paths relative to itself."""
    images = make_folder("a/1.png", "b/2.png")
    frame = pl.DataFrame({"file_name": ["b/2.png", "a/1.png"], "label": ["x", "y"]})
    writers = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
    writers[file.rpartition(".")[2]](images / file)
    data = read(images)
    assert (data.names, words(data, data.noisy)) == (("b/2.png", "a/1.png"), ["x", "y"])
    assert f"noisy labels are read from {file}" in data.notes


def test_metadata_without_labels_or_in_two_files(make_folder):
    """Captions are no labels, so folders decide; two metadata files are refused, and so is hostile JSON."""
    images = make_folder("a/1.png", "b/2.png")
    (images / "metadata.csv").write_text("file_name,text\na/1.png,hello\n")
    data = read(images)
    assert words(data, data.noisy) == ["a", "b"]
    assert "metadata.csv has no label column, so its rows were not read" in data.notes
    (images / "metadata.jsonl").write_text('{"file_name": "1.png", "label": ' + "[" * 5_000)
    with pytest.raises(UsageError, match=r"images holds metadata\.csv, metadata\.jsonl; name one of them"):
        read(images)
    (images / "metadata.csv").unlink()
    with pytest.raises(TableError, match=r"metadata\.jsonl line 1: bad_json: nested deeper than 32"):
        read(images)


@pytest.fixture
def parquet(tmp_path):
    """Writes a Parquet file of these columns."""

    def write(**columns):
        pl.DataFrame(columns).write_parquet(tmp_path / "train.parquet")
        return tmp_path / "train.parquet"

    return write


def test_images_in_a_parquet_file(parquet):
    """Rows keep their order, labels are strings, and a trusted file joins by row or by name."""
    pictures = drawn(3)
    images = [{"bytes": data, "path": f"{i}.png"} for i, data in zip([10, 9, 2], pictures, strict=True)]
    path = parquet(image=images, label=[7, None, 12])
    data = read(path, trusted="12\n7\n")
    assert (data.names, data.classes) == (("10.png", "9.png", "2.png"), ("7", "12"))
    assert words(data, data.noisy) == ["7", None, "12"]
    assert words(data, data.trusted) == ["12", "7", None]
    assert [data.source.read(i) for i in range(3)] == pictures
    named = read(path, trusted="path,label\n2.png,7\n")
    assert words(named, named.trusted)[named.names.index("2.png")] == "7"
    assert read_images(path).classes == ()


def test_classes_of_a_hugging_face_file_have_their_names(tmp_path, write_file):
    """Its integers meet names in another file; only the classes that the images have are classes."""
    features = {
        "label": {"names": ["cat", "dog", "owl", "unused"], "_type": "ClassLabel"},
        "n": {"dtype": "int64"},
    }
    images = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(drawn(3))]
    frame = pl.DataFrame({"image": images, "label": [2, 0, 0], "n": [1, 2, 3]})
    for metadata, names in (({"info": {"features": features}}, ("cat", "dog", "owl")), ({"info": 3}, ())):
        frame.write_parquet(tmp_path / "train.parquet", metadata={"huggingface": json.dumps(metadata)})
        labels = "cat" if names else "2"
        trusted = write_file("t.csv", f"path,label\n1.png,{labels}\n2.png,{'dog' if names else '0'}\n")
        data = read_dataset(tmp_path / "train.parquet", ReadOptions(trusted=trusted))
        assert (data.classes, data.titles) == (("0", "1", "2") if names else ("0", "2"), names)
        assert words(data, data.noisy) == ["2", "0", "0"]
        assert words(data, data.trusted) == ([None, "0", "1"] if names else [None, "2", "0"])
    frame.write_parquet(
        tmp_path / "t.parquet", metadata={"huggingface": json.dumps({"info": {"features": features}})}
    )
    (tmp_path / "folder" / "owl").mkdir(parents=True)
    (tmp_path / "folder" / "cat").mkdir()
    for name, picture in zip(("owl/0.png", "cat/1.png", "cat/2.png"), drawn(3), strict=True):
        (tmp_path / "folder" / name).write_bytes(picture)
    data = read_dataset(tmp_path / "folder", ReadOptions(trusted=tmp_path / "t.parquet", match="name"))
    assert data.classes == ("cat", "owl")
    assert (data.noisy == data.trusted).all()


@pytest.mark.parametrize("paths", [[None, None], ["same.png", "same.png"]])
def test_a_parquet_file_labels_its_own_rows(parquet, paths):
    """Named as trusted labels or as noisy ones, it belongs to its rows even where paths are no names."""
    path = parquet(image=[{"bytes": drawn(1)[0], "path": path} for path in paths], label=["cat", "dog"])
    judged = read_trusted(path, ReadOptions(trusted=path))
    assert (judged.names, words(judged, judged.trusted)) == (("1", "2"), ["cat", "dog"])
    data = read(path, noisy=path)
    assert words(data, data.noisy) == ["cat", "dog"]


def test_columns_of_a_parquet_file(parquet, make_folder):
    """The only column that can hold images does; without labels there are no classes; paths are a table."""
    path = parquet(img=drawn(2), label=["cat", "dog"])
    for column in (None, "img"):
        data = read(path, trusted="file,label\n2,cat\n", path_column=column)
        assert words(data, data.trusted)[data.names.index("2")] == "cat"
    bare = read(parquet(image=[b"x", b"y"]))
    assert (bare.classes, bare.names, bare.notes) == ((), ("1", "2"), ("train.parquet has no label column",))
    path = parquet(image=["2.png", "1.png"], label=[3, 4])
    table = read(make_folder("1.png", "2.png"), noisy=path)
    assert (table.names, table.classes) == (("2.png", "1.png"), ("3", "4"))


# Columns that are named

NOISY, NO_X = "file,label\n1.png,cat\n2.png,dog\n", "expected one label column ('x'), got none in "


def test_files_with_other_columns_are_read_with_one_flag(make_folder):
    """The label column of one has its own name; a copy with a column of checked labels may be named too."""
    images, checked = make_folder("1.png", "2.png"), "file,label,checked\n1.png,cat,dog\n"
    for trusted, options in (
        ("Datei;Klasse\n1.png;dog\n", {"path_column": "Datei", "label_column": "Klasse"}),
        (checked, {"trusted_label_column": "checked"}),
        (checked, {"trusted_label_column": "checked", "label_column": "label"}),
    ):
        data = read(images, noisy=NOISY, trusted=trusted, **options)
        assert (words(data, data.noisy), words(data, data.trusted)) == (["cat", "dog"], ["dog", None])
    assert "trusted.csv: labels are read from column 'checked'; not read: 'label'" in data.notes
    notes = read(images, noisy=NOISY, trusted=checked).notes
    assert "trusted.csv: labels are read from column 'label'; not read: 'checked'" in notes


@pytest.mark.parametrize(
    ("noisy", "trusted", "options", "message"),
    [
        (NOISY, None, {"label_column": "x"}, f"noisy.csv: {NO_X}"),
        (NOISY, NOISY, {"label_column": "x"}, f"noisy.csv: {NO_X}"),
        ("cat\ndog\n", NOISY, {"label_column": "x"}, f"trusted.csv: {NO_X}"),
        (NOISY, NOISY, {"trusted_label_column": "x"}, f"trusted.csv: {NO_X}"),
        (NOISY, "cat\n", {"trusted_label_column": "x"}, f"trusted.csv: {NO_X}"),
        (NOISY, "file,odd\n1.png,cat\n", {}, "'odd'; name it with --trusted-label-col"),
    ],
)
def test_a_label_column_that_does_not_exist_is_refused(make_folder, noisy, trusted, options, message):
    """A slip of the pen chooses no other column, and the flag is named."""
    with pytest.raises(TableError, match=re.escape(message)):
        read(make_folder("1.png", "2.png"), noisy=noisy, trusted=trusted, **options)


def test_a_test_set_without_a_label_column_is_refused(make_folder, write_file):
    """The flag is that of its only labels."""
    options = ReadOptions(trusted=write_file("t.csv", "file,odd\n1.png,cat\n"))
    with pytest.raises(TableError, match=r"name it with --label-col odd$"):
        read_trusted(make_folder("1.png"), options)
