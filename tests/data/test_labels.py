"""Which class each label means; what is refused and how."""

from pathlib import Path

import numpy as np
import pytest

from assay.data.dataset import ReadOptions
from assay.data.labels import decide_classes, label_warnings
from assay.data.matching import LabelRows
from assay.data.tables import Table
from assay.errors import LabelError, UsageError
from assay.types import UNKNOWN


def rows_of(*labels, path="a.csv", **known):
    table = Table(Path(path), None, (("",),) * len(labels), tuple(range(1, len(labels) + 1)))
    return LabelRows(table, labels, **known)


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
