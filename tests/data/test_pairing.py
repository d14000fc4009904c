from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st

from assay.data.dataset import Listing, Skipped
from assay.data.label_files import LabelFile
from assay.data.pairing import one_label_each, pair_by_name, pair_by_order
from assay.errors import DataError, LabelError, TableError
from assay.types import UNKNOWN

IMAGES = Path("images")


class Nothing:
    """A source that no test here reads from."""

    def read(self, index):
        raise AssertionError(f"pairing opens nothing, not even image {index}")


def listing(*names):
    return Listing(tuple(names), Nothing())


def said(*labels, entries=None, path=Path("a.csv")):
    return LabelFile(path, labels, entries, tuple(range(2, len(labels) + 2)))


def paired(*entries, names, images=IMAGES, path=Path("a.csv")):
    return pair_by_name(said(*entries, entries=entries, path=path), listing(*names), images)


def test_rows_belong_to_images_in_order():
    """Row i is image i, and the first and last three pairs are shown."""
    names = [f"{i}.png" for i in range(1, 9)]
    pairing = pair_by_order(said(*"abcdefgh"), listing(*names), IMAGES, complete=True)
    assert pairing.images == tuple(range(8))
    assert pairing.notes == (
        "a.csv: 8 labels by order of names: 1.png → a, 2.png → b, 3.png → c, …, 6.png → f, 7.png → "
        "g, 8.png → h",
    )


def test_few_pairs_are_all_shown_and_odd_names_escaped():
    """Up to six pairs need no gap; a missing label and a name with a newline are readable."""
    pairing = pair_by_order(said("a", ""), listing("1\n.png", "2.png"), IMAGES, complete=True)
    assert pairing.notes == (r"a.csv: 2 labels by order of names: '1\n.png' → a, 2.png → (none)",)


@pytest.mark.parametrize("labels", ["abcd", "ab"])
def test_a_count_that_does_not_match_is_refused(labels):
    """One line too many or too few is an error with both counts and the order that was meant."""
    with pytest.raises(DataError) as refused:
        pair_by_order(said(*labels), listing("1.png", "2.png", "10.png"), IMAGES, complete=True)
    assert str(refused.value) == (
        f"a.csv: expected 3 labels, one for each image of images, got {len(labels)}; without names, "
        "label i belongs "
        "to the i-th image in natural order (2.png before 10.png; here '1.png', '2.png', '10.png'). "
        "Correct the file "
        "(an empty line is an unknown label), or give it a header 'path,label' and names"
    )


def test_trusted_labels_may_be_fewer_but_not_more():
    """Trusted rows are those of the first images."""
    names = listing("1.png", "2.png")
    assert pair_by_order(said("a"), names, IMAGES, complete=False).images == (0,)
    assert pair_by_order(said(), names, IMAGES, complete=False).notes == ("a.csv has no labels",)
    with pytest.raises(DataError, match="expected at most 2 labels, one for each image of images, got 3"):
        pair_by_order(said(*"abc"), names, IMAGES, complete=False)


def test_blank_lines_at_the_end_do_not_count():
    """An editor's empty last line is no label, but an empty line for the last image is one."""
    names = listing("1.png", "2.png")
    assert pair_by_order(said("a", "b", "", ""), names, IMAGES, complete=True).images == (0, 1)
    assert pair_by_order(said("a", ""), names, IMAGES, complete=True).images == (0, 1)


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("b/1.png", ["a.png", "b/1.png"]),
        ("./b//1.png", ["a.png", "b/1.png"]),
        ("b\\1.png", ["a.png", "b/1.png"]),
        ("images/b/1.png", ["a.png", "b/1.png"]),
        ("b\\1.png", ["b/1.png.png", "b\\1.png"]),
        ("  1.png", ["1.png", "  1.png"]),
        ("\udce9.png", ["a.png", "\udce9.png"]),
    ],
)
def test_a_path_finds_its_image(entry, names):
    """Separators, dots and the images' own folder name do not matter; everything else does."""
    assert paired(entry, names=names).images == (1,)


