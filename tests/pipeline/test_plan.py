"""The value of more trusted labels."""

from dataclasses import replace

import numpy as np
import pytest

from assay.correct.posterior import weigh
from assay.embed.images import Features
from assay.errors import LabelError
from assay.evaluate import wilson
from assay.evaluate.learning_curve import LearningCurve
from assay.pipeline import plan
from assay.pipeline.learn import TrainingLabels
from assay.pipeline.options import MOST_SEED
from assay.pipeline.plan import FOLDS, LabelValue, count_right, measure_label_value, predict_fold
from assay.types import UNKNOWN

N, SIZE = 300, 40


@pytest.fixture
def data() -> TrainingLabels:
    """Three classes, two labels of five wrong, all of them trusted, in three folds."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, N)
    noisy = np.where(generator.random(N) < 0.4, (truth + 1) % 3, truth)
    fold_of = np.arange(N) % FOLDS
    features = Features((np.zeros((N, 1), dtype=np.float32),), (None,) * N, {}, {}, 0)
    return TrainingLabels(features, noisy, truth, np.ones(N, dtype=bool), fold_of, ("a", "b", "c"), 0, 0.8)


@pytest.fixture
def probs(data) -> np.ndarray:
    """Predictions (2, N, 3) that lean to the truth."""
    raw = np.random.default_rng(1).random((N, 3)) + 0.5 * np.eye(3)[data.trusted]
    return np.stack([raw / raw.sum(axis=1, keepdims=True)] * 2)


def test_no_label_affects_its_own_posterior(data, probs, monkeypatch):
    """A third is weighed with ``size`` labels of the other thirds; its own trusted labels change nothing."""
    calls: list[tuple[np.ndarray, np.ndarray]] = []

    def listen(raw, trusted, *more):
        found = weigh(raw, trusted, *more)
        calls.append((trusted, found.posterior))
        return found

    monkeypatch.setattr(plan, "weigh", listen)
    model, labels = count_right(data, np.arange(N), probs, SIZE)
    assert labels.mean() > model.mean()
    data.trusted[4] = (data.trusted[4] + 1) % 3
    count_right(data, np.arange(N), probs, SIZE)
    assert [int((trusted != UNKNOWN).sum()) for trusted, _ in calls] == [SIZE] * 2 * FOLDS
    (trusted, before), (_, after) = calls[4 % FOLDS], calls[FOLDS + 4 % FOLDS]
    tested = trusted == UNKNOWN
    np.testing.assert_allclose(before[tested], after[tested], atol=1e-12)


def test_labels_of_one_class_are_refused_with_their_reason(data):
    """Nearly all of one class cannot show what more labels are worth."""
    one = replace(data, trusted=np.where(np.arange(N) < 2, 1, 0))
    with pytest.raises(LabelError, match=r"expected two classes or more among .*, got nearly all 300 of one"):
        measure_label_value(one, 0)


def test_the_largest_seed_of_a_run_is_taken(data, monkeypatch):
    """Each third has a seed of its own, none beyond what generators take."""
    seeds = []

    def listen(*_, seed):
        seeds.append(seed)
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "fit_others", listen)
    for fold in range(FOLDS):
        with pytest.raises(KeyboardInterrupt):
            predict_fold(replace(data, seed=MOST_SEED), fold, SIZE, np.arange(3))
    assert len({*seeds}) == FOLDS
    assert 0 <= min(seeds) <= max(seeds) < 2**32 - 1


@pytest.mark.parametrize(
    ("trusted", "held_out", "more", "parted"),
    [
        (500, 500, 0, (500, 500)),  # --holdout 500, and not a fifth of 1,000
        (500, 500, 101, (551, 550)),
        (800, 200, 100, (880, 220)),
        (8_000, 2_000, 500, (8_500, 2_000)),  # a run holds out no more by itself
        (1_000, 0, 100, (1_100, 0)),
    ],
)
def test_a_row_is_of_one_division_of_the_labels(trusted, held_out, more, parted):
    """Gain, noise rate and accuracy of a row are all of one number of labels to fit on and to hold out."""
    right = np.arange(1_000) >= np.array([[300], [200], [150]])
    curve = LearningCurve(np.array([100, 200, 400]), right)
    worth = LabelValue(trusted=trusted, held_out=held_out, noise_rate=0.4, model=curve, labels=curve)
    row = worth.to_json([more])["expected"][1]
    fit, held = parted
    assert (row["more"], row["trusted"], row["held_out"]) == (more, fit, held)
    (expected,) = curve.expect(trusted, [fit])
    for name in ("model", "labels"):
        assert row[name] == {"accuracy": expected.accuracy.to_json(), "gain": expected.gain.to_json()}
    known = {"noise_rate_known_to": (0.4, fit)}
    if held:
        known["accuracy_known_to"] = (expected.accuracy.estimate, held)
    for name, (share, n) in known.items():
        interval = wilson(round(share * n), n)
        assert row[name] == pytest.approx((interval.high - interval.low) / 2)
    assert {*row} - {*known} == {"more", "trusted", "held_out", "model", "labels"}
