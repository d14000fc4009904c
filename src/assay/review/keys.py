"""Keys: one for each class and each action, and other ones where a person wants them."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay.data.write import write_json
from assay.errors import DataError, UsageError

ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "accept": "a.+",
        "skip": "s,;",
        "undo": "u-_",
        "next": "j",
        "previous": "k",
        "jump": "g/#",
        "help": "?!",
    }
)
"""What a key may do besides giving a class, and the keys for it: the first that is no class's name counts.
Arrow keys go to the next and previous image too, so these two can do without.
"""

CLASS_KEYS = "1234567890qwertyiopdfhlzxcvbnm"
"""For the classes, in their order; a class beyond has a button and no key until it is given one."""

FILE = "review_keys.json"

_NUMBERED = re.compile(r"class-[0-9]{1,7}")


def default_keys(titles: Sequence[str]) -> dict[str, str]:
    """Action, or ``class-`` and its index, -> the value of ``event.key`` for it.

    A class whose name is one letter, digit or sign of ASCII has that key, and an action that would have had
    it another one: who types what is in the image must not decide something else.
    """
    own = _own_keys(titles)
    taken = set(own.values())
    actions = {
        action: next((key for key in keys if key not in taken), "") for action, keys in ACTIONS.items()
    }
    free = (key for key in CLASS_KEYS if key not in taken)
    others = (i for i in range(len(titles)) if i not in own)
    chosen = own | dict(zip(others, free, strict=False))
    return {
        **{action: key for action, key in actions.items() if key},
        **{f"class-{i}": chosen[i] for i in sorted(chosen)},
    }


def read_keys(folder: Path, titles: Sequence[str]) -> dict[str, str]:
    """The keys that were chosen for a run, or the usual ones.

    Raises
    ------
    DataError : a file of keys that cannot be meant
    """
    file = folder / FILE
    if not file.exists():
        return default_keys(titles)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise UsageError(f"an object from actions to keys, got {str(found)[:60]}")
        # A former run of the folder may have had more classes.
        more = {name for name in found if _NUMBERED.fullmatch(name) and int(name[6:]) >= len(titles)}
        return checked_keys({name: key for name, key in found.items() if name not in more}, len(titles))
    except (OSError, ValueError, RecursionError, UsageError) as error:
        raise DataError(f"{file}: expected keys of this page ({error}); correct it or delete it") from None


def write_keys(folder: Path, keys: Mapping[str, Any], n_classes: int) -> dict[str, str]:
    """Keep the keys of a run.

    Raises
    ------
    UsageError : see ``checked_keys``
    """
    checked = checked_keys(keys, n_classes)
    write_json(folder / FILE, checked)
    return checked


def checked_keys(keys: Mapping[str, Any], n_classes: int) -> dict[str, str]:
    """The keys, if each is one letter or sign and has one meaning; empty ones are left out.

    Raises
    ------
    UsageError : an action that there is not, a key of several letters, or one key for two things
    """
    known = {*ACTIONS, *(f"class-{index}" for index in range(n_classes))}
    meaning: dict[str, str] = {}
    for action, key in keys.items():
        if action not in known:
            raise UsageError(f"expected an action or class of this page, got {action[:60]!r}")
        if not isinstance(key, str) or len(key) > 1 or not key.isprintable() or key.isspace():
            raise UsageError(f"expected one letter, digit or sign for {action[:60]!r}, got {str(key)[:20]!r}")
        if key and meaning.setdefault(key, action) != action:
            raise UsageError(f"the key {key} is for both {meaning[key][:60]!r} and {action[:60]!r}")
    return {action: key for action, key in keys.items() if key}


def _own_keys(titles: Sequence[str]) -> dict[int, str]:
    """The keys of classes that are called by one, if any keyboard may be thought to have it.

    A capital does without Shift where no other class is the small letter.
    """
    signs = {i: title for i, title in enumerate(titles) if len(title) == 1 and "!" <= title <= "~"}
    cases = Counter(title.lower() for title in set(signs.values()))
    found: dict[str, int] = {}
    for i, title in signs.items():
        # Two classes may have one title: the second has no right to the key.
        found.setdefault(title.lower() if cases[title.lower()] == 1 else title, i)
    return {i: key for key, i in found.items()}
