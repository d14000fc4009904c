"""What people read: tables, numbers, progress."""

import pytest

from assay.cli.console import Lines, notify, progress_bar, show, table
from assay.text import percent, percent_range


def test_a_table_has_its_columns_under_their_names():
    """The first column to the left, the others to the right, no space at the end of a line."""
    text = table(("class", "n", ""), [("a", "1", ""), ("longer name", "1,000", "x")])
    assert text == "class            n\na                1\nlonger name  1,000  x"


def test_numbers_are_written_as_people_write_them():
    """Shares as percent with one decimal, and their ranges."""
    assert percent(0.9036) == "90.4 %"
    assert percent_range(0.9, 0.9051) == "90.0 to 90.5"


def test_control_characters_are_shown_and_not_obeyed(capsys):
    """A name that would steer the terminal is escaped; line breaks and other scripts stay."""
    show("a\x1b[2Jb\r\nλ \u202e c")
    notify("d\x07e")
    out, err = capsys.readouterr()
    assert out == "a\\x1b[2Jb\\r\nλ \\u202e c\n"
    assert err == "d\\x07e\n"


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr("assay.cli.console.time.monotonic", lambda: float(now[0]))
    return now


def test_without_a_terminal_a_line_comes_now_and_then(clock, capsys):
    """After ten seconds, and after ten more, a line says how far a stage is, how fast and how long yet."""
    lines = Lines(last=0.0)
    for second, done in ((1, 100), (5, 500), (11, 1100), (12, 1200), (22, 2200)):
        clock[0] = second
        lines("embed", done, 5000)
    clock[0] = 40
    lines("believe", 0, 5)
    clock[0] = 60
    lines("believe", 2, 5)
    assert capsys.readouterr().err.splitlines() == [
        "embed: 1,100 of 5,000, 100 a second, 39 s left",
        "embed: 2,200 of 5,000, 100 a second, 28 s left",
        "believe: 2 of 5, 30 s left",
    ]


def test_a_stage_that_begins_again_has_a_new_rate(clock, capsys):
    """Images are asked about twice; the second time is no part of the first."""
    lines = Lines(last=0.0)
    for second, done, total in (
        (1, 100, 5000),
        (50, 5000, 5000),
        (59, 0, 900),
        (60, 10, 900),
        (70, 110, 900),
    ):
        clock[0] = second
        lines("ask", done, total)
    assert capsys.readouterr().err.splitlines()[-1] == "ask: 110 of 900, 10 a second, 79 s left"


def test_what_was_done_before_does_not_count(clock, capsys):
    """A resumed run finds most of its images in the cache: they are no measure of those that are left."""
    lines = Lines(last=0.0)
    for second, done in ((1, 1000), (2, 40_000), *((2 + 10 * k, 40_000 + 100 * k) for k in range(1, 9))):
        clock[0] = second
        lines("embed", done, 50_000)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "embed: 40,100 of 50,000, 3,555 a second, 3 s left"
    assert told[-1] == "embed: 40,800 of 50,000, 10 a second, 920 s left"


def test_slow_steps_have_a_rate(clock, capsys):
    """One step takes longer than the past that counts."""
    lines = Lines(last=0.0)
    for step in range(4):
        clock[0] = 200.0 * step
        lines("train", step, 5)
    assert capsys.readouterr().err.splitlines()[-1] == "train: 3 of 5, 400 s left"


def test_quiet_progress_says_nothing(capsys):
    """Nothing is written when quiet was asked for."""
    with progress_bar(quiet=True) as progress:
        progress("embed", 1, 2)
    with progress_bar(quiet=False) as progress:
        progress("embed", 1, 2)
    assert capsys.readouterr() == ("", "")
