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
SAME = "Correct it, or pass --normalize-labels, as the two differ only in case, spaces or Unicode form"
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


def test_a_class_map_reads_a_label_as_another():
    """The map applies to all labels, may make one unknown, and must lead to a class."""
    assert decide(["cat", "dog", "cta"], class_map={"cta": "cat"}).noisy["cta"] == 0
    classes = decide(["cat", "dog"], ["cta", "dog", "?"], class_map={"cta": "cat", "?": ""})
    assert classes.trusted == {"cta": 0, "dog": 1, "?": UNKNOWN, "": UNKNOWN}
    message = r"--class-map a=cta: 'cta' is not a class; did you mean 'cat'\? The"
    with pytest.raises(UsageError, match=message):
        decide(["cat", "dog"], ["cat"], class_map={"a": "cta"})


@pytest.mark.parametrize("variant", ["Cat", "cat ", "ｃat", "CAT", "\tcat\u00a0"])
def test_spellings_of_one_class_are_refused_or_merged_on_request(variant):
    """Two spellings are never merged silently; with the flag the trusted one stays, or the most frequent."""
    labels = ["cat", "dog", variant, "cat"]
    with pytest.raises(LabelError, match=r"^noisy\.csv line 3: .* differ only in case, .*; write 'cat'"):
        decide(labels)
    assert decide(labels, normalize_labels=True).names == ("cat", "dog")
    classes = decide(labels, [variant, "DOG", " "], normalize_labels=True)
    assert sorted(classes.names) == sorted(["DOG", " ".join(variant.split())])
    assert classes.noisy[variant] == classes.noisy["cat"] == classes.trusted[variant]
    assert classes.trusted["DOG"] == classes.noisy["dog"]
    assert classes.trusted[" "] == UNKNOWN
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


@pytest.mark.parametrize("label", ["NaN", "nan", "NA", "N/A", "None", "null", "<NA>", "-1", "?"])
def test_a_label_that_stands_for_none_is_questioned(label):
    """It is never silently a class: both ways out are named, and both work, also for trusted labels."""
    flags = [f"{label}=", f"{label}={label}"]
    with pytest.raises(LabelError) as refused:
        decide(["cat", label, "dog", label])
    text = str(refused.value).replace("'", "").replace("class-map=", "class-map ")
    assert text.startswith(f"noisy.csv line 2: the label {label} (2 rows) usually stands for a missing one.")
    assert [flag in text for flag in (f"--class-map {flags[0]};", f"--class-map {flags[1]}")] == [True, True]
    missing = decide(["cat", label, "dog"], [label, "cat"], class_map={label: ""})
    assert (missing.names, missing.noisy[label], missing.trusted[label]) == (("cat", "dog"), UNKNOWN, UNKNOWN)
    kept = decide(["cat", label, "dog"], [label], class_map={label: label})
    assert set(kept.names) == {"cat", label, "dog"}
    assert decide(["cat", "dog"], declared=(label, "cat", "dog")).names  # a folder of this name
    with pytest.raises(LabelError, match=r"clean.csv line 1: the label .* usually stands for a missing one"):
        decide(["cat", "dog"], [label])


GLASS = ["glass"] * 5 + ["metal"] * 5
MEANT = "noisy.csv line 11: the label 'glas' occurs once; did you mean 'glass' (5 labels)? "


@pytest.mark.parametrize("slip", ["glas", "glasss", "galss", "Glazs", "g lass", "metl"])
def test_a_label_that_looks_misspelled_is_questioned(slip):
    """A single label one letter away from a common class is corrected, mapped, or declared a class."""
    with pytest.raises(
        LabelError, match=rf"line 11: the label '{slip}' occurs once; did you mean '(glass|metal)'"
    ):
        decide([*GLASS, slip])
    assert decide([*GLASS, slip], class_map={slip: "glass"}).names == ("glass", "metal")
    assert slip in decide([*GLASS, slip], class_map={slip: slip}).names
    assert slip in decide([*GLASS, slip, slip]).names
    with pytest.raises(LabelError, match=rf"clean.csv line 1: the label '{slip}' occurs once"):
        decide(GLASS, [slip], allow_new_classes=True)


