from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st

from assay.data.dataset import ReadOptions
from assay.data.label_files import LabelFile
from assay.data.labels import decide_classes, image_warnings
from assay.errors import LabelError, UsageError
from assay.types import UNKNOWN


def said(*labels, name="noisy.csv"):
    return LabelFile(Path(name), labels, None, tuple(range(1, len(labels) + 1)))


def decide(noisy, trusted=None, declared=(), **options):
    files = [
        None if labels is None else said(*labels, name=name)
        for labels, name in zip((noisy, trusted), ("noisy.csv", "clean.csv"), strict=True)
    ]
    return decide_classes(*files, ReadOptions(**options), declared=declared)


def test_the_classes_are_the_noisy_labels_in_natural_order():
    """Distinct noisy labels are the classes, 2 before 10, and an empty label is none of them."""
    classes = decide(["10", "2", "", "10", "1"], ["2", ""])
    assert classes.names == ("1", "2", "10")
    assert classes.noisy == {"10": 2, "2": 1, "1": 0, "": UNKNOWN}
    assert classes.trusted == {"2": 1, "": UNKNOWN}
    assert classes.titles == ()


def test_labels_that_look_like_something_else_are_classes():
    """NA, 007 and 1.0 are classes of their own."""
    labels = ["NA", "None", "null", "nan", "007", "7", "1.0", "1", "true", "=cmd()", "<script>", "a" * 10_000]
    assert set(decide(labels).names) == set(labels)


def test_without_noisy_labels_the_trusted_ones_give_the_classes():
    """A trusted file alone defines the classes, after the class map."""
    classes = decide(None, ["b", "a", "aa"], class_map={"aa": "a"})
    assert classes.names == ("a", "b")
    assert classes.trusted == {"b": 1, "a": 0, "aa": 0, "": UNKNOWN}


def test_without_any_file_there_are_no_classes():
    """Nothing said means no classes, and no error."""
    assert decide(None).names == ()


@pytest.mark.parametrize(
    ("trusted", "options", "message"),
    [
        (
            ["dog", "cta"],
            {},
            "clean.csv line 2: 'cta' is not a class of noisy.csv; did you mean 'cat'? Correct it, pass "
            "--class-map cta=cat, or --allow-new-classes",
        ),
        (
            ["Cat", "owl", "dog"],
            {},
            "clean.csv line 1: 'Cat' is not a class of noisy.csv; did you mean 'cat'? Correct it, pass "
            "--normalize-labels: the two differ only in case, spaces or Unicode form (2 labels are no class)",
        ),
        (
            ["owl"],
            {},
            "clean.csv line 1: 'owl' is not a class of noisy.csv. Correct it, pass --class-map owl=CLASS, or "
            "--allow-new-classes",
        ),
        (
            ["CAT"],
            {"allow_new_classes": True},
            "clean.csv line 1: 'CAT' is not a class of noisy.csv; did you mean 'cat'? Correct it, pass "
            "--normalize-labels: the two differ only in case, spaces or Unicode form",
        ),
        (
            ["owl", "Owl"],
            {"allow_new_classes": True},
            "clean.csv line 1: 'Owl' and 'owl' differ only in case, spaces or Unicode form; write 'Owl' "
            "everywhere, or pass --normalize-labels; two classes stand apart in --classes",
        ),
    ],
)
def test_a_trusted_label_of_no_class_is_refused(trusted, options, message):
    """A slip in a trusted label is named with its place and what was probably meant."""
    with pytest.raises(LabelError) as refused:
        decide(["cat", "dog"], trusted, **options)
    assert str(refused.value) == message


def test_a_class_map_reads_a_trusted_label_as_another():
    """The map applies to trusted labels, and may make one unknown."""
    classes = decide(["cat", "dog"], ["cta", "dog", "?"], class_map={"cta": "cat", "?": ""})
    assert classes.trusted == {"cta": 0, "dog": 1, "?": UNKNOWN, "": UNKNOWN}


