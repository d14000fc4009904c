"""A model on a labelled test set."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from assay.data.dataset import ReadOptions
from assay.errors import DataError, LabelError
from assay.export.graph import with_graph
from assay.predict.predictor import load_model

LABELS = "file,label\n5.png,cedar\n6.png,ash\n7.png,birch\n8.png,ash\nempty.png,ash\n"


@pytest.fixture
def labels_of(tmp_path):
    """Reading options with this text as the labels."""

    def write(text: str) -> ReadOptions:
        (tmp_path / "labels.csv").write_text(text)
        return ReadOptions(trusted=tmp_path / "labels.csv")

    return write


def test_figures_are_counted_on_labelled_usable_images(model, new_images, labels_of):
    """Three of four labels agree; an image without label and one that is none are counted apart."""
    found = load_model(model).evaluate(new_images, labels_of(LABELS))
    assert (found.source, found.n, found.accuracy.estimate) == ("test set", 4, 0.75)
    assert (found.unlabelled, found.skipped) == (3, 4)
    assert found.report.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found.paired is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("cedr", r"did you mean 'cedar'\?"),
        ("xyz", "it knows 'ash', 'birch', 'cedar'."),
        ("ASH", "'ash' is one: they differ only in case, spaces or Unicode form; pass --normalize-labels."),
    ],
)
def test_a_label_that_the_model_does_not_know_is_refused(model, new_images, labels_of, wrong, hint):
    """The message names the label, the class that was probably meant, and where it stands."""
    message = (
        f"^the label '{wrong}' is not a class of the model; {hint} "
        "Correct or leave out the label of '5.png' and 1 more images$"
    )
    text = f"file,label\n5.png,{wrong}\n6.png,birch\n7.png,{wrong}\n"
    with pytest.raises(LabelError, match=message):
        load_model(model).evaluate(new_images, labels_of(text))


def test_labels_may_be_numbers_or_names(model, new_images, labels_of):
    """A model of numbered classes knows their numbers and their names for people."""
    numbered = replace(model, labels=("0", "1", "2"), titles=("ash", "birch", "cedar"))
    by_name = load_model(numbered).evaluate(new_images, labels_of(LABELS))
    text = LABELS.replace("ash", "0").replace("birch", "1").replace("cedar", "2")
    by_number = load_model(numbered).evaluate(new_images, labels_of(text))
    assert by_name.report.confusion.tolist() == by_number.report.confusion.tolist()
    assert [scores.name for scores in by_name.report.classes] == ["ash", "birch", "cedar"]


def test_the_order_of_the_labels_is_not_that_of_the_model(model, new_images, labels_of):
    """Indices of the test set and of the model are matched by name, whatever their order."""
    weights = tuple(np.ascontiguousarray(part[..., [2, 0, 1]]) for part in model.head.weights)
    other = replace(model, labels=("cedar", "ash", "birch"), head=replace(model.head, weights=weights))
    turned = with_graph(other, None, np.zeros((1, 32, 32, 3), np.uint8))
    found = load_model(turned).evaluate(new_images, labels_of(LABELS))
    assert found.accuracy.estimate == 0.75


def test_labels_without_a_usable_image_are_refused(model, new_images, labels_of):
    """If every labelled image is damaged there is nothing to measure, and it is said how they are."""
    options = labels_of("file,label\nempty.png,ash\ncut.png,birch\n")
    message = (
        r"^expected images that have a label and can be used, got none among 2; 2 skipped: "
        r"(1 empty_file, 1 truncated \(.*--truncated accept\)|1 truncated \(.*\), 1 empty_file)$"
    )
    with pytest.raises(DataError, match=message):
        load_model(model).evaluate(new_images, options)


def test_links_that_are_not_followed_are_counted(model, new_images, labels_of, tmp_path):
    """The message of a test set of links into a store names the flag that follows them."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links/6.png").symlink_to(new_images / "6.png")
    options = labels_of("file,label\n6.png,ash\n")
    with pytest.raises(
        DataError, match=r"1 outside_root \(links that leave the folder: --follow-symlinks\)$"
    ):
        load_model(model).evaluate(tmp_path / "links", options)
    assert load_model(model).evaluate(tmp_path / "links", replace(options, follow_symlinks=True)).n == 1


def test_labels_in_another_form_need_a_flag(model, new_images, labels_of):
    """ASH is ash only with --normalize-labels; a model's own classes may differ in case alone."""
    options = labels_of("file,label\n5.png,cedar\n6.png,ASH\n")
    assert load_model(model).evaluate(new_images, replace(options, normalize_labels=True)).n == 2
    both = replace(model, labels=("ash", "Ash", "cedar"))
    options = labels_of("file,label\n5.png,Ash\n6.png,ash\n7.png,cedar\n")
    assert load_model(both).evaluate(new_images, options).n == 3


def test_folders_of_the_test_set_are_no_labels(model, new_images, labels_of, tmp_path):
    """Whatever they are called: the labels are those of the file."""
    for place, image in (("Cedar", "5.png"), ("train", "6.png")):
        (tmp_path / "sorted" / place).mkdir(parents=True)
        shutil.copy(new_images / image, tmp_path / "sorted" / place)
    options = labels_of("file,label\nCedar/5.png,cedar\ntrain/6.png,ash\n")
    assert load_model(model).evaluate(tmp_path / "sorted", options).n == 2


def test_a_test_set_of_one_class_is_measured(model, new_images, labels_of):
    """The classes are the model's, whatever the labels know of them."""
    found = load_model(model).evaluate(new_images, labels_of("file,label\n6.png,ash\n9.png,ash\n"))
    assert (found.n, found.accuracy.estimate) == (2, 1.0)


def test_no_label_at_all_is_refused(model, new_images, labels_of):
    """There is nothing to compare with."""
    with pytest.raises(LabelError, match=r"expected labels of one class or more, got no label at all"):
        load_model(model).evaluate(new_images, labels_of("file,label\n6.png,\n9.png,\n"))
