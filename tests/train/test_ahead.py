"""Jobs that are begun before they are asked for."""

import threading
from functools import partial

import pytest

from assay.train.ahead import ahead


@pytest.mark.parametrize("depth", [0, 1, 3, 50])
def test_results_come_in_the_order_of_the_jobs(depth):
    """All of them, whatever their number is beside the depth."""
    jobs = [partial(int, number) for number in range(10)]
    assert [result() for result in ahead(jobs, depth)] == list(range(10))
    assert list(ahead([], depth)) == []


def test_as_many_as_asked_are_begun_and_no_more():
    """While the first result is waited for, the next ones are under way; the others are not even made."""
    made, release = [], threading.Event()

    def jobs():
        for number in range(10):
            made.append(number)
            yield release.wait

    results = ahead(jobs(), 3)
    first = next(results)
    assert made == [0, 1, 2, 3]
    release.set()
    assert first()
    results.close()
    assert made == [0, 1, 2, 3]


def test_without_depth_who_asks_does_the_work():
    """In the same thread, and when it is asked."""
    (result,) = ahead([threading.get_ident], 0)
    assert result() == threading.get_ident()


def test_an_error_comes_where_its_result_is_asked_for():
    """Not before, and not as another."""
    results = list(ahead([partial(int, "1"), partial(int, "x")], 2))
    assert results[0]() == 1
    with pytest.raises(ValueError, match="invalid literal"):
        results[1]()
