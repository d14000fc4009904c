import pytest

from assay.data.spelling import by_form, chosen_spelling, closest, plain_form


@pytest.mark.parametrize("spelling", ["Cat", " cat", "cat ", "ｃat", "CAT", "\tcat\u00a0"])
def test_case_space_and_width_do_not_make_a_class(spelling):
    """Spellings that look alike share one form."""
    assert plain_form(spelling) == "cat"


@pytest.mark.parametrize(("one", "other"), [("7", "007"), ("1", "1.0"), ("NA", "None"), ("a b", "ab")])
def test_other_differences_do(one, other):
    """Numbers that are equal, and words that only resemble, stay apart."""
    assert plain_form(one) != plain_form(other)


def test_spellings_are_gathered_in_natural_order():
    """Each form lists its labels."""
    assert by_form(["b10", "B10", "b9"]) == {"b10": ["B10", "b10"], "b9": ["b9"]}


def test_the_spelling_to_keep():
    """A declared spelling is kept, else the most frequent, else the first."""
    counts = {"Cat": 1, "cat": 5, "CAT": 1}
    assert chosen_spelling(counts, counts, ["CAT"]) == "CAT"
    assert chosen_spelling(counts, counts, []) == "cat"
    assert chosen_spelling(["cat", "CAT"], {}, []) == "CAT"


@pytest.mark.parametrize(
    ("label", "meant"), [("cta", "cat"), ("CAT", "cat"), ("horse", "House"), ("xyz", None)]
)
def test_the_closest_class(label, meant):
    """A slip leads to the class that was meant, and nonsense to none."""
    assert closest(label, ["cat", "dog", "House"]) == meant
