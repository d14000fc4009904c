import os
import sys

import numpy as np
import pytest

from assay.data.dataset import ReadOptions, Skipped
from assay.data.read import read_dataset, read_images
from assay.errors import AssayError, DataError, LabelError, TableError, UsageError
from assay.types import UNKNOWN


def words(dataset, labels):
    return [dataset.classes[label] if label != UNKNOWN else None for label in labels]


def read(images, **options):
    return read_dataset(images, ReadOptions(**options))


def test_the_notebooks_form(make_folder, write_file):
    """Two files without headers label the images in natural order; the trusted one only the first."""
    images = make_folder("10.png", "1.png", "2.png")
    noisy, trusted = write_file("noisy.csv", "b\na\nb\n"), write_file("clean.csv", "b\nb\n")
    data = read(images, noisy=noisy, trusted=trusted)
    assert data.names == ("1.png", "2.png", "10.png")
    assert data.classes == ("a", "b")
    assert words(data, data.noisy) == ["b", "a", "b"]
    assert words(data, data.trusted) == ["b", "b", None]
    assert data.notes == (
        "noisy.csv: 3 labels by order of names: 1.png → b, 2.png → a, 10.png → b",
        "clean.csv: 2 labels by order of names: 1.png → b, 2.png → b",
        "no trusted label is 'a'",
        "only one image is given as 'a'",
    )
    assert not data.skipped
    assert data.source.read(0) == (images / "1.png").read_bytes()


def test_a_table_comes_in_its_own_order(make_folder, write_file):
    """Rows of the table first, bad ones included, then the other images, each with its own bytes."""
    images = make_folder("10.png", "1.png", "2.png", "sub/3.png")
    noisy = write_file(
        "noisy.csv",
        "label,path\na,images/sub/3.png\nb,gone.png\na,../../etc/passwd\nb,10.png\n,2.png\na,10.png\n",
    )
    data = read(images, noisy=noisy, duplicates="vote")
    assert data.names == ("images/sub/3.png", "gone.png", "../../etc/passwd", "10.png", "2.png", "1.png")
    assert words(data, data.noisy) == ["a", "b", "a", "b", None, None]
    assert {row: why.reason for row, why in data.skipped.items()} == {1: "missing_image", 2: "bad_path"}
    assert data.usable.tolist() == [True, False, False, True, True, True]
    files = ["sub/3.png", None, None, "10.png", "2.png", "1.png"]
    for row, file in enumerate(files):
        expected = (images / file).read_bytes() if file else Skipped("missing_image")
        assert data.source.read(row) == expected
    assert data.notes == (
        "noisy.csv: rows that name no image: 2",
        "noisy.csv: empty labels, taken as unknown: 1",
        "noisy.csv: rows that repeat an image, merged: 1",
        "noisy.csv: images with different labels, the most frequent taken: 1, of equally many the first: 1",
        "noisy.csv: images without a row, taken as unlabeled: 1",
    )


def test_hostile_paths_are_never_opened(make_folder, write_file):
    """No path of the table is opened that does not lie among the images."""
    images = make_folder("1.png", "2.png")
    secret = write_file("secret.png", "secret")
    entries = [str(secret), "../secret.png", "a\\..\\..\\secret.png", f"file://{secret}", "1.png", "2.png"]
    table = write_file(
        "noisy.csv", "path,label\n" + "".join(f"{entry},{i % 2}\n" for i, entry in enumerate(entries))
    )
    opened = []
    watching = [True]
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and watching else None)
    data = read(images, noisy=table)
    contents = [data.source.read(row) for row in range(len(data))]
    watching.clear()
    assert [isinstance(content, bytes) for content in contents] == [False] * 4 + [True] * 2
    assert [why.reason for why in data.skipped.values()] == ["bad_path"] * 4
    assert opened
    assert not [path for path in opened if "secret" in str(path)]


@pytest.mark.parametrize("noisy_by_name", [True, False])
def test_noisy_and_trusted_may_differ_in_form(make_folder, write_file, noisy_by_name):
    """A file of lines and a table of names meet at the images; the noisy table sets the order."""
    images = make_folder("1.png", "2.png", "3.png")
    table = write_file("table.csv", "path,label\n3.png,a\n2.png,b\n1.png,b\n")
    lines = write_file("lines.csv", "b\nb\na\n")
    options = {"noisy": table, "trusted": lines} if noisy_by_name else {"noisy": lines, "trusted": table}
    data = read(images, **options)
    assert data.names == (("3.png", "2.png", "1.png") if noisy_by_name else ("1.png", "2.png", "3.png"))
    assert (data.noisy == data.trusted).all()


