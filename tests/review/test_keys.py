"""Keys: the usual ones and those that a person wants."""

import re
import string

import pytest

from assay.errors import DataError, UsageError
from assay.review.keys import ACTIONS, CLASS_KEYS, FILE, checked_keys, default_keys, read_keys, write_keys


def test_classes_have_digits_then_letters():
    """In their order; no key means two things, and the classes beyond have none."""
    keys = default_keys([f"class {i}" for i in range(50)])
    assert [keys[f"class-{i}"] for i in range(12)] == [*"1234567890qw"]
    assert len(keys) == len(ACTIONS) + len(CLASS_KEYS) == len(set(keys.values()))
    assert "class-49" not in keys


def test_a_class_that_is_a_digit_has_that_key():
    """Digits on images are typed as they are; the other classes take what is free."""
    keys = default_keys(["0", "1", "two", "-", "été", "é"])
    assert [keys[f"class-{i}"] for i in range(6)] == ["0", "1", "2", "-", "3", "4"]
    assert {action: key for action, key in keys.items() if action in ACTIONS} == USUAL


USUAL = {"accept": "a", "skip": "s", "undo": "u", "next": "j", "previous": "k", "jump": "g", "help": "?"}


@pytest.mark.parametrize(
    "letters",
    [string.ascii_lowercase, string.ascii_uppercase, string.digits + string.ascii_uppercase],
    ids=["small", "capital", "with digits"],
)
def test_a_class_that_is_a_letter_has_that_key(letters):
    """Small or capital, without Shift; actions go to signs, and moving about has the arrow keys."""
    keys = default_keys([*letters, "space"])
    assert [keys[f"class-{i}"] for i in range(len(letters))] == [*letters.lower()]
    actions = {action: key for action, key in keys.items() if action in ACTIONS}
    assert actions == {"accept": ".", "skip": ",", "undo": "-", "jump": "/", "help": "?"}
    assert keys.get(f"class-{len(letters)}") == (None if "1" in letters else "1")
    assert len(set(keys.values())) == len(keys)


def test_small_letters_and_capitals_are_two_classes():
    """Where both are there, each has its own key; a capital that is alone needs no Shift, nor its sister."""
    keys = default_keys(["A", "a", "S", "S", "K"])
    assert [keys[f"class-{i}"] for i in range(5)] == ["A", "a", "s", "1", "k"]
    assert [keys.get(action) for action in ACTIONS] == [".", ",", "u", "j", None, "g", "?"]


@pytest.mark.parametrize(
    "classes", [string.printable, string.punctuation, "as.,+;", "?!"], ids=["all", "signs", "both", "help"]
)
def test_no_key_of_a_class_does_anything_else(classes):
    """Who types what is in the image decides that; an action for which no key is left has none."""
    names = [sign for sign in classes if not sign.isspace()]
    keys = default_keys([*names, "word"])
    assert [keys[f"class-{i}"] for i in range(len(names))] == names
    assert checked_keys(keys, len(names) + 1) == keys
    actions = {keys.get(action, "") for action in ACTIONS}
    assert not actions & {*names}


def test_chosen_keys_are_kept(tmp_path):
    """They are there for the next time; empty ones are left out."""
    wanted = {"accept": "x", "skip": "", "class-1": "é"}
    assert write_keys(tmp_path, wanted, 3) == {"accept": "x", "class-1": "é"}
    assert read_keys(tmp_path, ["a", "b", "c"]) == {"accept": "x", "class-1": "é"}


def test_keys_of_classes_that_are_no_more_are_passed_over(tmp_path):
    """A run of more classes was in the folder before; the others are still what was chosen."""
    write_keys(tmp_path, {"accept": "x", "class-1": "é", "class-2": "z"}, 3)
    assert read_keys(tmp_path, ["a", "b"]) == {"accept": "x", "class-1": "é"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"accept": "a", "skip": "a"}, "the key a is for both 'accept' and 'skip'"),
        ({"accept": "ab"}, "expected one letter, digit or sign for 'accept', got 'ab'"),
        ({"accept": " "}, "expected one letter, digit or sign for 'accept', got ' '"),
        ({"accept": "\n"}, "expected one letter"),
        ({"accept": 1}, "expected one letter"),
        ({"explode": "x"}, "expected an action or class of this page, got 'explode'"),
        ({"class-3": "x"}, "expected an action or class of this page, got 'class-3'"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(tmp_path, keys, message):
    """Nothing is written."""
    with pytest.raises(UsageError, match=re.escape(message)):
        checked_keys(keys, 3)
    with pytest.raises(UsageError):
        write_keys(tmp_path, keys, 3)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"accept": "ab"}', "1"])
def test_a_damaged_file_of_keys_is_refused(tmp_path, text):
    """The message says which file, and that it may be deleted."""
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DataError, match=r"expected keys of this page .* correct it or delete it"):
        read_keys(tmp_path, ["a", "b"])
