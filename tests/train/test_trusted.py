import numpy as np
import pandas as pd
import polars as pl
import pytest

from assay.errors import LabelError
from assay.train.trusted import encode_trusted

NUMBERS, WORDS = np.array([3, 5, 7]), np.array(["cat", "dog", "eel"])


@pytest.mark.parametrize(
    "trusted",
    [
        np.ma.array([5, 99, 3, 0], mask=[False, True, False, True]),
        np.array([5, -1, 3, -1]),
        np.array([5, np.nan, 3, np.nan]),
        [5, None, 3, None],
        (5.0, None, np.float64(3), float("nan")),
        ["5", "", 3, ""][:0] or [5, "", 3, ""],
        pd.Series([5, None, 3, None]),
        pd.Series([5, None, 3, None], dtype="Int64"),
        pl.Series([5, None, 3, None]),
        np.array([5, None, 3, np.datetime64("NaT")], dtype=object),
    ],
)
def test_every_way_to_leave_a_number_out(trusted):
    """Masked, None, NaN, NA, NaT, -1 and the empty string all mean unknown."""
    assert encode_trusted(trusted, NUMBERS, 4).tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize(
    "trusted",
    [
        np.ma.array(["dog", "nonsense", "cat", ""], mask=[False, True, False, False]),
        ["dog", None, "cat", float("nan")],
        np.array(["dog", "", "cat", ""]),
        pd.Series(["dog", None, "cat", None]),
        pd.Series(["dog", None, "cat", None], dtype="string"),
        pd.Series(["dog", None, "cat", None], dtype="category"),
        pl.Series(["dog", None, "cat", None]),
    ],
)
def test_every_way_to_leave_a_word_out(trusted):
    """The same for classes that are words."""
    assert encode_trusted(trusted, WORDS, 4).tolist() == [1, -1, 0, -1]


def test_a_class_may_be_called_minus_one():
    """Where y has the class -1 or the empty string, that is a label; masks and None still work."""
    assert encode_trusted([-1, 1, None], np.array([-1, 1]), 3).tolist() == [0, 1, -1]
    assert encode_trusted(["", "a", None], np.array(["", "a"]), 3).tolist() == [0, 1, -1]


def test_truth_values_are_labels():
    """Classes may be False and True."""
    assert encode_trusted([True, None, False], np.array([False, True]), 3).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("trusted", "classes", "message"),
    [
        (
            ["dog", None, "cta"],
            WORDS,
            "trusted: row 2 is 'cta', which no row has as its noisy label; did you mean 'cat'?",
        ),
        (
            [None, 4, 3],
            NUMBERS,
            "trusted: row 1 is 4, which no row has as its noisy label; they are 3, 5, 7",
        ),
        (
            ["5", None, None],
            NUMBERS,
            "trusted: row 0 is '5', which no row has as its noisy label; did you mean '5'?",
        ),
        (
            [None, None, np.nan],
            NUMBERS,
            "trusted: expected at least one known label, got none; leave trusted out instead",
        ),
        (
            [3, 5],
            NUMBERS,
            r"trusted: expected 3 labels, one for each row, unknown ones masked; got shape \(2,\)",
        ),
        ([[3], [5], [7]], NUMBERS, r"got shape \(3, 1\)"),
    ],
)
def test_labels_that_cannot_be_are_named(trusted, classes, message):
    """The error says which row has what, and what was probably meant."""
    with pytest.raises(LabelError, match=message.replace("?", r"\?")):
        encode_trusted(trusted, classes, 3)