def test_a_trusted_row_without_an_image_stays_a_row(make_folder, write_file):
    """Missing images of the trusted table come after the images that the noisy lines label."""
    images = make_folder("1.png", "2.png")
    trusted = write_file("t.csv", "path,label\nno.png,a\n2.png,b\n")
    data = read(images, noisy=write_file("n.csv", "a\nb\n"), trusted=trusted)
    assert data.names == ("1.png", "2.png", "no.png")
    assert words(data, data.trusted) == [None, "b", "a"]
    assert list(data.skipped) == [2]


def test_trusted_labels_may_never_contradict(make_folder, write_file):
    """Two trusted labels for one image are refused, whatever the rule for noisy ones."""
    images = make_folder("1.png", "2.png")
    trusted = write_file("t.csv", "path,label\n1.png,a\nimages/1.png,b\n")
    with pytest.raises(
        LabelError, match=r"t\.csv line 3: 'images/1\.png' is 'b' here and 'a' for '1\.png' in line 2"
    ):
        read(images, noisy=write_file("n.csv", "a\nb\n"), trusted=trusted, duplicates="vote")


def test_trusted_labels_alone(make_folder, write_file):
    """Without noisy labels the trusted ones give the classes."""
    data = read(make_folder("1.png", "2.png", "3.png"), trusted=write_file("t.csv", "b\na\n"))
    assert (data.classes, words(data, data.trusted)) == (("a", "b"), ["b", "a", None])
    assert (data.noisy == UNKNOWN).all()


def test_a_classes_file_names_the_integers(make_folder, write_file):
    """Titles follow the integer labels."""
    data = read(
        make_folder("1.png", "2.png"),
        noisy=write_file("n.csv", "1\n0\n"),
        classes=write_file("classes.txt", "plane\ncar\nbird\n"),
    )
    assert (data.classes, data.titles) == (("0", "1", "2"), ("plane", "car", "bird"))


def test_odd_labels_and_names_come_through(make_folder, write_file):
    """Labels and names of any text are kept byte for byte."""
    names = [
        b"a b.png",
        b"new\nline.png",
        b'q"u,o.png',
        "😀.png".encode(),
        b"\xff\x80.png",
        b"-x.png",
        b"a" * 251 + b".png",
    ]
    labels = ["NA", "007", "1.0", " x", "=cmd()", "<script>", "l" * 10_000]
    images = make_folder(*map(os.fsdecode, names))
    quoted = [
        b'"' + name.replace(b'"', b'""') + b'",' + label.encode()
        for name, label in zip(names, labels, strict=True)
    ]
    data = read(images, noisy=write_file("n.csv", b"path,label\n" + b"\n".join(quoted)))
    assert [os.fsencode(name) for name in data.names] == names
    assert words(data, data.noisy) == labels
    assert not data.skipped


def test_unicode_forms_of_a_name(make_folder, write_file):
    """A name in another form is matched, and that is said."""
    images = make_folder("e\u0301.png", "2.png")
    data = read(images, noisy=write_file("n.csv", "path,label\n2.png,a\né.png,b\n"))
    assert data.names == ("2.png", "é.png")
    assert "n.csv: names in another Unicode form than the images': 1" in data.notes


def test_a_link_that_leaves_the_images_keeps_its_reason(make_folder, write_file):
    """What the folder knows against an image is known of its row in the table."""
    images = make_folder("1.png")
    (images / "2.png").symlink_to(write_file("outside.png", "x"))
    data = read(images, noisy=write_file("n.csv", "path,label\n2.png,a\n1.png,b\n"))
    assert {row: why.reason for row, why in data.skipped.items()} == {0: "outside_root"}


def test_labels_one_line_off_are_reported(make_folder, write_file):
    """A header's missing line in one of the files gives a warning."""
    n = 60
    images = make_folder(*(f"{i}.png" for i in range(n)))
    labels = np.random.default_rng(0).integers(5, size=n).astype(str).tolist()
    noisy = write_file("noisy.csv", "\n".join(labels))
    data = read(images, noisy=noisy, trusted=write_file("clean.csv", "\n".join(labels[1:])))
    assert data.notes[-1].startswith("warning: possible_misalignment: given and trusted labels agree on 0.")
    aligned = read(images, noisy=noisy, trusted=write_file("clean.csv", "\n".join(labels[:40])))
    assert not [note for note in aligned.notes if "misalignment" in note]


@pytest.mark.parametrize(
    ("noisy", "trusted", "note"),
    [
        ("a\nb\na\nb\n", "", "clean.csv has no labels"),
        ("a\nb\na\nb\n", "b\n", "no trusted label is 'a'"),
        ("a\nb\na\nb\n", "b\na\nb\na\n", "warning: none of 4 given labels equals its trusted one"),
        ("a\nb\na\nc\n", "a\nb\na\nc\n", "only one image is given as 'b', 'c'"),
    ],
    ids=["none", "one", "disagree", "lone"],
)
def test_thin_labels_are_read_with_a_remark(make_folder, write_file, noisy, trusted, note):
    """No, one or contradicting trusted labels and lone classes are fine, and said."""
    images = make_folder("1.png", "2.png", "3.png", "4.png")
    data = read(images, noisy=write_file("noisy.csv", noisy), trusted=write_file("clean.csv", trusted))
    assert note in data.notes


