import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from assay.correct.crossfit import TrainingData, cross_fit
from assay.correct.evidence import NoisyLabels
from assay.data.split import folds
from assay.errors import LabelError, MissingExtraError
from assay.train.heads import MLPHead, fit_logistic, make_head
from assay.types import UNKNOWN

pytestmark = pytest.mark.train

FAST = MLPHead(hidden=16, min_steps=50, learning_rate=1e-2)


# Their checks put numbers of any type into parameters, as users do.
@pytest.mark.usefixtures("without_shape_checks")
@parametrize_with_checks([FAST])
def test_it_keeps_scikit_learns_contract(estimator, check):
    """Each of scikit-learn's own checks of an estimator passes."""
    check(estimator)


@pytest.fixture(scope="module")
def clouds():
    """(X, labels): 300 rows of four features in three classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    return (rng.normal(size=(300, 4)) + 2 * np.eye(3, 4)[labels]).astype(np.float32), labels


def bytes_of(head):
    return [part.tobytes() for part in head.layers_.tensors().values()]


def test_certain_targets_are_labels(clouds):
    """One-hot targets give the very bytes that labels give."""
    X, labels = clouds
    assert bytes_of(clone(FAST).fit_soft(X, np.eye(3)[labels])) == bytes_of(clone(FAST).fit(X, labels))


def test_soft_targets_come_back(clouds):
    """A head that learned probabilities which do not depend on X gives them back."""
    X, _ = clouds
    shares = np.tile([0.5, 0.3, 0.2, 0.0], (300, 1))
    head = MLPHead(hidden=0, min_steps=500, learning_rate=5e-2).fit_soft(X, shares)
    np.testing.assert_allclose(head.predict_proba(X), shares, atol=0.1)
    np.testing.assert_allclose(head.predict_proba(X).mean(axis=0), shares[0], atol=0.02)
    assert head.classes_.tolist() == [0, 1, 2, 3]


def test_the_same_seed_gives_the_same_bytes(clouds):
    """Twice the same; another seed, another head, and a generator gives another seed at each fit."""
    one, two, other = (clone(FAST).set_params(random_state=seed).fit(*clouds) for seed in (1, 1, 2))
    assert bytes_of(one) == bytes_of(two) != bytes_of(other)
    head = clone(FAST).set_params(random_state=np.random.RandomState(0))
    assert bytes_of(head.fit(*clouds)) != bytes_of(head.fit(*clouds))


def test_heads_fitted_at_the_same_time_are_the_same(clouds):
    """In three threads each head comes out byte for byte as in one."""
    X, labels = clouds
    trusted = np.where(np.arange(300) % 3, UNKNOWN, labels)
    data = TrainingData((X,), NoisyLabels(labels), trusted, 3)
    one, other = (
        cross_fit(data, folds(np.zeros(300, dtype=int), 3, 0), lambda _: clone(FAST), workers=workers)
        for workers in (1, 3)
    )
    assert one.pred_probs.tobytes() == other.pred_probs.tobytes()
    assert bytes_of(one.classifier) == bytes_of(other.classifier)


def test_global_state_is_left_alone(clouds):
    """Neither torch's nor NumPy's global generator is used, nor torch's default type."""
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002  # to compare
    expected = bytes_of(clone(FAST).fit(*clouds))
    after = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002  # to compare
    assert before == after
    torch.set_default_dtype(torch.float64)
    try:
        assert bytes_of(clone(FAST).fit(*clouds)) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_memory_map_of_halves_is_taken_as_it_is(clouds, tmp_path):
    """float16 on disk gives what the same numbers give in memory, and is not written to."""
    X, labels = clouds
    mapped = np.memmap(tmp_path / "X", dtype=np.float16, mode="w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    mapped = np.memmap(tmp_path / "X", dtype=np.float16, mode="r", shape=X.shape)
    same = mapped.astype(np.float32)
    one, other = clone(FAST).fit(mapped, labels), clone(FAST).fit(same, labels)
    assert bytes_of(one) == bytes_of(other)
    assert one.predict_proba(mapped).tobytes() == other.predict_proba(same).tobytes()


def test_units_do_not_matter_and_labels_may_be_words(clouds):
    """Features in other units give the same probabilities; classes are sorted words, as predictions are."""
    X, labels = clouds
    words, scaled = np.array(["eel", "cat", "dog"])[labels], X * np.float32(2**-40)
    one, other = clone(FAST).fit(X, words), clone(FAST).fit(scaled, words)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(scaled), atol=1e-5)
    assert one.classes_.tolist() == ["cat", "dog", "eel"]
    assert one.score(X, words) > 0.8


def test_its_arrays_compute_what_torch_computes(clouds):
    """NumPy applies them with the result of torch's own layers."""
    X, labels = clouds
    head = clone(FAST).fit(X, labels)
    mean, scale, *rest = map(torch.from_numpy, head.layers_.tensors().values())
    weight, bias, second, last = rest
    hidden = torch.nn.functional.gelu((torch.from_numpy(X) - mean) / scale @ weight + bias)
    expected = (hidden @ second + last).numpy()
    np.testing.assert_allclose(head.decision_scores(X), expected, atol=1e-4)
    assert head.predict(X).tolist() == expected.argmax(axis=1).tolist()


