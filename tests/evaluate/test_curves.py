import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.evaluate.metrics import (
    Bin,
    Covered,
    covered,
    expected_calibration_error,
    reliability,
    risk_coverage,
)
from assay.noise.intervals import wilson

seeds, sizes = st.integers(0, 2**32 - 1), st.integers(1, 60)


def draw(seed, n, k=3):
    """Probabilities and true labels of ``n`` images."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k, 0.5), size=n), rng.integers(k, size=n)


@given(seeds, sizes, st.integers(1, 20))
def test_the_bins_are_those_of_the_calibration_error(seed, n, bins):
    """Their distances, weighted by their images, are that very number."""
    probs, truth = draw(seed, n)
    found = reliability(probs, truth, bins)
    assert sum(one.n for one in found) == n
    error = sum(one.n / n * abs(one.confidence - one.right.estimate) for one in found)
    assert error == pytest.approx(expected_calibration_error(probs, truth, bins), abs=1e-9)


@given(seeds, sizes, st.integers(1, 20))
def test_a_bin_is_its_definition(seed, n, bins):
    """Each bin is what a loop over the images counts in it, and an empty one is left out."""
    probs, truth = draw(seed, n)
    found = {round(one.low * bins): one for one in reliability(probs, truth, bins)}
    for b in range(bins):
        inside = [i for i in range(n) if b / bins < max(probs[i]) <= (b + 1) / bins]
        assert (b in found) == bool(inside)
        if inside:
            hits = sum(int(np.argmax(probs[i]) == truth[i]) for i in inside)
            mean = sum(max(probs[i]) for i in inside) / len(inside)
            assert (found[b].n, found[b].right) == (len(inside), wilson(hits, len(inside)))
            assert found[b].confidence == pytest.approx(mean)


@given(seeds, sizes, st.integers(1, 30))
def test_the_points_lie_on_the_curve(seed, n, steps):
    """Each point is the curve's value for so many images; the last one is for all."""
    probs, truth = draw(seed, n)
    found, whole = covered(probs, truth, steps), risk_coverage(probs, truth)
    assert len(found) <= steps
    assert [one.n for one in found] == sorted({one.n for one in found})
    assert found[-1].n == n
    for one in found:
        assert one.risk == whole[one.n - 1]
        assert one.coverage == one.n / n
        assert np.sum(probs.max(axis=1) >= one.confidence) >= one.n


def test_both_are_read_back():
    """What is written as JSON is the same again."""
    probs, truth = draw(0, 40)
    for one in reliability(probs, truth):
        assert Bin.from_json(one.to_json()) == one
    for one in covered(probs, truth):
        assert Covered(**one.to_json()) == one


def test_a_hundred_certain_images():
    """One bin, up to 1, and a curve that is flat."""
    probs, truth = np.tile([1.0, 0.0], (100, 1)), np.array([0] * 90 + [1] * 10)
    assert reliability(probs, truth, 10) == (Bin(0.9, 1.0, 100, 1.0, wilson(90, 100)),)
    assert [one.risk for one in covered(probs, truth)] == pytest.approx([0.1] * 20)
    assert [one.n for one in covered(probs, truth, 4)] == [25, 50, 75, 100]