@pytest.mark.parametrize(
    ("options", "noisy", "error", "message"),
    [
        ({}, "a\na\n", LabelError, r"noisy\.csv: expected labels of two classes or more, got only 'a'"),
        ({}, "a\nb\nc\n", DataError, r"noisy\.csv: expected 2 labels, .* got 3"),
        (
            {"duplicates": "all"},
            "a\nb\n",
            UsageError,
            "expected --duplicates refuse or vote, got 'all': an image has one",
        ),
        (
            {},
            "path,label\n1.png,a\n1.png,b\n",
            LabelError,
            r"noisy\.csv line 3: '1\.png' is 'b' here and 'a' in line 2",
        ),
        ({}, b"k\xf6ter\nb\n", TableError, r"noisy\.csv line 1: byte 0xF6"),
        ({"label_column": "x"}, "path,label\n1.png,a\n", TableError, r"expected one label column \('x'\)"),
    ],
)
def test_labels_that_cannot_be_are_refused(make_folder, write_file, options, noisy, error, message):
    """Each refusal is of its kind and says what came."""
    with pytest.raises(error, match=message):
        read(make_folder("1.png", "2.png"), noisy=write_file("noisy.csv", noisy), **options)


def test_places_that_hold_no_images_are_refused(tmp_path, write_file):
    """No place, an empty one and a file of another kind are refused in words."""
    with pytest.raises(DataError, match=r"no such folder or file of images: .*nowhere"):
        read_images(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected images in .*empty, got none"):
        read_images(tmp_path / "empty")
    with pytest.raises(AssayError, match="expected a zip or tar"):
        read_images(write_file("labels.csv", "path,label\n"))


def test_two_rows_of_one_name_are_refused(make_folder, write_file):
    """A path relative to the table and an image below a folder of that name cannot both keep it."""
    images = make_folder("1.png", "images/1.png")
    with pytest.raises(DataError, match=r"ambiguous_name: two images would both be called 'images/1\.png'"):
        read(images, noisy=write_file("n.csv", "path,label\nimages/1.png,a\nx.png,b\n"))


def test_images_alone(make_folder):
    """Reading images for prediction knows no class, even where folders look like one."""
    data = read_images(make_folder("a/2.png", "a/1.png", "b/10.png"))
    assert data.names == ("a/1.png", "a/2.png", "b/10.png")
    assert data.classes == ()
    assert (data.noisy == UNKNOWN).all()


def test_the_same_input_gives_the_same_fingerprint(make_folder, make_zip, write_file):
    """A folder and a zip of the same images with the same labels are the same data."""
    names = ["1.png", "2.png", "10.png"]
    noisy = write_file("n.csv", "a\nb\na\n")
    folder, archive = read(make_folder(*reversed(names)), noisy=noisy), read(make_zip(*names), noisy=noisy)
    assert folder.fingerprint() == archive.fingerprint()


def test_files_with_other_columns_are_read_with_one_flag(make_folder, write_file):
    """The label column of one of them has its own name, that of the other a known one."""
    images = make_folder("1.png", "2.png")
    noisy = write_file("n.csv", "file,label\n1.png,cat\n2.png,dog\n")
    trusted = write_file("t.csv", "Datei;Klasse\n1.png;dog\n")
    options = ReadOptions(noisy=noisy, trusted=trusted, path_column="Datei", label_column="Klasse")
    data = read_dataset(images, options)
    assert [data.classes[label] for label in data.noisy] == ["cat", "dog"]
    assert data.classes[data.trusted[0]] == "dog"


def test_a_label_column_that_no_file_has_is_refused(make_folder, write_file):
    """A slip of the pen must not choose another column."""
    images = make_folder("1.png", "2.png")
    noisy = write_file("n.csv", "file,label,fine\n1.png,cat,a\n2.png,dog,b\n")
    trusted = write_file("t.csv", "file,label\n1.png,dog\n")
    message = r"n\.csv: expected one label column \('fein'\), got none in 'file', 'label', 'fine'"
    for other in (None, trusted):
        with pytest.raises(TableError, match=message):
            read_dataset(images, ReadOptions(noisy=noisy, trusted=other, label_column="fein"))
    bare = write_file("bare.csv", "cat\ndog\n")
    with pytest.raises(TableError, match=r"t\.csv: expected one label column \('fein'\)"):
        read_dataset(images, ReadOptions(noisy=bare, trusted=trusted, label_column="fein"))
