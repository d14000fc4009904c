"""Which image each row of a label table is of; what is refused and how."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st

from assay.data.dataset import Listing, ReadOptions, Skipped
from assay.data.matching import LabelRows, match_rows, misalignment, one_label_each
from assay.data.tables import Table
from assay.errors import DataError, TableError, UsageError
from assay.types import UNKNOWN

IMAGES = Path("images")


class Unread:
    """A source that no test here reads from."""

    def read(self, index):
        raise AssertionError(f"matching opens nothing, not even image {index}")


def rows_of(*labels, path="a.csv", **known):
    table = Table(Path(path), None, (("",),) * len(labels), tuple(range(1, len(labels) + 1)))
    return LabelRows(table, labels, **known)


def in_order(*labels, names, complete=True):
    return match_rows(
        rows_of(*labels), Listing(tuple(names), Unread()), IMAGES, ReadOptions(), complete=complete
    )


def by_path(*entries, names, images=IMAGES, path="a.csv", **options):
    rows = rows_of(*entries, entries=entries, path=path)
    return match_rows(rows, Listing(tuple(names), Unread()), images, ReadOptions(**options), complete=True)


def test_rows_without_names_belong_to_images_in_order():
    """Row i is image i, and the first and last three pairs are shown; odd names are escaped (fault 37)."""
    found = in_order(*"abcdefgh", names=[f"{i}.png" for i in range(1, 9)])
    assert found.images == tuple(range(8))
    assert found.notes == (
        "a.csv: 8 labels by order of names: 1.png → a, 2.png → b, 3.png → c, …, 6.png → f, 7.png → g, "
        "8.png → h",
    )
    few = in_order("a", "", names=["1\n.png", "2.png"])
    assert few.notes == (r"a.csv: 2 labels by order of names: '1\n.png' → a, 2.png → (none)",)


@pytest.mark.parametrize("labels", ["abcd", "ab"])
def test_a_count_that_does_not_match_is_refused(labels):
    """A line too many or too few is an error with both counts and the assumed order (fault 37)."""
    with pytest.raises(DataError) as refused:
        in_order(*labels, names=["1.png", "2.png", "10.png"])
    assert str(refused.value) == (
        f"a.csv: expected 3 labels, one for each image of images, got {len(labels)}; without names, label i "
        "belongs to the i-th image in natural order (2.png before 10.png; here '1.png', '2.png', '10.png'). "
        "Correct the file (an empty line is an unknown label), or give it a header 'path,label' and names"
    )


def test_trusted_labels_may_be_fewer_but_not_more():
    """Trusted rows are those of the first images; blank lines at the end do not count."""
    names = ["1.png", "2.png"]
    assert in_order("a", names=names, complete=False).images == (0,)
    assert in_order(names=names, complete=False).notes == ("a.csv has no labels",)
    assert in_order("a", "b", "", "", names=names).images == (0, 1)
    with pytest.raises(DataError, match="expected at most 2 labels, one for each image of images, got 3"):
        in_order(*"abc", names=names, complete=False)


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
        ("A.jpg", ["a.jpg", "A.jpg"]),
        ("../x.png", ["a.png", "../x.png"]),
    ],
)
def test_a_path_finds_its_image(entry, names):
    """Separators, dots and the name of the images' folder do not matter; all else does (fault 27)."""
    assert by_path(entry, names=names).images == (1,)


@pytest.mark.parametrize(
    ("table", "images", "entry", "names"),
    [
        ("labels.csv", "deep/images", "deep/images/1.png", ["0.png", "1.png"]),
        ("labels.csv", "images", "images/images/1.png", ["1.png", "images/1.png"]),
        ("deep/images/labels.csv", "deep/images", "1.png", ["0.png", "1.png"]),
        ("images/sub/labels.csv", "images", "1.png", ["1.png", "sub/1.png"]),
        ("labels/a.csv", "images", "1.png", ["0.png", "1.png"]),
        ("labels/a.csv", "images", "{images}/1.png", ["0.png", "1.png"]),
        ("labels/a.csv", "images", "../images/1.png", ["0.png", "1.png"]),
    ],
)
def test_a_path_may_begin_at_the_table_at_the_images_or_at_the_root(tmp_path, table, images, entry, names):
    """Paths are relative to the label file's folder, if not there to the images, or absolute."""
    (tmp_path / images).mkdir(parents=True)
    entry = entry.format(images=tmp_path / images)
    assert by_path(entry, names=names, images=tmp_path / images, path=tmp_path / table).images == (1,)


