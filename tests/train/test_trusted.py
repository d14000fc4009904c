"""Trusted labels of the estimator, as people write them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from assay.errors import LabelError
from assay.train.trusted import encode_trusted

NUMBERS, WORDS = np.array([3, 5, 7]), np.array(["cat", "dog", "eel"])


@pytest.mark.parametrize(
    ("trusted", "classes"),
    [
        (np.ma.array([5, 99, 3, 0], mask=[False, True, False, True]), NUMBERS),
        (np.array([5, -1, 3, -1]), NUMBERS),
        (np.array([5, np.nan, 3, np.nan]), NUMBERS),
        ((5.0, None, np.float64(3), float("nan")), NUMBERS),
        ([5, "", 3, ""], NUMBERS),
        (pd.Series([5, None, 3, None]), NUMBERS),
        (pd.Series([5, None, 3, None], dtype="Int64"), NUMBERS),
        (pl.Series([5, None, 3, None]), NUMBERS),
        (np.array([5, None, 3, np.datetime64("NaT")], dtype=object), NUMBERS),
        (np.ma.array(["dog", "nonsense", "cat", ""], mask=[False, True, False, False]), WORDS),
        (["dog", None, "cat", float("nan")], WORDS),
        (pd.Series(["dog", None, "cat", None], dtype="string"), WORDS),
        (pd.Series(["dog", None, "cat", None], dtype="category"), WORDS),
        (pl.Series(["dog", None, "cat", None]), WORDS),
        # A class may have the name of a blank; masked and None still work.
        ([1, None, -1, None], np.array([-1, 1])),
        (["a", None, "", None], np.array(["", "a"])),
        ([True, None, False, None], np.array([False, True])),
    ],
)
def test_every_way_to_leave_a_label_out(trusted, classes):
    """Masked, None, NaN, NA, NaT, -1 and the empty string all mean unknown."""
    assert encode_trusted(trusted, classes, 4).tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize(
    ("trusted", "classes", "message"),
    [
        (
            ["dog", None, "cta"],
            WORDS,
            "row 2 is 'cta', which no row has as its noisy label; did you mean 'cat'?",
        ),
        ([None, 4, 3], NUMBERS, "row 1 is 4, which no row has as its noisy label; they are 3, 5, 7"),
        (["5", None, None], NUMBERS, "row 0 is '5', which no row has as its noisy label; did you mean '5'"),
        (
            [None, None, np.nan],
            NUMBERS,
            "expected at least one known label, got none; leave trusted out",
        ),
        ([3, 5], NUMBERS, r"expected 3 labels, one for each row, unknown ones masked; got shape \(2,\)"),
        ([[3], [5], [7]], NUMBERS, r"expected 3 labels, .*; got shape \(3, 1\)"),
    ],
)
def test_labels_that_cannot_be_right_are_named(trusted, classes, message):
    """The error names the row, its label and the class that was probably meant."""
    with pytest.raises(LabelError, match=f"trusted: {message}"):
        encode_trusted(trusted, classes, 3)
