import pytest

from assay.text import counted, cut, interval, listed, one_line, p_equals, percent, seconds, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Käse 7.png", "Käse 7.png"),
        ("two\nlines", r"two\nlines"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff.png", r"\udcff.png"),
        ("a\x00\x1b[31m", r"a\x00\x1b[31m"),
        ("<b>&", "<b>&"),
    ],
)
def test_invisible_characters_are_escaped(text, shown):
    """Direction marks, control characters and undecodable bytes become escapes; templates escape markup."""
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a" * 20, "a" * 20),
        ("a" * 21, "a" * 7 + "…" + "a" * 12),
        ("x" * 10**6 + "-0123456789.png", "xxxxxxx…23456789.png"),
        ("\n" * 20, r"\n\n\n\…\n\n\n\n\n\n"),
    ],
)
def test_a_long_name_keeps_its_ends(text, shown):
    """A name is never longer than asked, its escapes counted as they are shown."""
    assert cut(text, 20) == shown
    assert len(cut(text, 20)) <= 20


def test_numbers_are_written_as_people_do():
    """Shares in percent with their range, times by their size, one image and two images."""
    share = {"estimate": 0.604, "low": 0.593, "high": 0.615, "level": 0.95}
    assert (interval(share), interval(None)) == ("60.4 % (59.3 to 61.5)", "–")
    assert [interval(share | {"estimate": 6 / 7}, n) for n in (7, 20)] == [
        "6 of 7 (59.3 to 61.5 %)",
        "85.7 % (59.3 to 61.5)",
    ]
    assert [percent(p) for p in (0.6031, 0.0, 0.0004)] == ["60.3 %", "0.0 %", "0.04 %"]
    assert [seconds(s) for s in (0.04, 9.94, 119.4, 408.0)] == ["0.0 s", "9.9 s", "119 s", "6 min 48 s"]
    assert [p_equals(p) for p in (0.15, 0.0312, 1e-9)] == ["p = 0.15", "p = 0.031", "p < 0.001"]
    assert (counted(1, "class", "classes"), counted(1200, "image")) == ("1 class", "1,200 images")
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"


def test_a_message_is_one_harmless_line():
    """A warning may quote any label."""
    assert one_line("two\n lines \u202e") == r"two lines \u202e"
    assert len(one_line("w" * 10**6)) == 600