def test_a_linear_head_is_nearly_logistic_regression(clouds):
    """Without hidden units and dropout it comes close to the optimum."""
    X, labels = clouds
    head = MLPHead(hidden=0, min_steps=1500, learning_rate=1e-2, weight_decay=0.0).fit(X, labels)
    theirs = LogisticRegression(C=1e6).fit(X, labels)
    assert np.abs(head.predict_proba(X) - theirs.predict_proba(X)).mean() < 0.02


@pytest.mark.parametrize("n", [2, 5, 6, 20, 25, 41])
def test_the_shortest_training_works(clouds, n):
    """One pass over a handful of rows, whatever their number of batches."""
    X, labels = clouds[0][:n], np.arange(n) % 2
    assert MLPHead(hidden=4, epochs=1, min_steps=0, batch_size=5).fit(X, labels).predict(X).shape == (n,)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden", -1, "hidden: expected 0 or more, got -1"),
        ("dropout", 1.0, r"dropout: expected a share in \[0, 1\), got 1\.0"),
        ("input_dropout", -0.1, r"input_dropout: expected a share in \[0, 1\), got -0\.1"),
        ("epochs", 0, "epochs: expected 1 or more, got 0"),
        ("batch_size", 0, "batch_size: expected 1 or more, got 0"),
        ("min_steps", -1, "min_steps: expected 0 or more, got -1"),
        ("learning_rate", float("nan"), "learning_rate: expected 0 or more, got nan"),
        ("weight_decay", -1e-3, r"weight_decay: expected 0 or more, got -0\.001"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(clouds, name, value, message):
    """The error comes at fit, as scikit-learn wants it, and says what was expected."""
    with pytest.raises(ValueError, match=message):
        MLPHead(**{name: value}).fit(*clouds)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.ones((299, 3)) / 3, r"targets: expected shape \(300, K\), got \(299, 3\)"),
        (np.ones(300), r"targets: expected shape \(300, K\), got \(300,\)"),
        (np.ones((300, 3)), "targets: expected probabilities in rows that sum to 1, got others"),
        (np.tile([1.5, -0.5], (300, 1)), "targets: expected probabilities in rows that sum to 1, got others"),
        (np.full((300, 2), np.nan), "targets: expected probabilities in rows that sum to 1, got others"),
    ],
)
def test_targets_that_are_no_probabilities_are_refused(clouds, targets, message):
    """Each row of targets is a distribution over the classes."""
    with pytest.raises(ValueError, match=message):
        clone(FAST).fit_soft(clouds[0], targets)


def test_without_torch_the_install_line_is_shown(clouds, monkeypatch):
    """The message names the extra."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"this needs torch, .* pip install '\.\[train\]'"):
        clone(FAST).fit(*clouds)


def test_it_trains_in_one_thread(clouds, monkeypatch):
    """Threads that wait for each other waste a CPU; afterwards there are as many as before."""
    seen, plain, before = [], MLPHead._train, torch.get_num_threads()

    def watching(self, *arguments):
        seen.append(torch.get_num_threads())
        return plain(self, *arguments)

    monkeypatch.setattr(MLPHead, "_train", watching)
    torch.set_num_threads(2)
    try:
        MLPHead(hidden=8, epochs=1).fit(*clouds)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("n", "steps"), [(300, 80), (2_000, 160), (40_000, 1_256)])
def test_few_rows_are_passed_over_more_often_but_not_without_end(monkeypatch, n, steps):
    """20 passes are enough for some hundred rows, 8 for many."""
    taken = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: taken.append(1))
    X = np.zeros((n, 2), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule misses the steps that are only counted
        make_head(0).set_params(hidden=2).fit_soft(X, np.tile([[0.5, 0.5]], (n, 1)))
    assert len(taken) == steps


@pytest.mark.parametrize("present", [range(10), (3, 8), (0, 5, 9)])
def test_logistic_regression_is_scikit_learns(present):
    """Two classes, many, or some of ten: the same probabilities, and nothing for absent classes."""
    X, labels = load_digits(return_X_y=True)
    rows = np.isin(labels, list(present))
    X, labels = X[rows][:400], labels[rows][:400].astype(np.int64)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(X, labels)
    found = fit_logistic(X, labels, 10).probabilities(X)
    np.testing.assert_allclose(found[:, list(present)], theirs.predict_proba(X), atol=1e-3)
    assert found[:, np.setdiff1d(np.arange(10), list(present))].max(initial=0) < 1e-9


def test_logistic_regression_of_one_class_or_none():
    """Labels that are all alike have one answer; without a label there is nothing to fit to."""
    found = fit_logistic(np.random.default_rng(0).random((5, 2)), np.ones(5, int), 3)
    assert (found.probabilities(np.zeros((4, 2))).argmax(axis=1) == 1).all()
    with pytest.raises(LabelError, match=r"^expected labels to fit to, got none$"):
        fit_logistic(np.zeros((0, 2)), np.zeros(0, int), 3)
