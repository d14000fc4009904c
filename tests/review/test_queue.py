"""The order in which images are shown."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UsageError
from assay.review.queue import STRATEGIES, order_images


def labels(n, seed=0):
    generator = np.random.default_rng(seed)
    given_, proposed = generator.integers(-1, 4, n), generator.integers(0, 4, n)
    return given_, proposed, generator.random(n), generator.random(n) < 0.7


@given(st.integers(0, 80), st.sampled_from(STRATEGIES), st.integers(0, 5))
def test_every_open_image_comes_once(n, strategy, seed):
    """Whatever the strategy, and the same again for the same seed."""
    data = labels(n, seed)
    order = order_images(*data, strategy=strategy, seed=seed)
    assert sorted(order.rows.tolist()) == np.flatnonzero(data[3]).tolist()
    assert sorted(order.sample.tolist()) == np.flatnonzero(data[3]).tolist()
    again = order_images(*data, strategy=strategy, seed=seed)
    assert order.rows.tolist() == again.rows.tolist()


def test_doubtful_images_are_the_least_sure_first():
    """By rising confidence."""
    data = labels(50)
    rows = order_images(*data, strategy="doubtful").rows
    assert np.all(np.diff(data[2][rows]) >= 0)


def test_confident_errors_come_surest_first():
    """All that contradict their given label by falling confidence, then the others by rising."""
    given_, proposed, confidence, is_open = labels(60)
    rows = order_images(given_, proposed, confidence, is_open, strategy="confident").rows
    is_error = (given_[rows] != -1) & (given_[rows] != proposed[rows])
    n = is_error.sum()
    assert is_error[:n].all()
    assert not is_error[n:].any()
    assert np.all(np.diff(confidence[rows[:n]]) <= 0)
    assert np.all(np.diff(confidence[rows[n:]]) >= 0)


def test_a_mixture_is_seven_doubtful_one_confident_two_random_of_ten():
    """Each from the front of its own order."""
    data = labels(4000)
    orders = {name: order_images(*data, strategy=name).rows for name in STRATEGIES}
    head = orders["mixed"][:100].tolist()
    assert len(set(head) & set(orders["doubtful"][:70].tolist())) == 70
    assert len(set(head) & set(orders["confident"][:10].tolist())) == 10
    assert len(set(head) & set(orders["random"][:20].tolist())) >= 18


def test_the_random_part_depends_on_the_seed_alone():
    """Neither on labels nor on confidences: that is what makes it a fair sample."""
    given_, proposed, confidence, is_open = labels(100)
    one = order_images(given_, proposed, confidence, is_open, strategy="mixed", seed=3).sample
    other = order_images(proposed, given_, 1 - confidence, is_open, strategy="doubtful", seed=3).sample
    assert one.tolist() == other.tolist()
    assert one.tolist() != order_images(*labels(100), strategy="mixed", seed=4).sample.tolist()


def test_a_strategy_that_there_is_not_is_named():
    """The message lists those that there are."""
    with pytest.raises(
        UsageError, match=re.escape("expected mixed, doubtful, confident, random, got 'best'")
    ):
        order_images(*labels(5), strategy="best")