@pytest.mark.parametrize(
    ("table", "images", "entry", "name"),
    [
        ("labels.csv", "deep/images", "deep/images/1.png", "1.png"),
        ("deep/images/labels.csv", "deep/images", "1.png", "1.png"),
        ("images/sub/labels.csv", "images", "1.png", "sub/1.png"),
        ("labels/a.csv", "images", "1.png", "1.png"),
    ],
)
def test_a_path_may_begin_at_the_table_or_at_the_images(tmp_path, table, images, entry, name):
    """Paths are relative to the label file's folder, then to the images."""
    (tmp_path / images).mkdir(parents=True)
    pairing = paired(entry, names=["0.png", name], images=tmp_path / images, path=tmp_path / table)
    assert pairing.images == (1,)


def test_the_tables_folder_comes_first(tmp_path):
    """Where both would do, a path is relative to the table."""
    (tmp_path / "images" / "sub").mkdir(parents=True)
    table = tmp_path / "images" / "sub" / "a.csv"
    assert paired("1.png", names=["1.png", "sub/1.png"], images=tmp_path / "images", path=table).images == (
        1,
    )


@pytest.mark.parametrize("archive", ["images.zip", "images.tar.gz", "images.TGZ"])
@pytest.mark.parametrize(
    ("entry", "name"), [("1.png", "pics/1.png"), ("pics/1.png", "pics/1.png"), ("images/1.png", "1.png")]
)
def test_an_archives_common_folder_may_be_left_out(archive, entry, name):
    """Members are found with or without the folder that all share, and under the archive's name."""
    folder = name.rpartition("/")[0]
    other = f"{folder}/0.png" if folder else "0.png"
    assert paired(entry, names=[other, name], images=Path(archive)).images == (1,)


def test_a_folder_that_is_not_common_is_never_left_out():
    """With two folders in an archive, a bare name is no member's."""
    pairing = paired("1.png", "a/1.png", names=["a/1.png", "b/1.png"], images=Path("images.zip"))
    assert pairing.images == (None, 0)


@pytest.mark.parametrize(("written", "on_disk"), [("é.png", "e\u0301.png"), ("e\u0301.png", "é.png")])
def test_names_match_after_normalisation(written, on_disk):
    """NFC and NFD name one image, and the row is counted."""
    pairing = paired(written, names=["a.png", on_disk])
    assert (pairing.images, pairing.normalised) == ((1,), 1)
    assert paired(on_disk, names=["a.png", on_disk]).normalised == 0


@pytest.mark.parametrize(
    ("written", "on_disk"), [("a/b.jpg", "a/B.JPG"), ("images/b", "b.png"), ("./c.png", "C.jpeg")]
)
def test_names_that_are_nearly_right_are_no_pair_but_said(written, on_disk):
    """Whether two names mean one image cannot be known, so the row stays without; one pair is shown."""
    pairing = paired("a.png", written, "z.png", names=["a.png", on_disk, "y.png"])
    assert pairing.images == (0, None, None)
    assert pairing.notes == (
        f"warning: a.csv: 1 of the names that are no image's differ from one in case or ending alone, as "
        f"'{written}' and '{on_disk}'; write them as the files are called",
    )
    assert paired("a.png", "z.png", names=["a.png", on_disk]).notes == ()
    entries = ("a.png", written)
    file = said(*entries, entries=entries)
    assert pair_by_name(file, listing("a.png", on_disk), IMAGES, quiet=True).notes == ()
    with pytest.raises(DataError, match=r"differ in case or ending; write the paths as the files are called"):
        paired(written, names=["a.png", on_disk])


@pytest.mark.parametrize("written", ["é.png", "e\u0301.png"])
def test_names_that_differ_only_in_form_are_refused(written):
    """When both forms are on disk, neither is guessed."""
    with pytest.raises(DataError) as refused:
        paired(written, names=["e\u0301.png", "é.png"])
    assert str(refused.value) == (
        f"ambiguous_name: '{written}' may be 'e\\u0301.png' and '\\xe9.png', which differ only in "
        "their Unicode form; "
        "rename one of the two files"
    )


BAD = [
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "\\\\host\\x",
    "a\\..\\..\\b",
    "file:///x",
    "http://x/1.png",
    "a\0b",
    "",
]


@pytest.mark.parametrize("entry", BAD)
def test_a_hostile_path_is_skipped(entry):
    """A path that leaves the images stays a row with its reason."""
    pairing = paired("1.png", entry, names=["1.png", "x"])
    assert pairing.images == (0, None)
    assert pairing.skipped[1].reason == "bad_path"