def test_a_class_map_must_lead_to_a_class():
    """A slip in the map itself is refused."""
    with pytest.raises(
        UsageError, match=r"--class-map a=cta: 'cta' is not a class; did you mean 'cat'\? The right"
    ):
        decide(["cat", "dog"], ["cat"], class_map={"a": "cta"})


def test_new_classes_can_be_allowed():
    """A trusted label may add a class, which takes its place in natural order."""
    classes = decide(["cat", "dog"], ["cow"], allow_new_classes=True)
    assert classes.names == ("cat", "cow", "dog")
    assert classes.noisy["dog"] == 2


@pytest.mark.parametrize("variant", ["Cat", "cat ", "ｃat", "CAT"])
def test_spellings_of_one_class_are_refused_or_merged_on_request(variant):
    """Two spellings are never merged silently; with the flag the most frequent one stays."""
    labels = ["cat", "dog", variant, "cat"]
    with pytest.raises(
        LabelError, match=r"^noisy\.csv line 3: .* differ only in case, spaces or Unicode form; write 'cat'"
    ):
        decide(labels)
    classes = decide(labels, [variant, "DOG", " "], normalize_labels=True)
    assert classes.names == ("cat", "dog")
    assert classes.noisy[variant] == classes.noisy["cat"] == 0
    assert classes.trusted == {variant: 0, "DOG": 1, " ": UNKNOWN, "": UNKNOWN}


def test_classes_that_differ_in_case_alone_are_kept_apart_by_a_classes_file(tmp_path):
    """Letters, say: named side by side they are two, whether spellings are merged or not."""
    (tmp_path / "classes.txt").write_text("A\na\nB\n")
    for merged in (False, True):
        classes = decide(
            ["A", "a", "B"], ["a", "A"], classes=tmp_path / "classes.txt", normalize_labels=merged
        )
        assert classes.names == ("A", "B", "a")
        assert classes.noisy == {"A": 0, "B": 1, "a": 2, "": UNKNOWN}
        assert classes.trusted == {"a": 2, "A": 0, "": UNKNOWN}


def test_a_label_of_white_space_is_refused_or_missing():
    """White space alone is no class; normalised it is a missing label."""
    with pytest.raises(
        LabelError, match=r"noisy\.csv line 2: the label '  ' is only white space; leave it empty"
    ):
        decide(["a", "  ", "b"])
    assert decide(["a", "  ", "b"], normalize_labels=True).noisy["  "] == UNKNOWN


@pytest.mark.parametrize(
    ("labels", "got"), [(["a", "a"], "only 'a'"), (["", ""], "no label at all"), ([], "no label at all")]
)
def test_one_class_is_not_enough(labels, got):
    """Labels that say nothing are refused in words."""
    with pytest.raises(LabelError, match=rf"noisy\.csv: expected labels of two classes or more, got {got}"):
        decide(labels)


def test_many_classes_and_lone_images_are_fine():
    """A thousand classes with one image each are classes all the same."""
    assert len(decide([str(i) for i in range(1_200)], ["7"]).names) == 1_200


def test_labels_that_no_images_share_are_another_column(write_file):
    """Captions, or numbers of images: refused before anything is computed for each pair of classes."""
    labels = [f"image {i}" for i in range(6_000)]
    with pytest.raises(LabelError, match=r"got 6,000 different labels in 6,000 rows, .*--label-col"):
        decide(labels, ["image 1"])
    assert len(decide(labels * 2, ["image 1"]).names) == 6_000
    listed = write_file("classes.txt", "\n".join(labels))
    assert len(decide(labels, ["image 1"], classes=listed).names) == 6_000


def test_a_classes_file_gives_integers_titles(write_file):
    """Line i names class i, and classes without an image exist."""
    path = write_file("classes.txt", "plane\ncar\nbird\n")
    classes = decide(["2", "0"], ["2"], classes=path)
    assert (classes.names, classes.titles) == (("0", "1", "2"), ("plane", "car", "bird"))


