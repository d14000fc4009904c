"""Spellings of one class: labels that differ only in case, spaces or Unicode form."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping

from assay.data.paths import natural_key

_LIKENESS = 0.6


def plain_form(label: str) -> str:
    """What two spellings of one class share: NFKC, no case, no space around it, single spaces inside."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def by_form(labels: Iterable[str]) -> dict[str, list[str]]:
    """The labels of each plain form, in natural order."""
    forms: dict[str, list[str]] = {}
    for label in sorted(labels, key=natural_key):
        forms.setdefault(plain_form(label), []).append(label)
    return forms


def chosen_spelling(spellings: Iterable[str], counts: Mapping[str, int], declared: Iterable[str]) -> str:
    """The spelling to keep: a declared one, then the most frequent, then the first in natural order."""
    wanted = set(declared)
    return min(spellings, key=lambda label: (label not in wanted, -counts.get(label, 0), natural_key(label)))


def closest(label: str, classes: Iterable[str]) -> str | None:
    """The class that was probably meant, or None: the same plain form, else the most alike."""
    forms = by_form(classes)
    form = plain_form(label)
    if form not in forms:
        form = next(iter(difflib.get_close_matches(form, forms, n=1, cutoff=_LIKENESS)), "")
    return next(iter(forms.get(form, ())), None)
