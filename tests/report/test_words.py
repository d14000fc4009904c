import pytest

from assay.report.words import counted, cut, interval, one_line, p_words, seconds, sure


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("a" * 20, "a" * 20),
        ("a" * 21, "a" * 7 + "…" + "a" * 12),
        ("x" * 10**6 + "-0123456789.png", "xxxxxxx…23456789.png"),
        ("\n" * 20, r"\n\n\n\…\n\n\n\n\n\n"),
    ],
)
def test_a_long_name_keeps_its_ends(text, shown):
    """Never more than so many signs, escapes counted as they are shown."""
    assert cut(text, 20) == shown
    assert len(cut(text, 20)) <= 20


def test_numbers_are_written_as_people_do():
    """Shares in percent with their range, times by their size, one image and two images."""
    share = {"estimate": 0.604, "low": 0.593, "high": 0.615, "level": 0.95}
    assert interval(share) == "60.4 % (59.3 to 61.5)"
    assert interval(None) == "–"
    assert [seconds(value) for value in (0.04, 9.94, 87.4, 119.4, 408.0)] == [
        "0.0 s",
        "9.9 s",
        "87 s",
        "119 s",
        "6 min 48 s",
    ]
    assert [p_words(p) for p in (0.15, 0.0312, 1e-9)] == ["p = 0.15", "p = 0.031", "p < 0.001"]
    assert [sure(p) for p in (1.0, 0.9991, 0.9989)] == ["> 99.9 %", "> 99.9 %", "99.9 %"]
    assert (counted(1, "class", "classes"), counted(1200, "image")) == ("1 class", "1,200 images")


def test_a_sentence_is_one_harmless_line():
    """A warning may quote a label, and that may be anything."""
    assert one_line("two\n lines \u202e") == r"two lines \u202e"
    assert len(one_line("w" * 10**6)) == 600
