"""The order in which images are reviewed."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UsageError
from assay.review.queue import STRATEGIES, order_images


def draw(n, seed=0):
    """Noisy labels, proposed labels, confidences, and which images may be decided."""
    generator = np.random.default_rng(seed)
    noisy, proposed = generator.integers(-1, 4, n), generator.integers(0, 4, n)
    return noisy, proposed, generator.random(n), generator.random(n) < 0.7


@given(st.integers(0, 80), st.sampled_from(STRATEGIES), st.integers(0, 5))
def test_every_open_image_comes_once(n, strategy, seed):
    """With each strategy, in the same order for the same seed."""
    data = draw(n, seed)
    order, again = (order_images(*data, strategy=strategy, seed=seed) for _ in range(2))
    assert sorted(order.rows.tolist()) == sorted(order.sample.tolist()) == np.flatnonzero(data[3]).tolist()
    assert order.rows.tolist() == again.rows.tolist()


def test_confident_label_issues_come_first():
    """By falling confidence; then the doubtful images, as in that strategy, by rising confidence."""
    noisy, proposed, confidence, is_open = draw(60)
    rows = order_images(noisy, proposed, confidence, is_open, strategy="confident").rows
    is_issue = (noisy[rows] != -1) & (noisy[rows] != proposed[rows])
    n = is_issue.sum()
    assert is_issue[:n].all()
    assert np.all(np.diff(confidence[rows[:n]]) <= 0)
    assert np.all(np.diff(confidence[rows[n:]]) >= 0)
    doubtful = order_images(noisy, proposed, confidence, is_open, strategy="doubtful").rows
    assert np.all(np.diff(confidence[doubtful]) >= 0)


def test_mixed_is_seven_doubtful_one_confident_two_random_of_ten():
    """Each from the front of its own order."""
    data = draw(4000)
    orders = {name: order_images(*data, strategy=name).rows for name in STRATEGIES}
    head = orders["mixed"][:100].tolist()
    assert len(set(head) & set(orders["doubtful"][:70].tolist())) == 70
    assert len(set(head) & set(orders["confident"][:10].tolist())) == 10
    assert len(set(head) & set(orders["random"][:20].tolist())) >= 18


def test_the_random_sample_depends_on_the_seed_alone():
    """Not on labels or confidences, so it is a fair sample."""
    noisy, proposed, confidence, is_open = draw(100)
    one = order_images(noisy, proposed, confidence, is_open, strategy="mixed", seed=3).sample
    other = order_images(proposed, noisy, 1 - confidence, is_open, strategy="doubtful", seed=3).sample
    assert one.tolist() == other.tolist()
    assert one.tolist() != order_images(*draw(100), strategy="mixed", seed=4).sample.tolist()


def test_an_unknown_strategy_is_refused():
    """The message lists the known ones."""
    message = "--strategy: expected mixed, doubtful, confident, random, got 'best'"
    with pytest.raises(UsageError, match=re.escape(message)):
        order_images(*draw(5), strategy="best")
