"""Several annotators: what their labels say of an image, who errs, and what to ask next."""

from dataclasses import replace

import numpy as np
import pytest

from assay.correct.annotators import (
    AnnotatedLabels,
    Annotators,
    agreement,
    fit_annotators,
    gain_of_label,
    learn_annotators,
)
from assay.correct.posterior import combine
from assay.data.dataset import Annotations
from assay.types import UNKNOWN

K = 4
SKILLS = np.array([0.9, 0.8, 0.7, 0.6, 0.85])


def draw(n=1_500, skills=SKILLS, spammers=2, each=3, seed=0):
    """(truth, annotations, predictions that are right on seven of ten) of people who err evenly."""
    rng = np.random.default_rng(seed)
    truth, j = rng.integers(0, K, n), len(skills) + spammers
    image = np.repeat(np.arange(n), each)
    annotator = np.concatenate([rng.permutation(j)[:each] for _ in range(n)])
    wrong = (truth[image] + rng.integers(1, K, len(image))) % K
    right = rng.random(len(image)) < np.append(skills, np.zeros(spammers))[annotator]
    label = np.where(right, truth[image], wrong)
    spam = annotator >= len(skills)
    label[spam] = rng.integers(0, K, spam.sum())
    label[annotator == j - 1] = 1  # the last one always says the same
    likely = (truth + np.where(rng.random(n) < 0.7, 0, rng.integers(1, K, n))) % K
    pred_probs = 0.1 + 0.6 * np.eye(K)[likely]
    return truth, Annotations(image, annotator, label, tuple("abcdefgh"[:j])), pred_probs


def unknown(truth):
    return np.full(len(truth), UNKNOWN)


def test_evidence_is_the_sum_over_labels():
    """As the slow loop defines it, up to a constant for each image; an image without labels has none."""
    _, given, _ = draw(20)
    given = given.without(np.array([3]))
    rng = np.random.default_rng(1)
    mistakes = rng.random((K, K)) * (1 - np.eye(K))
    mistakes /= mistakes.sum(axis=1, keepdims=True)
    some = rng.random((6, 7))
    found = Annotators(some[0], some[1], some[2], some[3], some[4], some[5], mistakes)
    expected = np.zeros((20, K))
    for image, annotator, label in zip(given.image, given.annotator, given.label, strict=True):
        likelihood = (1 - found.accuracy[annotator]) * mistakes[:, label]
        likelihood[label] = found.accuracy[annotator]
        expected[image] += (1 - found.spam[annotator]) * np.log(likelihood)
    evidence = found.log_evidence(given, 20)
    assert not evidence[3].any()
    assert np.allclose(evidence - evidence[:, :1], expected - expected[:, :1])


def test_accuracies_and_spammers_are_found_without_a_trusted_label():
    """Intervals hold the true accuracies of nearly all; who says anything, or always the same, is found."""
    covered, gained = [], []
    for seed in range(8):
        truth, given, pred_probs = draw(seed=seed)
        # Here people err independently of one another, so their labels count in full.
        annotators = learn_annotators(given, pred_probs, unknown(truth), strength=1.0)
        likely = combine(pred_probs, annotators.log_evidence(given, len(truth)))
        found = fit_annotators(given, likely)
        covered += [*((found.low[:5] <= SKILLS) & (found.high[:5] >= SKILLS))]
        assert found.spam[:5].max() < 0.01
        assert found.spam[5:].min() > 0.5
        votes = np.zeros((len(truth), K))
        np.add.at(votes, (given.image, given.label), 1)
        right = [(answer.argmax(axis=1) == truth).mean() for answer in (votes, pred_probs, likely)]
        gained.append(right[2] - max(right[:2]))
    assert np.mean(covered) > 0.8, covered
    assert min(gained) > 0.05, gained


def test_labels_of_spammers_change_nothing():
    """The answer is that of the others alone, nearly."""
    truth, given, pred_probs = draw()
    everybody = learn_annotators(given, pred_probs, unknown(truth))
    evidence = everybody.log_evidence(given, len(truth))
    honest = given.annotator < len(SKILLS)
    others = Annotations(given.image[honest], given.annotator[honest], given.label[honest], given.names)
    assert np.abs(evidence - everybody.log_evidence(others, len(truth))).max() < 0.5


