import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.special import softmax

from assay.correct.posterior import Calibration
from assay.errors import ModelError
from assay.predict.layers import ROWS, Layers, gelu, moments

SEEDS = st.integers(0, 2**32 - 1)


ACTIVATIONS = {
    "gelu": lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))),
    "relu": lambda v: v if v > 0 else 0.0,
}


def slow_scores(layers, X):
    """The loop that defines what layers compute, in float64, but for the rounding."""
    rows = []
    for row in X.astype(np.float64):
        values = (row - layers.mean) / layers.scale
        for number, (weight, bias) in enumerate(zip(layers.weights[::2], layers.weights[1::2], strict=True)):
            if number:
                values = np.array([ACTIVATIONS[layers.activation](v) for v in values])
            values = values @ weight.astype(np.float64) + bias
        rows.append(values)
    return np.array(rows)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(4, 3), (4, 6, 3), (4, 6, 5, 3)])
def test_scores_are_the_slow_loop(draw_layers, widths, activation):
    """Standardise, multiply, activate, multiply: as defined, in float32."""
    layers = replace(draw_layers(*widths), activation=activation)
    X = np.random.default_rng(1).normal(size=(20, 4))
    assert layers.n_classes == 3
    assert layers.scores(X).dtype == np.float32
    np.testing.assert_allclose(layers.scores(X), slow_scores(layers, X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layers.probabilities(X), softmax(slow_scores(layers, X), axis=1), atol=1e-6)


def test_blocks_change_nothing(draw_layers):
    """More rows than fit in a block get what each would get alone; no row gets none."""
    layers, X = draw_layers(4, 6, 3), np.random.default_rng(1).normal(size=(ROWS + 2, 4))
    one_by_one = np.concatenate([layers.scores(X[i : i + 1]) for i in (0, ROWS - 1, ROWS, ROWS + 1)])
    np.testing.assert_allclose(layers.scores(X)[[0, ROWS - 1, ROWS, ROWS + 1]], one_by_one, atol=1e-5)
    assert layers.scores(X[:0]).shape == (0, 3)


def test_memory_does_not_grow_with_the_rows(draw_layers, tmp_path):
    """200,000 rows of a memory map are scored in the memory of one block and the result."""
    n = 200_000
    X = np.memmap(tmp_path / "X", dtype=np.float16, mode="w+", shape=(n, 8))
    layers = draw_layers(8, 64, 3)
    tracemalloc.start()
    layers.scores(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    hidden, result = n * 64 * 4, n * 3 * 4
    assert peak < 2 * result + 5e6 < hidden / 4


def test_calibration_is_absorbed(draw_layers):
    """The calibrated head says at once what head and calibration say in two steps."""
    layers, X = draw_layers(4, 6, 3), np.random.default_rng(1).normal(size=(50, 4))
    bias = np.array([0.5, -0.7, 0.2])
    two_steps = Calibration(1.3, bias).apply(layers.probabilities(X))
    np.testing.assert_allclose(layers.calibrated(1.3, bias).probabilities(X), two_steps, atol=1e-5)
    np.testing.assert_array_equal(layers.calibrated(1.0, np.zeros(3)).scores(X), layers.scores(X))


@pytest.mark.parametrize("widths", [(4, 3), (4, 6, 3)])
def test_tensors_are_read_back(draw_layers, widths):
    """Layers made of an other's tensors are the same layers."""
    layers = draw_layers(*widths)
    again = Layers.from_tensors(layers.tensors() | {"backbone.head.weight": np.ones(1)})
    assert {k: v.tobytes() for k, v in again.tensors().items()} == {
        k: v.tobytes() for k, v in layers.tensors().items()
    }


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"head.mean": None},
            r"head: expected the tensors head\.mean, head\.scale, head\.0\.weight, head\.0\.bias, got "
            r"head\.0\.bias, head\.0\.weight, head\.scale",
        ),
        ({"head.1.bias": np.ones(3, np.float32)}, r"got head\.0\.bias, head\.0\.weight, head\.1\.bias, "),
        ({"head.0.weight": np.ones((5, 3), np.float32)}, r"head: expected 4 inputs, got weight \(5, 3\) and"),
        ({"head.0.bias": np.ones(2, np.float32)}, r"got weight \(4, 3\) and bias \(2,\)"),
        ({"head.0.weight": np.ones(4, np.float32)}, r"head: expected 4 inputs, got weight \(4,\)"),
        ({"head.0.bias": np.ones(3)}, r"head\.0\.bias: expected finite float32 numbers, got float64"),
        (
            {"head.0.bias": np.array([0, np.nan, 0], np.float32)},
            r"head\.0\.bias: expected finite float32 numbers, got NaN or infinity",
        ),
        (
            {"head.scale": np.array([1, 0, 1, 1], np.float32)},
            r"head: expected one scale > 0 for each mean",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(draw_layers, changes, message):
    """A head whose arrays are missing, too many, of another type or shape is refused."""
    tensors = {
        name: part for name, part in (draw_layers(4, 3).tensors() | changes).items() if part is not None
    }
    with pytest.raises(ModelError, match=message):
        Layers.from_tensors(tensors)


def test_gelu_is_the_exact_one():
    """Not the tanh approximation; float32 stays float32."""
    values = np.linspace(-5, 5, 101, dtype=np.float32)
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in values.tolist()]
    np.testing.assert_allclose(gelu(values), exact, atol=1e-6)
    assert gelu(values).dtype == np.float32


@arbitrary(SEEDS)
def test_moments_are_mean_and_deviation(seed):
    """Without weights, NumPy's own; more rows than a block too."""
    X = np.random.default_rng(seed).normal(3, 2, size=(ROWS + 5, 3))
    mean, scale = moments(X)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale, X.std(axis=0), rtol=1e-6)


@arbitrary(SEEDS)
def test_a_weight_counts_like_copies(seed):
    """A row of weight 3 is three rows, one of weight 0 none."""
    rng = np.random.default_rng(seed)
    X, weight = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    weight[0] = 1
    found, copied = moments(X, weight.astype(float)), moments(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(found, copied, rtol=1e-5)


def test_a_spread_far_from_zero_is_not_lost():
    """Numbers around ten thousand keep their deviation of one tenth."""
    X = 1e4 + np.random.default_rng(0).normal(0, 0.1, size=(1000, 1))
    assert moments(X)[1] == pytest.approx(X.std(), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 + 0.1])
def test_only_a_constant_feature_has_deviation_one(value):
    """Nothing is divided by zero or by a rounding error, and a feature in billionths is standardised."""
    assert moments(np.full((1000, 1), value))[1].tolist() == [1.0]
    X = np.random.default_rng(0).normal(size=(100, 1))
    assert moments(X * 1e-9)[1] == pytest.approx(moments(X)[1] * 1e-9, rel=1e-6)


def test_another_number_of_features_is_refused(draw_layers):
    """The error names what was expected and what came."""
    with pytest.raises(ValueError, match=r"features: expected \(N, 4\), got \(2, 5\)"):
        draw_layers(4, 3).scores(np.zeros((2, 5)))
