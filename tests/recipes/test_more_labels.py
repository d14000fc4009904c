"""The worth of more labels: what a size's labels weigh, they alone weigh, and none tells itself."""

from dataclasses import replace

import numpy as np
import pytest

from assay._errors import LabelError
from assay._types import UNKNOWN
from assay.embed.images import Features
from assay.recipes import more_labels
from assay.recipes.assay import Labelled
from assay.recipes.more_labels import FOLDS, _right, measure_worth

N, SIZE = 300, 40


@pytest.fixture
def data() -> Labelled:
    """Three classes, two labels of five wrong, all of them trusted, in three folds."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, N)
    given = np.where(generator.random(N) < 0.4, (truth + 1) % 3, truth)
    fold_of = np.arange(N) % FOLDS
    features = Features((np.zeros((N, 1), dtype=np.float32),), (None,) * N, {}, {}, 0)
    return Labelled(features, given, truth, np.ones(N, dtype=bool), fold_of, ("a", "b", "c"), 0, 0.8)


@pytest.fixture
def said(data) -> np.ndarray:
    """Beliefs (2, N, 3) that lean to the truth."""
    raw = np.random.default_rng(1).random((N, 3)) + 0.5 * np.eye(3)[data.trusted]
    return np.stack([raw / raw.sum(axis=1, keepdims=True)] * 2)


def test_a_size_weighs_with_so_many_labels_of_the_other_folds(data, said, monkeypatch):
    """Calibration, transition and λ of a third rest on ``size`` labels of the other thirds."""
    judged: list[tuple[np.ndarray, np.ndarray]] = []
    corrected = more_labels._corrected

    def listen(data, rows, raw, known):
        judged.append((rows[known == UNKNOWN], rows[known != UNKNOWN]))
        return corrected(data, rows, raw, known)

    monkeypatch.setattr(more_labels, "_corrected", listen)
    right = _right(data, np.arange(N), said, SIZE)
    assert right.shape == (2, N)
    assert [len(judges) for _, judges in judged] == [SIZE] * FOLDS
    assert not any(np.intersect1d(rows, judges).size for rows, judges in judged)
    assert sorted(np.concatenate([rows for rows, _ in judged]).tolist()) == list(range(N))
    assert right[1].mean() > right[0].mean()  # a given label helps


def test_what_a_label_is_does_not_tell_itself(data, said, monkeypatch):
    """Whatever one trusted label says, the posterior of its image stays to the last digits."""
    told: list[np.ndarray] = []
    corrected = more_labels._corrected

    def listen(data, rows, raw, known):
        found = corrected(data, rows, raw, known)
        told.append(found[(rows == 4) & (known == UNKNOWN)])
        return found

    monkeypatch.setattr(more_labels, "_corrected", listen)
    _right(data, np.arange(N), said, SIZE)
    data.trusted[4] = (data.trusted[4] + 1) % 3
    _right(data, np.arange(N), said, SIZE)
    before, after = np.concatenate(told[:FOLDS]), np.concatenate(told[FOLDS:])
    assert before.shape == (1, 3)
    np.testing.assert_allclose(before, after, atol=1e-12)


def test_labels_of_one_class_are_refused_with_their_reason(data):
    """However many there are."""
    one = replace(data, trusted=np.where(np.arange(N) < 2, 1, 0))
    with pytest.raises(LabelError, match=r"expected two classes or more among .*, got nearly all 300 of one"):
        measure_worth(one, 0)