def test_a_row_without_an_image_is_skipped_with_its_place():
    """The row says which file and line named what."""
    pairing = paired("1.png", "no\n.png", names=["1.png"])
    assert pairing.skipped == {
        1: Skipped("missing_image", r"a.csv line 3 names 'no\n.png', which is not there")
    }


def test_paths_that_all_miss_are_refused():
    """If no row finds its image, the folder or the paths are wrong, and both are shown."""
    with pytest.raises(DataError) as refused:
        paired("x/1.png", "x/2.png", names=["1.png", "2.png"])
    assert str(refused.value) == (
        "a.csv: none of its 2 paths names an image of images: the first is 'x/1.png', an image is "
        "called '1.png'; "
        "write the paths relative to the label file or to the images"
    )


def test_a_latin_1_path_is_refused_with_its_byte():
    """A path that is neither UTF-8 nor on disk is text in another encoding."""
    with pytest.raises(
        TableError, match=r"a\.csv line 3: byte 0xE9 of '\\udce9\.png' is not UTF-8; save the file"
    ):
        paired("1.png", "\udce9.png", names=["1.png", "é.png"])


def merge(entries, labels, *, vote=False):
    order = list(dict.fromkeys(entries))
    classes = sorted(set(labels) - {""})
    indices = [classes.index(label) if label else UNKNOWN for label in labels]
    rows = [order.index(entry) for entry in entries]
    return one_label_each(said(*labels, entries=tuple(entries)), rows, indices, len(order), vote=vote)


def test_rows_that_repeat_a_label_are_merged():
    """The same label twice is one label, with a note; a row without a label takes none away."""
    labels, notes = merge(["x", "y", "x", "y"], ["a", "b", "a", ""])
    assert labels.tolist() == [0, 1]
    assert notes == ("a.csv: rows that repeat an image, merged: 1",)
    assert merge(["x", "y"], ["a", "b"])[1] == ()


def test_two_labels_for_one_image_are_refused():
    """Both lines and both labels are named."""
    with pytest.raises(LabelError) as refused:
        merge(["x", "y", "x"], ["cat", "cat", "dog"])
    assert str(refused.value) == (
        "a.csv line 4: 'x' is 'dog' here and 'cat' in line 2; correct the file, or let the most "
        "frequent label "
        "win with --duplicates=vote"
    )


def test_a_vote_takes_the_most_frequent_then_the_first():
    """Majority decides, and among equals the label that came first in the file."""
    labels, notes = merge(["x", "x", "x", "y", "y"], ["a", "b", "b", "b", "a"], vote=True)
    assert labels.tolist() == [1, 1]
    assert (
        notes[1]
        == "a.csv: images with different labels, the most frequent taken: 2, of equally many the first: 1"
    )


@given_examples(st.lists(st.tuples(st.integers(0, 5), st.integers(UNKNOWN, 2))))
def test_a_vote_equals_the_slow_count(votes):
    """The result is the one that counting each image's labels by hand gives."""
    rows, indices = [row for row, _ in votes], [index for _, index in votes]
    labels, _ = one_label_each(said(*["?"] * len(votes)), rows, indices, 6, vote=True)
    for image in range(6):
        cast = [index for row, index in votes if row == image and index != UNKNOWN]
        expected = max(cast, key=lambda label: (cast.count(label), -cast.index(label))) if cast else UNKNOWN
        assert labels[image] == expected
    assert labels.dtype == np.int64


def test_whole_paths_of_the_images_are_their_names(tmp_path):
    """As tools write them; below the images alone, and through no ``..``."""
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to(images)
    entries = [f"{images}/a/1.png", f"{tmp_path}/images2/1.png", f"{images}/../x.png", "a/1.png"]
    names = ["a/1.png", "x.png", "1.png"]
    pairing = paired(*entries, names=names, images=images, path=tmp_path / "labels" / "n.csv")
    assert pairing.images == (0, None, None, 0)
    assert {why.reason for why in pairing.skipped.values()} == {"bad_path"}
    linked = paired(f"{tmp_path}/link/x.png", f"{images}/1.png", names=names, images=tmp_path / "link")
    assert linked.images == (1, 2)


@pytest.mark.parametrize("entries", [["/data/1.png", "/data/2.png"], ["../images/1.png"]])
def test_paths_that_all_lead_elsewhere_are_refused(entries):
    """The first is shown beside the name of an image."""
    with pytest.raises(DataError, match=r"none of its . paths names an image of images: the first is"):
        paired(*entries, names=["1.png", "2.png"])