def test_a_classes_file_declares_named_classes(write_file):
    """Where labels are names, the file adds the classes that do not occur."""
    path = write_file("classes.txt", "owl\r\ncat\r\ndog\r\n")
    classes = decide(["dog", "cat"], ["owl"], classes=path)
    assert (classes.names, classes.titles) == (("cat", "dog", "owl"), ())


def test_a_new_class_is_its_own_title(write_file):
    """Titles keep up with the classes when trusted labels add one."""
    path = write_file("classes.txt", "plane\ncar\n")
    classes = decide(["1", "0"], ["10"], classes=path, allow_new_classes=True)
    assert (classes.names, classes.titles) == (("0", "1", "10"), ("plane", "car", "10"))


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("a\n\nb\n", ["0", "1"], r"classes\.txt line 2: expected the name of a class, got an empty line"),
        ("a\nb\na\n", ["0", "1"], r"classes\.txt line 3: 'a' is named in line 1 already"),
        (
            "a\nb\n",
            ["0", "2"],
            r"noisy\.csv line 2: '2' is not among the 2 classes of classes\.txt\. Correct",
        ),
        (
            "cat\ndog\n",
            ["dog", "cta"],
            r"noisy\.csv line 2: 'cta' is not among .*; did you mean 'cat'\? Correct",
        ),
        ("cat\nCat\n", ["cat"], r"'Cat' and 'cat' differ only in case"),
    ],
)
def test_a_classes_file_that_does_not_fit_is_refused(write_file, text, labels, message):
    """Empty and repeated names, and labels that the file does not have, are refused with their line."""
    with pytest.raises(LabelError, match=message):
        decide(labels, classes=write_file("classes.txt", text))


def test_declared_classes_need_no_image():
    """An empty class folder is a class."""
    assert decide(["a"], declared=("a", "b")).names == ("a", "b")


@given_examples(st.permutations(["b", "a", "10", "9", "b", ""]))
def test_the_order_of_labels_does_not_matter(labels):
    """Classes and indices depend on the set of labels only."""
    assert decide(labels) == decide(["b", "a", "10", "9", ""])


def test_remarks_on_what_little_can_be_learned():
    """Classes that no trusted label has, lone images and total disagreement are said."""
    names = tuple("abcd")
    assert image_warnings(names, np.array([0, 1, 1, -1]), np.array([1, 0, 3, -1])) == (
        "no trusted label is 'c'",
        "only one image is given as 'a'",
        "warning: none of 3 given labels equals its trusted one",
    )
    assert image_warnings(names, np.array([0, 0, 1, 1]), np.full(4, -1)) == ()
    many = tuple(map(str, range(20)))
    assert image_warnings(many, np.repeat(np.arange(20), 2), np.repeat([0, -1], 20))[0].endswith(
        "'10' and 9 more"
    )


@pytest.mark.parametrize(("n", "said_so"), [(29, False), (30, True)])
def test_trusted_labels_that_all_equal_the_given_ones_are_doubted(n, said_so):
    """By chance few may, many rather by the wrong column; the flag that names another is told."""
    labels = np.arange(n) % 2
    told = [note for note in image_warnings(["a", "b"], labels, labels) if "--trusted-label-col" in note]
    assert bool(told) is said_so
    assert not any("--trusted" in note for note in image_warnings(["a", "b"], labels, np.zeros_like(labels)))


def test_classes_that_stand_apart_may_differ_in_case():
    """Those of a model are classes each, as those of a classes file are."""
    files = None, said("A", "a", "b", name="clean.csv")
    assert decide_classes(*files, ReadOptions(), apart={"A", "a"}).names == ("A", "a", "b")
    with pytest.raises(LabelError, match="differ only in case"):
        decide_classes(*files, ReadOptions(), apart={"a"})
