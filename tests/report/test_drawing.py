import sys

import matplotlib as mpl
import numpy as np
import pytest

from assay.drawing import (
    MAX_TICKS,
    describe_confusion,
    draw_confusion,
    draw_matrix,
    printable,
    short,
    svg,
)
from assay.errors import MissingExtraError


def draw(figure):
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    axes.set_title("ä < b & c")


def made(**changed):
    return svg(
        draw, **({"width": 3.0, "height": 2.0, "title": "A line", "description": "It falls."} | changed)
    )


def test_a_picture_has_a_name_and_a_description(seen):
    """A screen reader finds both, escaped; it is one image, and its ids are no other picture's."""
    found = seen(made(title="A & <b>", description="1 < 2"))
    assert (found.title, found.description) == ("A & <b>", "1 < 2")
    named = found.root.attrib["aria-labelledby"].split()
    assert named == [found.root[0].attrib["id"], found.root[1].attrib["id"]]
    assert found.root.attrib["role"] == "img"
    assert not {*named} & {*seen(made()).root.attrib["aria-labelledby"].split()}


def test_a_picture_is_the_same_each_time_and_asks_nothing_of_the_network(seen):
    """Text stays text; no date, no document type and no link leads out of the file."""
    drawn = made()
    assert drawn == made()
    assert "ä < b & c" in seen(drawn).texts
    assert "20" + "26" not in drawn.split("<g ")[0]
    assert "<!DOCTYPE" not in drawn
    assert seen(drawn).links == []


def test_the_users_settings_are_neither_used_nor_changed():
    """A style of the user changes no byte, and is the same after drawing."""
    plain = made()
    with mpl.rc_context({"axes.facecolor": "black", "svg.fonttype": "path", "font.size": 30}):
        before = dict(mpl.rcParams)
        assert made() == plain
        assert dict(mpl.rcParams) == before


def test_without_matplotlib_the_message_is_the_install_line(monkeypatch):
    """A missing package is named with what would install it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"this needs matplotlib.*pip install '\.\[report\]'"):
        made()


def test_what_xml_cannot_hold_is_replaced(seen):
    """Control characters, half surrogates and line breaks in a stranger's label leave a well-formed file."""
    hostile = "a\x00b\x1b[31m\udc80\uffff\nc"
    assert printable(hostile) == "a\ufffdb\ufffd[31m\ufffd\ufffd c"
    assert seen(made(title=hostile)).title == printable(hostile)


@pytest.mark.parametrize(("text", "line"), [("cat", "cat"), ("a" * 16, "a" * 16), ("a" * 17, "a" * 15 + "…")])
def test_a_long_label_is_cut(text, line):
    """A label keeps sixteen signs, the last of them an ellipsis if there were more."""
    assert short(text) == line


COUNTS = np.array([[30, 10, 0], [0, 50, 0], [5, 0, 5]])
NAMES = ("plane", "car", "bird")


def test_each_cell_says_its_count_and_share(seen):
    """The counts as they are, with the share of their row; the sides are named as asked."""
    texts = seen(draw_confusion(COUNTS, NAMES, title="Three")).texts
    assert {"30", "75 %", "10", "25 %", "50", "100 %", *NAMES, "trusted", "predicted", "Three"} <= {*texts}
    texts = seen(draw_confusion(COUNTS, NAMES, title="Three", columns="noisy")).texts
    assert ("noisy" in texts, "predicted" in texts) == (True, False)


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
        "No image has both a trusted and a noisy label."
    )
    assert describe_confusion(perfect, "ab", "trusted", "noisy").endswith("equal for 100.0 %.")


@pytest.mark.parametrize("k", [2, 12, 13, 25, 26, 100])
def test_any_number_of_classes_is_readable(seen, k):
    """Up to twelve classes have figures in their cells; never are more than 25 names on a side."""
    names = [f"class {i}" for i in range(k)]
    texts = seen(draw_confusion(np.eye(k, dtype=int) * 7, names, title="many")).texts
    assert texts.count("7") == (k if k <= 12 else 0)
    assert 2 <= texts.count("class 0") + texts.count(f"class {k - 1}") <= 4
    assert sum(text.startswith("class ") for text in texts) <= 2 * MAX_TICKS


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


def test_a_thousand_classes_become_a_small_picture():
    """Several classes share a pixel, which shows the largest of them."""
    drawn = draw_matrix(
        np.random.default_rng(0).random((1_000, 1_000)),
        [f"class {i} <&>" for i in range(1_000)],
        title="T",
        description="D",
        rows="true",
        columns="noisy",
    )
    assert len(drawn) < 600_000
