"""Keys of the review page: one for each class and each action, which a person may change."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay.errors import DataError, UsageError

ACTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "accept": ("a.+", "Accept the proposed label"),
        "none": ("n'~", "None of these: belongs to no class"),
        "skip": ("s,;", "Skip this image"),
        "zoom": ("z*=", "Enlarge the image"),
        "undo": ("u-_", "Undo the last decision"),
        "next": ("j", "Next image, without a decision"),
        "previous": ("k", "Previous image"),
        "jump": ("g/#", "Jump to an image"),
        "help": ("?!", "Help"),
    }
)
"""Action -> its possible keys, of which the first that is not the name of a class is taken; its name."""

CLASS_KEYS = "1234567890qwertyiopdfhlxcvbm"
"""Keys of the classes, in their order: those that no action has."""

FILE = "review_keys.json"

_CLASS = re.compile(r"class-[0-9]{1,7}")


def default_keys(titles: Sequence[str]) -> dict[str, str]:
    """Action, or ``class-`` and its index, -> the value of ``event.key``.

    A class named by one ASCII letter, digit or sign has that key, so that typing what is in the image decides
    nothing else; an action that would have had it takes another one.
    """
    signs = {i: title for i, title in enumerate(titles) if len(title) == 1 and "!" <= title <= "~"}
    cases = Counter(title.lower() for title in set(signs.values()))
    own: dict[str, int] = {}
    for i, title in signs.items():
        # A capital needs no Shift unless another class is the small letter. Of equal titles the first has it.
        own.setdefault(title.lower() if cases[title.lower()] == 1 else title, i)
    keys = {
        action: free
        for action, (wanted, _) in ACTIONS.items()
        if (free := next((key for key in wanted if key not in own), ""))
    }
    # Further classes have a button alone, until a person gives them a key.
    others = (i for i in range(len(titles)) if i not in own.values())
    free_keys = (key for key in CLASS_KEYS if key not in own)
    chosen = {i: key for key, i in own.items()} | dict(zip(others, free_keys, strict=False))
    return keys | {f"class-{i}": chosen[i] for i in sorted(chosen)}


def read_keys(file: Path, titles: Sequence[str]) -> dict[str, str]:
    """The keys that were saved for a run, or the default ones; DataError if the file is damaged."""
    if not file.exists():
        return default_keys(titles)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise UsageError(f"an object from actions to keys, got {str(found)[:60]}")
        # An earlier run in the folder may have had more classes.
        more = {name for name in found if _CLASS.fullmatch(name) and int(name[6:]) >= len(titles)}
        return checked_keys({name: key for name, key in found.items() if name not in more}, len(titles))
    except (OSError, ValueError, RecursionError, UsageError) as error:
        raise DataError(f"{file}: expected the keys of the review page ({error}); delete the file") from None


def checked_keys(keys: Mapping[str, Any], n_classes: int) -> dict[str, str]:
    """The keys without empty ones; UsageError if one is unknown, no single character, or used twice."""
    known = {*ACTIONS, *(f"class-{index}" for index in range(n_classes))}
    owner: dict[str, str] = {}
    for action, key in keys.items():
        if action not in known:
            raise UsageError(f"expected an action or class of this page, got {action[:60]!r}")
        if not isinstance(key, str) or len(key) > 1 or not key.isprintable() or key.isspace():
            raise UsageError(f"expected one letter, digit or sign for {action[:60]!r}, got {str(key)[:20]!r}")
        if key and owner.setdefault(key, action) != action:
            raise UsageError(f"the key {key} is used for both {owner[key][:60]!r} and {action[:60]!r}")
    return {action: key for action, key in keys.items() if key}