def test_absolute_paths_lie_below_the_images_alone(tmp_path):
    """A folder with a similar name and ``..`` are bad paths; a linked place and its target are both known."""
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to(images)
    names = ["1.png", "x.png"]
    entries = [f"{tmp_path}/images2/1.png", f"{images}/../x.png", "1.png"]
    found = by_path(*entries, names=names, images=images, path=tmp_path / "labels" / "n.csv")
    assert found.images == (None, None, 0)
    assert {why.reason for why in found.skipped.values()} == {"bad_path"}
    linked = by_path(f"{tmp_path}/link/x.png", f"{images}/1.png", names=names, images=tmp_path / "link")
    assert linked.images == (1, 0)


@pytest.mark.parametrize("archive", ["images.zip", "images.tar.gz", "images.TGZ"])
@pytest.mark.parametrize(
    ("entry", "names", "found"),
    [
        ("1.png", ["pics/0.png", "pics/1.png"], 1),
        ("pics/1.png", ["pics/0.png", "pics/1.png"], 1),
        ("images/1.png", ["0.png", "1.png"], 1),
        ("1.png", ["a/1.png", "b/1.png"], None),
    ],
)
def test_the_common_folder_of_an_archive_may_be_left_out(archive, entry, names, found):
    """Members are found with or without the folder that all share, and below the archive's name."""
    assert by_path(entry, names[0], names=names, images=Path(archive)).images == (found, 0)


@pytest.mark.parametrize(("written", "on_disk"), [("é.png", "e\u0301.png"), ("e\u0301.png", "é.png")])
def test_names_match_after_normalisation(written, on_disk):
    """NFC and NFD name one image, and such rows are counted; if both exist, neither is taken (fault 26)."""
    assert by_path(on_disk, names=["a.png", on_disk]).notes == ()
    found = by_path(written, names=["a.png", on_disk])
    assert found.images == (1,)
    assert found.notes == ("a.csv: names in another Unicode form than the images': 1",)
    with pytest.raises(DataError) as refused:
        by_path(written, names=["e\u0301.png", "é.png"])
    assert str(refused.value) == (
        f"ambiguous_name: '{written}' may be 'e\\u0301.png' and '\\xe9.png', which differ only in their "
        "Unicode form; rename one of the two files"
    )


@pytest.mark.parametrize(
    ("written", "on_disk"), [("a/b.jpg", "a/B.JPG"), ("images/b", "b.png"), ("./c.png", "C.jpeg")]
)
def test_names_that_differ_in_case_or_ending_are_reported(written, on_disk):
    """They are not taken as equal: the row stays without an image, and one pair is shown."""
    found = by_path("a.png", written, "z.png", names=["a.png", on_disk, "y.png"])
    assert found.images == (0, None, None)
    assert found.notes == (
        "warning: a.csv: paths that name no image, but would by file name alone (--match name): 1, such as "
        f"'{written}' for '{on_disk}'",
        f"a.csv: rows without an image: 2, such as '{written}'",
    )
    with pytest.raises(DataError, match=r"With --match name, which compares file names alone, 1 of 1 do$"):
        by_path(written, names=["a.png", on_disk])
    named = by_path("a.png", written, names=["a.png", on_disk, "y.png"], match="name")
    assert named.images == (0, 1)
    assert named.notes == (f"a.csv: rows matched by file name: 1, such as {written} → {on_disk}",)


