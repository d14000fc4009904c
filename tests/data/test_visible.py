import pytest

from assay.data.visible import visible


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
def test_what_cannot_be_seen_is_written_out(text, shown):
    """Marks that turn text round, control characters and bytes that are no text become escapes; markup is
    for the templates to escape.
    """
    assert visible(text) == shown
