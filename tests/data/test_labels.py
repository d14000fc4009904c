"""Which image each row of a label table is of, and which class each label means; what is refused and how."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st

from assay.data.dataset import Listing, ReadOptions, Skipped
from assay.data.labels import (
    LabelRows,
    decide_classes,
    label_warnings,
    match,
    misalignment,
    one_label_each,
)
from assay.data.tables import Table
from assay.errors import DataError, LabelError, TableError, UsageError
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
    return match(rows_of(*labels), Listing(tuple(names), Unread()), IMAGES, complete=complete)


def by_name(*entries, names, images=IMAGES, path="a.csv"):
    rows = rows_of(*entries, entries=entries, path=path)
    return match(rows, Listing(tuple(names), Unread()), images, complete=True)


# Rows to images


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
    assert by_name(entry, names=names).images == (1,)


@pytest.mark.parametrize(
    ("table", "images", "entry", "names"),
    [
        ("labels.csv", "deep/images", "deep/images/1.png", ["0.png", "1.png"]),
        ("labels.csv", "images", "images/images/1.png", ["1.png", "images/1.png"]),
        ("deep/images/labels.csv", "deep/images", "1.png", ["0.png", "1.png"]),
        ("images/sub/labels.csv", "images", "1.png", ["1.png", "sub/1.png"]),
        ("labels/a.csv", "images", "1.png", ["0.png", "1.png"]),
        ("labels/a.csv", "images", "{images}/1.png", ["0.png", "1.png"]),
    ],
)
def test_a_path_may_begin_at_the_table_at_the_images_or_at_the_root(tmp_path, table, images, entry, names):
    """Paths are relative to the label file's folder, if not there to the images, or absolute."""
    (tmp_path / images).mkdir(parents=True)
    entry = entry.format(images=tmp_path / images)
    assert by_name(entry, names=names, images=tmp_path / images, path=tmp_path / table).images == (1,)


def test_absolute_paths_lie_below_the_images_alone(tmp_path):
    """A folder with a similar name and ``..`` are bad paths; a linked place and its target are both known."""
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to(images)
    names = ["1.png", "x.png"]
    entries = [f"{tmp_path}/images2/1.png", f"{images}/../x.png", "1.png"]
    found = by_name(*entries, names=names, images=images, path=tmp_path / "labels" / "n.csv")
    assert found.images == (None, None, 0)
    assert {why.reason for why in found.skipped.values()} == {"bad_path"}
    linked = by_name(f"{tmp_path}/link/x.png", f"{images}/1.png", names=names, images=tmp_path / "link")
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
    assert by_name(entry, names[0], names=names, images=Path(archive)).images == (found, 0)


@pytest.mark.parametrize(("written", "on_disk"), [("é.png", "e\u0301.png"), ("e\u0301.png", "é.png")])
def test_names_match_after_normalisation(written, on_disk):
    """NFC and NFD name one image, and such rows are counted; if both exist, neither is taken (fault 26)."""
    assert by_name(on_disk, names=["a.png", on_disk]).notes == ()
    found = by_name(written, names=["a.png", on_disk])
    assert found.images == (1,)
    assert found.notes == ("a.csv: names in another Unicode form than the images': 1",)
    with pytest.raises(DataError) as refused:
        by_name(written, names=["e\u0301.png", "é.png"])
    assert str(refused.value) == (
        f"ambiguous_name: '{written}' may be 'e\\u0301.png' and '\\xe9.png', which differ only in their "
        "Unicode form; rename one of the two files"
    )


