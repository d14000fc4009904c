import re

import numpy as np
import pytest

from assay.data.alignment import misalignment
from assay.types import UNKNOWN


def pairs(agreement, n=2_000, k=10, seed=0):
    generator = np.random.default_rng(seed)
    trusted = generator.integers(k, size=n)
    wrong = generator.random(n) > agreement
    return np.where(wrong, generator.integers(k, size=n), trusted), trusted


@pytest.mark.parametrize(("step", "where"), [(1, "earlier"), (-1, "later")])
@pytest.mark.parametrize("agreement", [0.3, 1.0])
def test_labels_one_line_off_are_noticed(step, where, agreement):
    """A line too many or too few gives a warning that says which way, even among noisy labels."""
    noisy, trusted = pairs(agreement)
    warning = misalignment(noisy, np.roll(trusted, step))
    assert re.match(
        r"warning: possible_misalignment: given and trusted labels agree on 0\.\d\d\d of the images", warning
    )
    assert f"with the trusted labels one image {where}; is there a line too many or too few" in warning


@pytest.mark.parametrize("agreement", [0.1, 0.3, 0.9, 1.0])
def test_aligned_labels_are_not_suspected(agreement):
    """Noise is no misalignment, nor are labels that come in long runs."""
    noisy, trusted = pairs(agreement)
    assert misalignment(noisy, trusted) is None
    order = np.argsort(trusted, kind="stable")
    assert misalignment(noisy[order], trusted[order]) is None


def test_unrelated_labels_are_rarely_suspected():
    """Labels that know nothing of each other give no warning in a hundred draws."""
    generator = np.random.default_rng(0)
    draws = [generator.integers(3, size=(2, 50)) for _ in range(100)]
    assert [misalignment(*labels) for labels in draws] == [None] * 100


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_labels_say_nothing(n):
    """No pair, no warning and no crash."""
    assert misalignment(np.zeros(n, dtype=int), np.full(n, UNKNOWN)) is None
    assert misalignment(np.zeros(n, dtype=int), np.ones(n, dtype=int)) is None