def test_a_row_without_an_image_is_skipped_with_its_place():
    """The reason names file, line and image (fault 30); a path that is not UTF-8 is refused by its byte."""
    why = Skipped("missing_image", r"a.csv line 2 names 'no\n.png', which does not exist")
    assert by_path("1.png", "no\n.png", names=["1.png"]).skipped == {1: why}
    message = r"a\.csv line 2: byte 0xE9 of '\\udce9\.png' is not UTF-8; save the"
    with pytest.raises(TableError, match=message):
        by_path("1.png", "\udce9.png", names=["1.png", "é.png"])


@pytest.mark.parametrize(
    ("entries", "advice"),
    [
        (["x", "y"], "; write the paths relative to the label file or to the images"),
        (["data/a/1.png", "data/b/2.png"], ". With --strip-prefix data/, 2 of 2 do"),
        (["../q.png", "my data/a/1.png"], ". With --strip-prefix 'my data/', 1 of 2 do"),
        (["/x/a/1.png", "/y/b/2.png"], ". With --match name, which compares file names alone, 2 of 2 do"),
        (["/x/c/c/1.png", "/x/c/c/2.png"], ". With --strip-prefix /x/ or --strip-prefix /x/c/, 2 of 2 do"),
    ],
)
def test_paths_that_all_miss_are_refused(entries, advice):
    """If no row finds its image, the message has the flag with which most do, or the places to write from."""
    names = ["a/1.png", "b/2.png", "c/1.png", "c/2.png", "c/c/1.png", "c/c/2.png"]
    with pytest.raises(DataError) as refused:
        by_path(*entries, names=names[: 6 if "/c/" in entries[0] else 2])
    assert str(refused.value) == (
        "a.csv: none of its 2 paths names an image of images: the first is "
        f"'{entries[0]}', an image is called 'a/1.png'{advice}"
    )


@pytest.mark.parametrize(
    "prefix", ["/home/other/photos/", "C:\\photos\\", "\\\\host\\share\\", "../gone/", "https://host/a/"]
)
def test_a_place_on_another_machine_is_left_out(prefix):
    """Where all paths begin so and all of their rests are images, they are read, with a note."""
    entries = [
        f"{prefix}{name}".replace("/", "\\" if "\\" in prefix else "/") for name in ("a/1.png", "b/2.png")
    ]
    found = by_path(*entries, names=["b/2.png", "a/1.png", "x.png"])
    assert found.images == (1, 0)
    assert found.notes == (
        f"a.csv: all paths begin with {prefix}, which is not here and was left out: {entries[0]} → a/1.png",
    )