@pytest.mark.parametrize(
    ("written", "on_disk"), [("a/b.jpg", "a/B.JPG"), ("images/b", "b.png"), ("./c.png", "C.jpeg")]
)
def test_names_that_differ_in_case_or_ending_are_reported(written, on_disk):
    """They are not taken as equal: the row stays without an image, and one pair is shown."""
    found = by_name("a.png", written, "z.png", names=["a.png", on_disk, "y.png"])
    assert found.images == (0, None, None)
    assert found.notes == (
        "warning: a.csv: 1 names of missing images differ from an existing one only in case or ending, such "
        f"as '{written}' and '{on_disk}'; write the exact file names",
        "a.csv: rows without an image: 2",
    )
    with pytest.raises(DataError, match=r"differ in case or ending; write the exact file names"):
        by_name(written, names=["a.png", on_disk])


def test_a_row_without_an_image_is_skipped_with_its_place():
    """The reason names file, line and image (fault 30); a path that is not UTF-8 is refused by its byte."""
    why = Skipped("missing_image", r"a.csv line 2 names 'no\n.png', which does not exist")
    assert by_name("1.png", "no\n.png", names=["1.png"]).skipped == {1: why}
    message = r"a\.csv line 2: byte 0xE9 of '\\udce9\.png' is not UTF-8; save the"
    with pytest.raises(TableError, match=message):
        by_name("1.png", "\udce9.png", names=["1.png", "é.png"])


@pytest.mark.parametrize(
    ("entries", "first"),
    [(["../q.png", "x/1.png"], "x/1.png"), (["/a/1.png", "/a/2.png"], "/a/1.png")],
)
def test_paths_that_all_miss_are_refused(entries, first):
    """If no row finds its image, the folder or the paths are wrong, and both are shown."""
    with pytest.raises(DataError) as refused:
        by_name(*entries, names=["1.png", "2.png"])
    assert str(refused.value) == (
        f"a.csv: none of its 2 paths names an image of images: the first is '{first}', an image is "
        "called '1.png'; write the paths relative to the label file or to the images"
    )


# Labels to classes


def decide(noisy, trusted=None, declared=(), apart=(), **options):
    noisy = None if noisy is None else rows_of(*noisy, path="noisy.csv", declared=declared)
    trusted = None if trusted is None else rows_of(*trusted, path="clean.csv")
    return decide_classes(noisy, trusted, ReadOptions(**options), apart=apart)


def test_the_classes_are_the_noisy_labels_in_natural_order():
    """Distinct noisy labels are the classes, 2 before 10, and an empty label is none of them."""
    classes = decide(["10", "2", "", "10", "1"], ["2", ""])
    assert (classes.names, classes.titles) == (("1", "2", "10"), ())
    assert classes.noisy == {"10": 2, "2": 1, "1": 0, "": UNKNOWN}
    assert classes.trusted == {"2": 1, "": UNKNOWN}
    assert decide(["1", "", "2", "10", "10"], ["2", ""]) == classes  # by the set of labels only


def test_without_noisy_labels_the_trusted_ones_give_the_classes():
    """A trusted file alone defines the classes, after the class map; no file means no classes."""
    classes = decide(None, ["b", "a", "aa"], class_map={"aa": "a"})
    assert classes.names == ("a", "b")
    assert classes.trusted == {"b": 1, "a": 0, "aa": 0, "": UNKNOWN}
    assert decide(None).names == ()


NO_CLASS = "is not a class of noisy.csv"
SAME = "Correct it, pass --normalize-labels: the two differ only in case, spaces or Unicode form"
NEW = {"allow_new_classes": True}


