"""The prior of a model: predictions for another mix of classes, named, read from a table, or estimated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from assay.errors import LabelError, TableError, UsageError
from assay.predict.batch import Predictions
from assay.predict.prior import chosen_prior, estimate_prior, prior_in_words, read_prior, reweighted
from assay.predict.runtime import flip_tta

NAMES = ("cat", "dog", "0")
TRAINED = np.array([0.7, 0.2, 0.1])


def draw(prior, n, seed=0, apart=2.0):
    """P(class) of n images whose classes have the shares ``TRAINED``, by Bayes' rule; their classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=n, p=prior)
    densities = norm.pdf(rng.normal(apart * truth)[:, None], loc=apart * np.arange(3))
    joint = densities * TRAINED
    return joint / joint.sum(axis=1, keepdims=True), truth, densities


@given(st.integers(0, 100))
def test_reweighting_is_bayes_rule(seed):
    """As if the densities of the classes had been multiplied by the new shares; there and back is nothing."""
    new = np.random.default_rng(seed).dirichlet(np.ones(3))
    probs, _, densities = draw(new, 20, seed)
    expected = densities * new / (densities * new).sum(axis=1, keepdims=True)
    found = reweighted(probs, TRAINED, new)
    assert found == pytest.approx(expected)
    assert reweighted(found, new, TRAINED) == pytest.approx(probs)
    assert reweighted(probs, TRAINED, TRAINED) == pytest.approx(probs)


def test_test_time_augmentation_comes_before_or_after():
    """Weights of the mean of two predictions are those of the mean of two weighted predictions."""
    new, (one, _, _), (other, _, _) = np.array([0.1, 0.3, 0.6]), draw(TRAINED, 9), draw(TRAINED, 9, seed=1)
    first, second = (reweighted(probs, TRAINED, new) for probs in (one, other))
    before = reweighted(flip_tta(one, lambda rows: other[rows], 1.0), TRAINED, new)
    assert before == pytest.approx(flip_tta(first, lambda rows: second[rows], 1.0))


def test_a_class_of_share_0_is_never_predicted():
    """Also where the model is sure of it; single precision stays."""
    probs = np.array([[1, 0, 0], [0.2, 0.3, 0.5]], dtype=np.float32)
    found = reweighted(probs, TRAINED, np.array([0.0, 0.5, 0.5]))
    assert found.dtype == np.float32
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found[:, 0] == 0).all()


