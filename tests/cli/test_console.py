"""What people read: tables, escaped names, progress."""

import pytest

from assay.cli import console
from assay.cli.console import notify, progress_bar, show, table


def test_a_table_has_its_columns_under_their_names():
    """The first column is aligned left, the others right; no line ends in a space."""
    text = table(("class", "n", ""), [("a", "1", ""), ("longer name", "1,000", "x")])
    assert text == "class            n\na                1\nlonger name  1,000  x"


def test_control_characters_are_shown_and_not_obeyed(capsys):
    """A name that would steer the terminal is escaped; line breaks and other scripts stay."""
    show("a\x1b[2Jb\r\nλ \u202e c")
    notify("d\x07e")
    assert capsys.readouterr() == ("a\\x1b[2Jb\\r\nλ \\u202e c\n", "d\\x07e\n")


@pytest.fixture
def lines(monkeypatch, capsys):
    """The progress lines for items done at these seconds: (second, stage, done, total)."""

    def give(*steps):
        now = [0.0]
        monkeypatch.setattr(console.time, "monotonic", lambda: float(now[0]))
        with progress_bar(quiet=False) as progress:
            for now[0], *step in steps:
                progress(*step)
        return capsys.readouterr().err.splitlines()

    return give


def test_without_a_terminal_a_line_comes_now_and_then(lines):
    """Every ten seconds a line says how far a stage is, how fast it goes and how long it will take."""
    steps = [(second, "embed", 100 * second, 5000) for second in (1, 5, 11, 12, 22)]
    assert lines(*steps, (40, "fit", 0, 5), (60, "fit", 2, 5)) == [
        "embed: 1,100 of 5,000, 100 per second, 39 s left",
        "embed: 2,200 of 5,000, 100 per second, 28 s left",
        "fit: 2 of 5, 30 s left",
    ]


def test_the_rate_is_that_of_the_last_seconds(lines):
    """Images found in the cache, or in an earlier pass, do not count; slow steps have a rate too."""
    resumed = [(2 + 10 * k, "embed", 40_000 + 100 * k, 50_000) for k in range(1, 9)]
    found = lines((1, "embed", 1000, 50_000), (2, "embed", 40_000, 50_000), *resumed)
    assert found[-1] == "embed: 40,800 of 50,000, 10 per second, 920 s left"
    again = [(59, "decode", 0, 900), (60, "decode", 10, 900), (70, "decode", 110, 900)]
    assert lines((1, "decode", 100, 5000), (50, "decode", 5000, 5000), *again)[-1] == (
        "decode: 110 of 900, 10 per second, 79 s left"
    )
    assert lines(*((200 * k, "train", k, 5) for k in range(4)))[-1] == "train: 3 of 5, 400 s left"


def test_quiet_progress_prints_nothing(capsys):
    """A first line would come only after ten seconds anyway."""
    for quiet in (True, False):
        with progress_bar(quiet) as progress:
            progress("embed", 1, 2)
    assert capsys.readouterr() == ("", "")