@pytest.mark.parametrize(
    ("trusted", "options", "message"),
    [
        (["dog", "cta"], {}, f"line 2: 'cta' {NO_CLASS}; did you mean 'cat'? Correct it, pass --class-map "
         "cta=cat, or --allow-new-classes"),
        (["Cat", "owl", "dog"], {}, f"line 1: 'Cat' {NO_CLASS}; did you mean 'cat'? {SAME} (2 labels are no "
         "class)"),
        (["owl"], {}, f"line 1: 'owl' {NO_CLASS}. Correct it, pass --class-map owl=CLASS, or "
         "--allow-new-classes"),
        (["CAT"], NEW, f"line 1: 'CAT' {NO_CLASS}; did you mean 'cat'? {SAME}"),
        (["owl", "Owl"], NEW, "line 1: 'Owl' and 'owl' differ only in case, spaces or Unicode form; write "
         "'Owl' everywhere, pass --normalize-labels, or list them in --classes if they are two classes"),
    ],
)  # fmt: skip  # one case after another
def test_a_trusted_label_of_no_class_is_refused(trusted, options, message):
    """A slip in a trusted label is named with its place and the class that was meant (faults 33, 34)."""
    with pytest.raises(LabelError) as refused:
        decide(["cat", "dog"], trusted, **options)
    assert str(refused.value) == f"clean.csv {message}"


def test_a_class_map_reads_a_trusted_label_as_another():
    """The map applies to trusted labels, may make one unknown, and must lead to a class."""
    classes = decide(["cat", "dog"], ["cta", "dog", "?"], class_map={"cta": "cat", "?": ""})
    assert classes.trusted == {"cta": 0, "dog": 1, "?": UNKNOWN, "": UNKNOWN}
    message = r"--class-map a=cta: 'cta' is not a class; did you mean 'cat'\? The"
    with pytest.raises(UsageError, match=message):
        decide(["cat", "dog"], ["cat"], class_map={"a": "cta"})


@pytest.mark.parametrize("variant", ["Cat", "cat ", "ｃat", "CAT", "\tcat\u00a0"])
def test_spellings_of_one_class_are_refused_or_merged_on_request(variant):
    """Two spellings are never merged silently; with the flag the most frequent one stays (fault 34)."""
    labels = ["cat", "dog", variant, "cat"]
    with pytest.raises(LabelError, match=r"^noisy\.csv line 3: .* differ only in case, .*; write 'cat'"):
        decide(labels)
    classes = decide(labels, [variant, "DOG", " "], normalize_labels=True)
    assert classes.names == ("cat", "dog")
    assert classes.noisy[variant] == classes.noisy["cat"] == 0
    assert classes.trusted == {variant: 0, "DOG": 1, " ": UNKNOWN, "": UNKNOWN}
    declared = decide(["cat", "dog"], declared=(variant,), normalize_labels=True)
    assert declared.names == tuple(sorted([variant, "dog"]))


@pytest.mark.parametrize("merged", [False, True])
def test_classes_that_differ_in_case_alone_can_be_kept_apart(write_file, merged):
    """Names listed side by side, in a classes file or by a model, are two, merged or not."""
    options = {"classes": write_file("classes.txt", "A\na\nB\n"), "normalize_labels": merged}
    classes = decide(["A", "a", "B"], ["a", "A"], **options)
    assert classes.names == ("A", "B", "a")
    assert classes.noisy == {"A": 0, "B": 1, "a": 2, "": UNKNOWN}
    assert classes.trusted == {"a": 2, "A": 0, "": UNKNOWN}
    assert decide(None, ["A", "a", "b"], apart={"A", "a"}).names == ("A", "a", "b")
    with pytest.raises(LabelError, match="differ only in case"):
        decide(None, ["A", "a", "b"], apart={"a"})


def test_a_label_of_white_space_is_refused_or_missing():
    """White space alone is no class; with normalisation it is a missing label."""
    with pytest.raises(LabelError, match=r"noisy\.csv line 2: the label '  ' is only white space; leave it"):
        decide(["a", "  ", "b"])
    assert decide(["a", "  ", "b"], normalize_labels=True).noisy["  "] == UNKNOWN


@pytest.mark.parametrize(("labels", "got"), [(["a", "a"], "only 'a'"), (["", ""], "no label at all")])
def test_one_class_is_not_enough(labels, got):
    """Fewer than two classes are refused, unless a class folder or a file declares more (fault 38)."""
    with pytest.raises(LabelError, match=rf"noisy\.csv: expected labels of two classes or more, got {got}"):
        decide(labels)
    assert decide(["a"], declared=("a", "b")).names == ("a", "b")