def test_skipped_images_keep_no_probability():
    """Only rows with the status ok are weighted anew."""
    probs = np.array([[0, 0, 0], [0.7, 0.2, 0.1]], dtype=np.float32)
    found = Predictions(("a", "b"), probs, NAMES, ("empty_file", "ok")).at_prior(TRAINED, np.full(3, 1 / 3))
    assert found.probs == pytest.approx(np.array([[0, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))
    assert found.predicted[0] is None


@pytest.mark.parametrize("new", [(0.1, 0.2, 0.7), (0.7, 0.2, 0.1), (0.02, 0.96, 0.02)])
def test_the_prior_is_found_among_new_images(new):
    """Without a label; with it no fewer predictions are right."""
    probs, truth, _ = draw(new, 20_000)
    found = estimate_prior(probs, TRAINED)
    assert found.sum() == pytest.approx(1)
    assert found == pytest.approx(np.array(new), abs=0.015)
    right = [(one.argmax(axis=1) == truth).mean() for one in (probs, reweighted(probs, TRAINED, found))]
    assert right[1] >= right[0] - 0.001


def test_the_estimate_is_the_most_likely_prior():
    """No other mix of classes makes the images, and the pseudo-counts, more likely."""
    probs, _, _ = draw((0.3, 0.3, 0.4), 500, apart=1.0)

    def likelihood(prior):
        pseudo = 3 * TRAINED @ np.log(prior)
        return np.log((probs / TRAINED) @ prior).sum() + pseudo

    found, rng = estimate_prior(probs, TRAINED), np.random.default_rng(0)
    others = [0.95 * found + 0.05 * rng.dirichlet(np.ones(3)) for _ in range(100)]
    assert all(likelihood(other) < likelihood(found) for other in others)


def test_few_images_say_little():
    """None leaves the prior of training, one moves it by less than a third."""
    assert estimate_prior(np.zeros((0, 3)), TRAINED) == pytest.approx(TRAINED)
    found = estimate_prior(np.array([[0.0, 0.0, 1.0]]), TRAINED)
    assert 0.1 < found[2] < 0.4
    assert (found > 0).all()


def read(tmp_path, text, titles=(), name="p.csv"):
    (tmp_path / name).write_text(text)
    return read_prior(tmp_path / name, NAMES, titles)


def test_a_table_of_shares_is_read(tmp_path):
    """By label or by the name for people, in any order and format; rounded shares are scaled to 1."""
    found = read(tmp_path, "class,share\ndog,0.25\ncat,0.75\n0,0\n")
    assert found.tolist() == [0.75, 0.25, 0]
    assert read(tmp_path, "Share;Class\n0.3333;A\n0.3333;B\n0.3333;C\n", "ABC") == pytest.approx(1 / 3)
    lines = '{"class": "cat", "share": 0.5}\n{"class": "0", "share": 0.5}\n{"class": "dog", "share": 0}\n'
    assert read(tmp_path, lines, name="p.jsonl").tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ("cat,0.5\ndog,0.3\n0,0.1\n", TableError, "p.csv: expected shares that sum to 1, got 0.9; divide"),
        ("cat,50\ndog,30\n0,20\n", TableError, "expected shares that sum to 1, got 100; divide counts or"),
        ("cat,1.2\ndog,-0.2\n0,0\n", TableError, "p.csv line 3: expected a share from 0 to 1, got '-0.2'"),
        ("cat,nan\ndog,1\n0,0\n", TableError, "p.csv line 2: expected a share from 0 to 1, got 'nan'"),
        ("cat,inf\ndog,1\n0,0\n", TableError, "p.csv line 2: expected a share from 0 to 1, got 'inf'"),
        ("cat,half\ndog,1\n0,0\n", TableError, "p.csv line 2: expected a share from 0 to 1, got 'half'"),
        (
            "cat,0.5\nDog,0.5\n0,0\n",
            LabelError,
            "p.csv line 3: 'Dog' is not a class of the model; did you me",
        ),
        (
            "cat,0.5\nbird,0.5\n",
            LabelError,
            "'bird' is not a class of the model; it knows 'cat', 'dog'",
        ),
        (
            "cat,0.5\ncat,0.5\n",
            LabelError,
            "p.csv line 3: expected one share for each class, got a second for",
        ),
        (
            "cat,0.5\n0,0.5\n",
            LabelError,
            "p.csv: expected a share for each class of the model, got none",
        ),
    ],
)
def test_a_prior_that_cannot_be_is_refused(tmp_path, rows, error, message):
    """With the line, what was expected and what came."""
    with pytest.raises(error) as found:
        read(tmp_path, f"class,share\n{rows}")
    assert message in str(found.value)


@pytest.mark.parametrize("text", ["class,share,note\ncat,1,x\n", "class\ncat\ncat\n", ""])
def test_another_table_is_refused(tmp_path, text):
    """Its columns are named."""
    with pytest.raises(TableError, match=r"p\.csv: expected the columns class and share, got"):
        read(tmp_path, text)


def test_a_prior_is_chosen_by_name(tmp_path):
    """Uniform, estimate, or else a file; a model without a prior can have no other."""
    assert chosen_prior("uniform", TRAINED, NAMES) == pytest.approx((1 / 3,) * 3)
    assert chosen_prior("estimate", TRAINED, NAMES) == "estimate"
    (tmp_path / "bare.csv").write_text("cat,0.5\n")
    for name in ("gone.csv", "bare.csv"):
        with pytest.raises(TableError, match=r"--class-prior takes uniform, estimate, or a table with the"):
            chosen_prior(str(tmp_path / name), TRAINED, NAMES)
    with pytest.raises(UsageError, match=r"--class-prior: expected a model that keeps the class shares"):
        chosen_prior("uniform", None, NAMES)


def test_shares_are_written_for_people():
    """The largest first."""
    assert prior_in_words((0.1, 0.65, 0.25), NAMES) == (
        "estimated class shares: 'dog' 65.0 %, '0' 25.0 % and 'cat' 10.0 %"
    )
