import numpy as np
import pytest

from assay.report.confusion import MOST_TICKS, describe_confusion, draw_confusion

COUNTS = np.array([[30, 10, 0], [0, 50, 0], [5, 0, 5]])
NAMES = ("plane", "car", "bird")


def test_each_cell_says_its_count_and_share(seen):
    """The counts are there as they are, with the share of their row."""
    texts = seen(draw_confusion(COUNTS, NAMES, title="Three")).texts
    for text in ("30", "75 %", "10", "25 %", "50", "100 %", *NAMES, "trusted", "predicted", "Three"):
        assert text in texts


def test_the_sides_are_named_as_asked(seen):
    """Given against trusted says so on its sides."""
    texts = seen(draw_confusion(COUNTS, NAMES, title="Three", columns="noisy")).texts
    assert "noisy" in texts
    assert "predicted" not in texts


def test_the_description_says_what_there_is_to_see(seen):
    """In words: how many agree, and what is most often confused."""
    assert seen(draw_confusion(COUNTS, NAMES, title="Three")).description == (
        "Trusted labels in rows, predicted labels in columns, 100 images. The two are equal for 85.0 %. "
        "Most often confused: trusted plane, predicted car, 10 images, 25.0 % of the row."
    )


def test_nothing_and_perfection_have_words_too():
    """No image at all, and no confusion at all, are described without a division by zero."""
    nothing, perfect = np.zeros((2, 2), dtype=int), np.eye(2, dtype=int)
    assert describe_confusion(nothing, "ab", "trusted", "noisy") == (
        "No image has both a trusted and a given label."
    )
    assert describe_confusion(perfect, "ab", "trusted", "noisy").endswith("equal for 100.0 %.")


@pytest.mark.parametrize("k", [2, 12, 13, 25, 26, 100])
def test_any_number_of_classes_is_readable(seen, k):
    """Up to twelve classes have figures in their cells; never are more than 25 names on a side."""
    names = [f"class {i}" for i in range(k)]
    texts = seen(draw_confusion(np.eye(k, dtype=int) * 7, names, title="many")).texts
    assert texts.count("7") == (k if k <= 12 else 0)
    assert 2 <= texts.count("class 0") + texts.count(f"class {k - 1}") <= 4
    assert sum(text.startswith("class ") for text in texts) <= 2 * MOST_TICKS


def test_hostile_names_are_shown_as_they_are(seen):
    """Names that look like mark-up, mathematics or another script are text, without a warning."""
    names = ("<script>alert(1)</script>", "$\\frac{1}{0}$", "猫 & \x00")
    texts = seen(draw_confusion(COUNTS, names, title="$x_")).texts
    assert {"<script>alert(1…", "$\\frac{1}{0}$", "猫 & \ufffd", "$x_"} <= set(texts)


def test_an_empty_row_is_drawn(seen):
    """A class without images has a row of zeros and no share that is not a number."""
    texts = seen(draw_confusion(np.array([[0, 0], [1, 3]]), ("a", "b"), title="t")).texts
    assert "nan %" not in texts


def test_names_must_fit_the_counts():
    """Two names for three classes are refused."""
    with pytest.raises(ValueError, match=r"expected counts of shape \(2, 2\) for 2 names, got \(3, 3\)"):
        draw_confusion(COUNTS, ("a", "b"), title="t")


def test_the_same_counts_have_the_same_bytes():
    """A picture drawn twice is one file."""
    assert draw_confusion(COUNTS, NAMES, title="t") == draw_confusion(COUNTS, NAMES, title="t")