def test_paths_to_other_files_here_are_not_taken_for_the_images(tmp_path):
    """A file that exists at the path is meant, even if an image has its name: the flag must be given."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "1.png").write_bytes(b"")
    images = tmp_path / "images"
    images.mkdir()
    entry = f"{tmp_path}/old/1.png"
    with pytest.raises(DataError, match=r"With --strip-prefix \S+/old/, 1 of 1 do"):
        by_path(entry, names=["1.png"], images=images)
    for prefix in (f"{tmp_path}/old", f"{tmp_path}/old/"):
        assert by_path(entry, names=["1.png"], images=images, strip_prefix=prefix).images == (0,)


def test_a_prefix_is_taken_off_where_it_stands():
    """Either separator will do, and paths without it are looked up as they are."""
    entries, names = (
        ["C:\\data\\a\\1.png", "C:/data/b.png", "c.png", "a/1.png"],
        ["a/1.png", "b.png", "c.png"],
    )
    assert by_path(*entries, names=names, strip_prefix="C:\\data").images == (0, 1, 2, 0)
    assert by_path(*entries, names=names, strip_prefix="D:\\").images == (None, None, 2, 0)


def test_a_file_name_must_name_one_image():
    """The exact name comes first; a name of two images, or two paths with one name, are refused with both."""
    names = ["a/1.png", "b/1.png", "2.jpg", "2.PNG"]
    found = by_path("b/1.png", "x/2.PNG", "2.jpg", names=names, match="name")
    assert found.images == (1, 3, 2)
    for entry in ("x/1.png", "1"):
        message = (
            rf"ambiguous_name: '{entry}' may be 'a/1.png' and 'b/1.png', which have this file name; write"
        )
        with pytest.raises(DataError, match=message):
            by_path(entry, names=names, match="name")
    with pytest.raises(
        DataError, match=r"a.csv line 2: ambiguous_name: 'x/2.jpg' and '2.jpg' in line 1 are one"
    ):
        by_path("2.jpg", "x/2.jpg", names=names, match="name")
    assert by_path("2.jpg", "./2.jpg", "2.jpg", names=names, match="name").images == (2, 2, 2)
    with pytest.raises(UsageError, match="expected --match path or name, got 'stem'"):
        by_path("2.jpg", names=names, match="stem")


def merged(entries, labels, **options):
    order, classes = list(dict.fromkeys(entries)), sorted(set(labels) - {""})
    rows = rows_of(*labels, entries=tuple(entries), images=tuple(map(order.index, entries)))
    index = {label: place for place, label in enumerate(classes)} | {"": UNKNOWN}
    found, notes = one_label_each(rows, index, {place: place for place in range(len(order))}, **options)
    return found.tolist(), notes


def test_rows_that_repeat_a_label_are_merged():
    """The same label twice is one label, with a note; a row without a label takes none away (fault 31)."""
    empty = "a.csv: empty labels, used as unknown: 1"
    found = merged(["x", "y", "x", "y"], ["a", "b", "a", ""])
    assert found == ([0, 1], (empty, "a.csv: rows that repeat an image, merged: 1"))
    assert merged(["x", "y"], ["a", "b"])[1] == ()


@given_examples(st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from(["", "a", "b", "c"]))))
def test_a_vote_equals_the_slow_count(votes):
    """The most frequent label of an image wins, and in a tie the one that came first."""
    images = dict.fromkeys(image for image, _ in votes)
    classes = sorted({label for _, label in votes} - {""})
    labels, notes = merged([image for image, _ in votes], [label for _, label in votes], vote=True)
    divided = 0
    for place, image in enumerate(images):
        cast = [label for other, label in votes if other == image and label]
        best = max(cast, key=lambda label: (cast.count(label), -cast.index(label))) if cast else None
        assert labels[place] == (classes.index(best) if cast else UNKNOWN)
        divided += len(set(cast)) > 1
    assert any(f"the most frequent is used: {divided}" in note for note in notes) == (divided > 0)


def pairs(agreement, n=2_000, k=10):
    generator = np.random.default_rng(0)
    trusted = generator.integers(k, size=n)
    wrong = generator.random(n) > agreement
    return np.where(wrong, generator.integers(k, size=n), trusted), trusted


@pytest.mark.parametrize(("step", "where"), [(1, "earlier"), (-1, "later")])
@pytest.mark.parametrize("agreement", [0.3, 1.0])
def test_labels_one_line_off_are_noticed(step, where, agreement):
    """A line too many or too few gives a warning with its direction, even among noisy labels (fault 37)."""
    noisy, trusted = pairs(agreement)
    (warning,) = misalignment(noisy, np.roll(trusted, step))
    start = r"warning: possible_misalignment: noisy and trusted labels agree on 0\.\d\d\d of"
    assert re.match(start, warning)
    assert f"with the trusted labels one image {where}; is there a line too many or too few" in warning


@pytest.mark.parametrize("agreement", [0.1, 0.3, 0.9, 1.0])
def test_aligned_labels_give_no_warning(agreement):
    """Noise is no misalignment, nor are labels that come in long runs, independent or few labels."""
    noisy, trusted = pairs(agreement)
    order = np.argsort(trusted, kind="stable")
    draws = [np.random.default_rng(seed).integers(3, size=(2, 50)) for seed in range(100)]
    few = [(np.zeros(n, dtype=int), np.full(n, label)) for n in (0, 1, 2) for label in (UNKNOWN, 1)]
    for labels in ((noisy, trusted), (noisy[order], trusted[order]), *draws, *few):
        assert misalignment(*labels) == ()
