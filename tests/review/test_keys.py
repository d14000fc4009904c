"""Keys: the default ones, and those that a person saves."""

import re
import string

import pytest

from assay.data.write import write_json
from assay.errors import DataError, UsageError
from assay.review.keys import ACTIONS, CLASS_KEYS, FILE, checked_keys, default_keys, read_keys

DEFAULT = {"accept": "a", "none": "n", "skip": "s", "zoom": "z", "undo": "u"}
DEFAULT |= {"next": "j", "previous": "k", "jump": "g", "help": "?"}


def of_actions(keys):
    return {action: key for action, key in keys.items() if action in ACTIONS}


def test_classes_have_digits_then_letters():
    """In their order, each key once; further classes have none."""
    keys = default_keys([f"class {i}" for i in range(50)])
    assert [keys[f"class-{i}"] for i in range(12)] == [*"1234567890qw"]
    assert len(keys) == len(ACTIONS) + len(CLASS_KEYS) == len(set(keys.values()))
    assert of_actions(keys) == DEFAULT


@pytest.mark.parametrize(
    ("classes", "keys", "actions"),
    [
        (["0", "1", "two", "-", "été", "é"], "012-34", DEFAULT),
        (
            [*string.ascii_uppercase, "space"],
            string.ascii_lowercase + "1",
            {"accept": ".", "none": "'", "skip": ",", "zoom": "*", "undo": "-", "jump": "/", "help": "?"},
        ),
        (["A", "a", "S", "S", "K"], "Aas1k", {**DEFAULT, "accept": ".", "skip": ",", "previous": None}),
    ],
    ids=["digits", "capitals", "both cases"],
)
def test_a_class_named_by_one_sign_has_that_key(classes, keys, actions):
    """A capital needs no Shift unless the small letter is a class too; actions move to signs."""
    found = default_keys(classes)
    assert "".join(found[f"class-{i}"] for i in range(len(classes))) == keys
    assert of_actions(found) == {action: key for action, key in actions.items() if key}


@pytest.mark.parametrize("classes", [string.printable, "as.,+;", "?!"])
def test_no_key_of_a_class_does_anything_else(classes):
    """An action whose keys are all taken has none."""
    names = [sign for sign in classes if not sign.isspace()]
    keys = default_keys([*names, "word"])
    assert [keys[f"class-{i}"] for i in range(len(names))] == names
    assert checked_keys(keys, len(names) + 1) == keys


def test_saved_keys_are_read_again(tmp_path):
    """Without those of classes that only an earlier run had."""
    write_json(tmp_path / FILE, {"accept": "x", "class-1": "é", "class-2": "z"})
    assert read_keys(tmp_path / FILE, [*"abc"]) == {"accept": "x", "class-1": "é", "class-2": "z"}
    assert read_keys(tmp_path / FILE, [*"ab"]) == {"accept": "x", "class-1": "é"}
    assert read_keys(tmp_path / "none", [*"ab"]) == default_keys([*"ab"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"accept": "a", "skip": "a"}, "the key a is used for both 'accept' and 'skip'"),
        ({"accept": "ab"}, "expected one letter, digit or sign for 'accept', got 'ab'"),
        ({"accept": " "}, "expected one letter, digit or sign for 'accept', got ' '"),
        ({"accept": "\n"}, "expected one letter"),
        ({"explode": "x"}, "expected an action or class of this page, got 'explode'"),
        ({"class-3": "x"}, "expected an action or class of this page, got 'class-3'"),
    ],
)
def test_impossible_keys_are_refused(session, keys, message):
    """Nothing is written."""
    with pytest.raises(UsageError, match=re.escape(message)):
        session.save_keys(keys)
    assert not session.store.path.with_name(FILE).exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"accept": "ab"}', "1"])
def test_a_damaged_file_of_keys_is_refused(tmp_path, text):
    """The message names the file, which may be deleted."""
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DataError, match=rf"{FILE}: expected the keys of the review page .*; delete the file"):
        read_keys(tmp_path / FILE, ["a", "b"])