def test_many_classes_are_accepted_if_images_share_them(write_file):
    """A thousand single images are classes; six thousand different labels are another column (fault 38)."""
    assert len(decide([str(i) for i in range(1_200)], ["7"]).names) == 1_200
    labels = [f"image {i}" for i in range(6_000)]
    with pytest.raises(LabelError, match=r"got 6,000 different labels in 6,000 rows, .*--label-col"):
        decide(labels, ["image 1"])
    assert len(decide(labels * 2, ["image 1"]).names) == 6_000
    listed = write_file("classes.txt", "\n".join(labels))
    assert len(decide(labels, ["image 1"], classes=listed).names) == 6_000


@pytest.mark.parametrize(
    ("text", "noisy", "trusted", "names", "titles"),
    [
        ("plane\ncar\nbird\n", ["2", "0"], "2", ("0", "1", "2"), ("plane", "car", "bird")),
        ("plane\ncar\nbird\n", ["2", "0"], "1.5", ("0", "1", "1.5", "2"), ("plane", "car", "1.5", "bird")),
        ("owl\r\ncat\r\ndog\r\n", ["dog", "cat"], "owl", ("cat", "dog", "owl"), ()),
    ],
    ids=["titles of integers", "a new class is its own title", "names"],
)
def test_a_classes_file_declares_classes(write_file, text, noisy, trusted, names, titles):
    """Line i is the title of class i where labels are integers, else a class; a trusted label may add one."""
    path = write_file("classes.txt", text)
    classes = decide(noisy, [trusted], classes=path, allow_new_classes=True)
    assert (classes.names, classes.titles) == (names, titles)


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("a\n\nb\n", "01", r"classes\.txt line 2: expected the name of a class, got an empty line"),
        ("a\nb\na\n", "01", r"classes\.txt line 3: 'a' is already in line 1"),
        ("a\nb\n", "02", r"noisy\.csv line 2: '2' is not among the 2 classes of classes\.txt\. Correct"),
        ("cat\ndog\n", ["dog", "cta"], r"noisy\.csv line 2: 'cta' is not among .*; did you mean 'cat'\?"),
        ("cat\nCat\n", ["cat"], r"'Cat' and 'cat' differ only in case"),
    ],
)
def test_a_classes_file_that_does_not_fit_is_refused(write_file, text, labels, message):
    """Empty and repeated names, and labels that the file does not have, are refused with their line."""
    with pytest.raises(LabelError, match=message):
        decide(labels, classes=write_file("classes.txt", text))


# One label for each image


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


def test_few_labels_give_notes():
    """Classes without a trusted label, single images and total disagreement are reported (fault 38)."""
    names = tuple("abcd")
    assert label_warnings(names, np.array([0, 1, 1, -1]), np.array([1, 0, 3, -1])) == (
        "classes without a trusted label: 'c'",
        "classes with only one noisy label: 'a'",
        "warning: none of 3 noisy labels equals its trusted label",
    )
    assert label_warnings(names, np.array([0, 0, 1, 1]), np.full(4, -1)) == ()
    many = tuple(map(str, range(20)))
    (note,) = label_warnings(many, np.repeat(np.arange(20), 2), np.repeat([0, -1], 20))
    assert note.endswith("'10' and 9 more")


@pytest.mark.parametrize(("n", "doubted"), [(29, False), (30, True)])
def test_trusted_labels_that_all_equal_the_noisy_ones_are_doubted(n, doubted):
    """A few may be equal by chance, many are rather the wrong column; the flag for another is named."""
    labels = np.arange(n) % 2
    notes = label_warnings(["a", "b"], labels, labels)
    assert any("--trusted-label-col" in note for note in notes) is doubted
    assert not any("--trusted" in note for note in label_warnings(["a", "b"], labels, np.zeros_like(labels)))


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