def test_who_labels_images_of_one_class_well_is_no_spammer():
    """Always the same label is right where all images are of that class."""
    truth = np.repeat([0, 1], 200)
    likely = 0.1 + 0.8 * np.eye(2)[truth]
    image = np.concatenate([np.arange(200), np.arange(400)])
    given = Annotations(image, np.repeat([0, 1], [200, 400]), np.zeros(600, int), ("well", "always"))
    spam = fit_annotators(given, likely).spam
    assert spam[0] < 0.5 < spam[1]


def test_trusted_labels_expose_two_who_agree_on_what_is_wrong():
    """Without them the majority wins."""
    truth = np.arange(300) % 3
    labels = np.stack([truth, (truth + 1) % 3, (truth + 1) % 3], axis=1)
    given = Annotations(
        np.repeat(np.arange(300), 3), np.tile(np.arange(3), 300), labels.ravel(), ("a", "b", "c")
    )
    nothing = np.full((300, 3), 1 / 3)
    trusted = np.where(np.arange(300) < 60, truth, UNKNOWN)
    alone, helped = (learn_annotators(given, nothing, known) for known in (unknown(truth), trusted))
    assert alone.accuracy[0] < 0.1
    assert helped.accuracy[0] > 0.9


def test_other_names_of_classes_and_another_order_change_nothing():
    """Permuted classes give permuted evidence, permuted rows the same."""
    truth, given, pred_probs = draw(200)
    plain = learn_annotators(given, pred_probs, unknown(truth)).log_evidence(given, 200)
    new, rows = np.array([2, 0, 3, 1]), np.random.default_rng(0).permutation(len(given))
    other = Annotations(given.image[rows], given.annotator[rows], new[given.label[rows]], given.names)
    permuted = np.empty_like(pred_probs)
    permuted[:, new] = pred_probs
    found = learn_annotators(other, permuted, unknown(truth)).log_evidence(other, 200)
    assert np.allclose(found[:, new], plain)


def test_an_annotator_without_labels_is_an_average_one():
    """As when all their images are held out."""
    _, given, pred_probs = draw(100)
    found = fit_annotators(given.without(given.image[given.annotator == 2]), pred_probs)
    assert (found.labels[2], found.spam[2]) == (0, pytest.approx(0.1))
    assert found.low[2] < found.accuracy[2] < found.high[2]
    assert np.isnan(found.agreement[2])


def test_one_more_label_gains_most_where_it_may_change_the_answer():
    """With two classes exactly what asking somebody gains on average; nothing where the answer is certain."""
    _, given, _ = draw(50)
    annotators = fit_annotators(given, np.full((50, K), 1 / K))
    two = Annotators(
        *(np.array([number]) for number in (9.0, 0.8, 0.7, 0.9, 0.5, 0.0)), np.array([[0.0, 1.0], [1.0, 0.0]])
    )
    share = np.linspace(0, 1, 41)
    likely = np.column_stack([share, 1 - share])
    matrix = np.array([[0.8, 0.2], [0.2, 0.8]])  # P(label | true)
    asked = sum((likely * matrix[:, label]).max(axis=1) for label in (0, 1)) - likely.max(axis=1)
    assert np.allclose(gain_of_label(likely, two), asked)
    assert not gain_of_label(np.eye(K), annotators).any()


def test_agreement_is_counted_by_image_and_by_annotator():
    """An image without labels has none, and so has somebody who labelled alone."""
    given = Annotations(
        np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([1, 1, 0, 0]), ("a", "b", "c")
    )
    counts, shares = agreement(given, np.array([1, 1, 0]))
    assert counts.tolist() == [3, 1, 0]
    assert shares == pytest.approx([2 / 3, 0, np.nan], nan_ok=True)
    found = fit_annotators(given, np.full((3, 2), 0.5))
    assert found.agreement == pytest.approx([0.5, 0.5, 0], nan_ok=True)


def test_labels_of_the_holdout_are_used_for_it_alone():
    """Nothing is fitted to them; and some images alone have the evidence that they had among all."""
    truth, given, pred_probs = draw(400)
    fitted = np.arange(400) >= 40
    labels = AnnotatedLabels(given, truth, fitted)
    plain = labels.evidence(pred_probs, unknown(truth))
    changed = np.where(given.image < 40, (given.label + 1) % K, given.label)
    other = AnnotatedLabels(replace(given, label=changed), truth, fitted).evidence(pred_probs, unknown(truth))
    assert (other[fitted] == plain[fitted]).all()
    assert (other[~fitted] != plain[~fitted]).any()
    rows = np.flatnonzero(fitted)
    assert np.allclose(labels.at(rows).evidence(pred_probs[rows], unknown(rows)), plain[rows])
