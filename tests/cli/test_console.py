"""What people read: tables and escaped names."""

from assay.cli.console import show, table
from assay.progress import notify


def test_a_table_has_its_columns_under_their_names():
    """The first column is aligned left, the others right; no line ends in a space."""
    text = table(("class", "n", ""), [("a", "1", ""), ("longer name", "1,000", "x")])
    assert text == "class            n\na                1\nlonger name  1,000  x"


def test_control_characters_are_shown_and_not_obeyed(capsys):
    """A name that would steer the terminal is escaped; line breaks and other scripts stay."""
    show("a\x1b[2Jb\r\nλ \u202e c")
    notify("d\x07e")
    assert capsys.readouterr() == ("a\\x1b[2Jb\\r\nλ \\u202e c\n", "d\\x07e\n")
