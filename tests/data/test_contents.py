import numpy as np
import pytest

from assay.data.contents import check_conflicting_trusted, leaks
from assay.errors import LabelError
from assay.types import UNKNOWN


def test_equal_images_with_different_trusted_labels_are_refused():
    """Both names and both labels of each contradiction are said."""
    with pytest.raises(LabelError) as refused:
        check_conflicting_trusted(
            ["x", "y", "x", "x", "y"],
            np.array([0, 1, 1, 0, UNKNOWN]),
            [f"{i}.png" for i in range(5)],
            ["cat", "dog"],
        )
    assert str(refused.value) == (
        "conflicting_trusted: equal images with different trusted labels: '0.png' is 'cat', '2.png' "
        "is 'dog'. "
        "Correct one label of each pair, or leave both empty"
    )


def test_many_contradictions_are_counted():
    """Three pairs are shown and the rest counted."""
    with pytest.raises(LabelError, match=r"; and 2 more\. Correct"):
        check_conflicting_trusted(["x"] * 6, np.array([0, 1, 1, 1, 1, 1]), list("abcdef"), ["cat", "dog"])


def test_what_is_no_contradiction_passes():
    """Equal labels, unknown labels and images without bytes are no conflict."""
    check_conflicting_trusted(
        ["x", "x", "x", "", ""], np.array([0, 0, -1, 0, 1]), list("abcde"), ["cat", "dog"]
    )


def test_leaks_are_the_holdout_rows_that_are_also_fitted():
    """A held-out image whose bytes are in the fitting part is found; an image without bytes never is."""
    hashes = ["a", "b", "a", "c", "", "", "b"]
    found = leaks(hashes, np.array([6, 2, 3, 4]), np.array([0, 1, 5]))
    assert found.tolist() == [6, 2]
    assert leaks(hashes, np.array([3]), np.array([0])).tolist() == []
