import sys

import matplotlib as mpl
import pytest

from assay.errors import MissingExtraError
from assay.report.svg import printable, short, svg


def draw(figure):
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    axes.set_title("ä < b & c")


def made(**changed):
    return svg(
        draw, **({"width": 3.0, "height": 2.0, "title": "A line", "description": "It falls."} | changed)
    )


def test_the_same_picture_has_the_same_bytes():
    """Nothing in the file depends on the time, the process or chance."""
    assert made() == made()
    assert "20" + "26" not in made().split("<g ")[0]


def test_a_picture_has_a_name_and_a_description(seen):
    """A screen reader finds the title and the description, escaped, and knows that it is one image."""
    found = seen(made(title="A & <b>", description="1 < 2"))
    assert (found.title, found.description) == ("A & <b>", "1 < 2")
    named = found.root.attrib["aria-labelledby"].split()
    assert named == [found.root[0].attrib["id"], found.root[1].attrib["id"]]
    assert found.root.attrib["role"] == "img"


def test_two_pictures_on_a_page_have_different_ids(seen):
    """The ids by which a page names two pictures do not meet."""
    one, two = seen(made()), seen(made(title="Another"))
    assert not set(one.root.attrib["aria-labelledby"].split()) & set(
        two.root.attrib["aria-labelledby"].split()
    )


def test_text_stays_text(seen):
    """What is written can be read, found and copied."""
    assert "ä < b & c" in seen(made()).texts


def test_a_picture_asks_nothing_of_the_network(seen):
    """No document type and no link leads out of the file."""
    assert "<!DOCTYPE" not in made()
    assert seen(made()).links == []


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