def test_the_message_about_a_misspelled_label(write_file):
    """It has the place, what was probably meant, and three ways out."""
    advice = (
        "Correct it, or pass --class-map glas=glass; if it is a class, pass --class-map glas=glas, or list "
        "all classes in --classes"
    )
    with pytest.raises(LabelError) as refused:
        decide([*GLASS, "glas"])
    assert str(refused.value) == MEANT + advice
    with pytest.raises(LabelError) as refused:
        decide([*GLASS, "glas", "metall"])
    assert str(refused.value) == f"{MEANT}{advice} (2 labels look misspelled)"
    listed = write_file("classes.txt", "glas\nglass\nmetal\n")
    assert decide([*GLASS, "glas"], classes=listed).names == ("glas", "glass", "metal")


@pytest.mark.parametrize("rare", ["trash", "glass 2", "glass bottle", "10", "g", "cat"])
def test_a_rare_class_is_no_misspelling(rare):
    """Another word, another number, and another short word are classes, however rare."""
    usual = [*GLASS, *(["1"] * 5), *(["glass 1"] * 5), *(["h"] * 5), *(["car"] * 5)]
    assert rare in decide([*usual, rare]).names


def test_few_labels_are_no_common_class():
    """Where every class is rare, a single label is not questioned."""
    assert "glas" in decide(["glass"] * 4 + ["metal", "glas"]).names


NAMES = ("plane", "car", "bird")


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize(
    ("noisy", "trusted", "names", "titles"),
    [
        (["2", "0"], ["bird", "1"], ("0", "1", "2"), NAMES),
        (["2.0", "0.0"], ["bird", "1"], ("0", "1", "2"), NAMES),
        (["bird", "plane"], ["2", "car"], ("bird", "car", "plane"), ()),
        (["bird", "0"], ["2", "car"], ("bird", "car", "plane"), ()),
    ],
)
def test_integers_and_names_meet_by_a_list_of_names(write_file, from_file, noisy, trusted, names, titles):
    """Labels of one file may be integers and those of the other names; classes are as the noisy ones are."""
    classes = write_file("classes.txt", "".join(f"{name}\n" for name in NAMES)) if from_file else NAMES
    found = decide(noisy, trusted, classes=classes)
    assert (found.names, found.titles) == (names, titles)
    words = found.titles or found.names
    assert [words[found.noisy[label]] for label in noisy] == ["bird", "plane"]
    assert [words[found.trusted[label]] for label in trusted] == ["bird", "car"]
    with pytest.raises(LabelError, match=r"'plain' is not a class of noisy.csv; did you mean 'plane'\?"):
        decide(noisy, ["plain"], classes=classes)
    assert (
        decide(noisy, ["Bird"], classes=classes, normalize_labels=True).trusted["Bird"]
        == found.noisy[noisy[0]]
    )


def test_trusted_labels_that_are_all_no_class_are_of_another_kind():
    """Both kinds are shown once, with what makes them meet: not one label is at fault."""
    with pytest.raises(LabelError) as refused:
        decide(["0", "1", "2"], ["bird", "plane", "bird"])
    assert str(refused.value) == (
        "clean.csv: none of its labels ('bird', 'plane') is a class of noisy.csv ('0', '1', '2'); if the "
        "integers stand for the names, list the names, from 0, in --classes FILE"
    )
    with pytest.raises(
        LabelError, match=r"is one of the two another column\? Name it with --label-col or --tru"
    ):
        decide(["x9", "y8"], ["bird", "plane"])


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
        (
            "a\nb\n",
            "02",
            r"noisy\.csv line 2: '2' is not among the 2 classes of classes\.txt \(the first is class 0\)\. C",
        ),
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
