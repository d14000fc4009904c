"""From labels to classes: which class each label means.

What needs a guess is refused with its place and what was probably meant.
"""

import difflib
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.data.dataset import ReadOptions
from assay.data.files import natural_key
from assay.data.matching import LabelRows
from assay.data.tables import check_decoded, read_lines, shown, some
from assay.errors import LabelError, UsageError
from assay.text import cut
from assay.types import UNKNOWN, Labels

MANY_CLASSES = 5_000
"""More are refused if fewer than two rows have each and no file lists them: they are another column."""

MANY_EQUAL = 30
"""If so many trusted labels all equal the noisy ones, the wrong column is likelier than chance."""

_INTEGER = re.compile(r"0|[1-9][0-9]*")
_SIMILARITY = 0.6
_SHOWN_CLASSES = 10


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, and the class of each label."""

    names: tuple[str, ...]
    """The K labels as they came in, in natural order."""
    titles: tuple[str, ...]
    """K names for people, from a classes file; empty where the labels are names already."""
    noisy: Mapping[str, int]
    """Class index of each noisy label; UNKNOWN of the empty one."""
    trusted: Mapping[str, int]
    """Class index of each trusted label; UNKNOWN of the empty one."""


def decide_classes(
    noisy: LabelRows | None,
    trusted: LabelRows | None,
    options: ReadOptions,
    *,
    least: int = 2,
    apart: Collection[str] = (),
) -> Classes:
    """The classes: the distinct noisy labels, or the trusted ones if there are no noisy labels.

    Parameters
    ----------
    least : how many classes there must be
    apart : labels that are classes each, as those of a classes file are, even if they differ in case alone

    Raises
    ------
    LabelError : two spellings of one class, a trusted label of no class, a label of white space only,
        one that the classes file does not have, fewer classes than there must be
    UsageError : ``class_map`` maps to a name that is no class
    """
    source = noisy or trusted
    if source is None:
        return Classes((), (), {"": UNKNOWN}, {"": UNKNOWN})
    mapped = options.class_map if noisy is None else {}
    counts = Counter(mapped.get(label, label) for label in source.labels)
    titles = _classes_file(options.classes, counts)
    spelled = _one_spelling(counts, (*source.declared, *titles), source, options, apart={*titles, *apart})
    names = {spelled[label] for label in counts} - {""}
    if options.classes is not None:
        for row, label in enumerate(source.labels):
            name = spelled[mapped.get(label, label)]
            if name and name not in titles:
                raise LabelError(
                    f"{source.table.where(row)}: {shown(label)} is not among the {len(titles)} classes of "
                    f"{options.classes.name}{_hint(name, titles)} Correct the label or add its class to the "
                    "file"
                )
    elif not source.declared and least > 1:
        n_labels = sum(map(bool, source.labels))
        if len(names) > MANY_CLASSES and 2 * len(names) > n_labels:
            first, *_, last = sorted(names, key=natural_key)
            raise LabelError(
                f"{source.name}: expected classes that several images share, got {len(names):,} different "
                f"labels in {n_labels:,} rows, such as {shown(first)} and {shown(last)}; if that is another "
                "column, name the label column (--label-col, --trusted-label-col); if they are classes, use "
                "--classes"
            )
    names |= set(spelled.values()) - {""}
    trusted_names = {} if trusted is None else _trusted_names(trusted, source, names, options)
    names |= set(trusted_names.values()) - {""}
    if len(names) < least:
        got = f"only {shown(min(names))}" if names else "no label at all"
        many = "two classes" if least > 1 else "one class"
        raise LabelError(f"{source.name}: expected labels of {many} or more, got {got}")
    ordered = tuple(sorted(names, key=natural_key))
    index = {name: place for place, name in enumerate(ordered)} | {"": UNKNOWN}
    return Classes(
        names=ordered,
        # A class that the trusted labels added is its own title.
        titles=tuple(titles.get(name, name) for name in ordered) if any(titles.values()) else (),
        noisy={label: index[name] for label, name in spelled.items()},
        trusted={label: index[name] for label, name in trusted_names.items()},
    )


def _classes_file(path: Path | None, observed: Collection[str]) -> dict[str, str]:
    """The classes that the file lists, each with its title; no title where the labels are names."""
    if path is None:
        return {}
    lines: dict[str, int] = {}
    for number, line in enumerate((line.rstrip("\r\n") for line in read_lines(path)), start=1):
        where = f"{path.name} line {number}"
        check_decoded(line, where)
        if not line.strip():
            raise LabelError(f"{where}: expected the name of a class, got an empty line")
        if line in lines:
            raise LabelError(f"{where}: {shown(line)} is already in line {lines[line]}")
        lines[line] = number
    numbered = all(_INTEGER.fullmatch(label) for label in observed if label)
    if numbered and not all(_INTEGER.fullmatch(line) for line in lines):
        return {str(place): line for place, line in enumerate(lines)}
    return dict.fromkeys(lines, "")


def _one_spelling(
    counts: Mapping[str, int],
    declared: Collection[str],
    source: LabelRows,
    options: ReadOptions,
    *,
    apart: Collection[str] = (),
) -> dict[str, str]:
    """The class name of every label; several spellings of one name are merged only on request."""
    spelled: dict[str, str] = {"": ""}
    for form, spellings in by_form({*counts, *declared} - {""}).items():
        # Listed side by side by a person, such as letters that differ in case alone.
        if len(spellings) > 1 and {*spellings} <= {*apart} & {*counts}:
            spelled |= {label: label for label in spellings}
            continue
        # A declared spelling is kept, then the most frequent, then the first in natural order.
        ranked = sorted(spellings, key=lambda label: (label not in declared, -counts.get(label, 0)))
        keep = ranked[0] if form else ""
        if not options.normalize_labels and (len(spellings) > 1 or not form):
            where = _first_place(source, next(label for label in spellings if label != keep))
            if not form:
                raise LabelError(
                    f"{where}: the label {shown(spellings[0])} is only white space; leave it empty"
                )
            both = " and ".join(map(shown, spellings[:3]))
            raise LabelError(
                f"{where}: {both} differ only in case, spaces or Unicode form; write {shown(keep)} "
                "everywhere, pass --normalize-labels, or list them in --classes if they are two classes"
            )
        spelled |= dict.fromkeys(spellings, keep)
    return spelled


def _trusted_names(
    trusted: LabelRows, source: LabelRows, names: Collection[str], options: ReadOptions
) -> dict[str, str]:
    """The class name of each trusted label, which must be one of ``names`` unless new ones are allowed."""
    for label, name in options.class_map.items():
        if name and name not in names and not options.allow_new_classes:
            raise UsageError(
                f"--class-map {cut(label)}={cut(name)}: {shown(name)} is not a class{_hint(name, names)} "
                "The right side must be one of the classes"
            )
    forms = by_form(names)
    meaning: dict[str, str] = {"": ""}
    unknown: list[str] = []
    for label in dict.fromkeys(trusted.labels):
        name = options.class_map.get(label, label)
        form = plain_form(name)
        if options.normalize_labels and name not in names:
            name = forms.get(form, [name if form else ""])[0]
        # Another spelling of a class is never a new class.
        if name and name not in names and (form in forms or not options.allow_new_classes):
            unknown.append(label)
        meaning[label] = name
    if unknown:
        label = unknown[0]
        name = options.class_map.get(label, label)
        near = closest(name, names)
        mapping = shlex.quote(f"{cut(label)}={cut(near or 'CLASS')}")
        advice = f"--class-map {mapping}, or --allow-new-classes"
        if near is not None and plain_form(near) == plain_form(name):
            advice = "--normalize-labels: the two differ only in case, spaces or Unicode form"
        more = f" ({len(unknown):,} labels are no class)" if len(unknown) > 1 else ""
        raise LabelError(
            f"{_first_place(trusted, label)}: {shown(label)} is not a class of {source.name}"
            f"{_hint(name, names)} Correct it, pass {advice}{more}"
        )
    new = set(meaning.values()) - set(names) - {""}
    merged = _one_spelling(Counter(new), (), trusted, options)
    return {label: merged.get(name, name) for label, name in meaning.items()}


def plain_form(label: str) -> str:
    """The common form of all spellings of a class: NFKC, no case, single spaces and none around it."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())  # folding may undo the normal form


def by_form(labels: Iterable[str]) -> dict[str, list[str]]:
    """The labels of each plain form, in natural order."""
    forms: dict[str, list[str]] = {}
    for label in sorted(labels, key=natural_key):
        forms.setdefault(plain_form(label), []).append(label)
    return forms


def closest(label: str, classes: Iterable[str]) -> str | None:
    """The class that was probably meant, or None: the same plain form, else the most similar."""
    forms = by_form(classes)
    form = plain_form(label)
    if form not in forms:
        form = next(iter(difflib.get_close_matches(form, forms, n=1, cutoff=_SIMILARITY)), "")
    return next(iter(forms.get(form, ())), None)


def _hint(label: str, names: Iterable[str]) -> str:
    near = closest(label, names)
    return "." if near is None else f"; did you mean {shown(near)}?"


def _first_place(rows: LabelRows, label: str) -> str:
    # A declared class stands in no row.
    return rows.table.where(rows.labels.index(label)) if label in rows.labels else rows.name


def label_warnings(names: Sequence[str], noisy: Labels, trusted: Labels) -> tuple[str, ...]:
    """Notes on labels that are valid but few, which limits what can be learned from them."""
    notes: list[str] = []
    n_trusted = np.bincount(trusted[trusted != UNKNOWN], minlength=len(names))
    without = [name for name, n in zip(names, n_trusted, strict=True) if n == 0]
    if n_trusted.any() and without:  # without any trusted label there is nothing to say of a class
        notes.append(f"classes without a trusted label: {some(without, _SHOWN_CLASSES)}")
    n_noisy = np.bincount(noisy[noisy != UNKNOWN], minlength=len(names))
    if single := [name for name, n in zip(names, n_noisy, strict=True) if n == 1]:
        notes.append(f"classes with only one noisy label: {some(single, _SHOWN_CLASSES)}")
    both = (noisy != UNKNOWN) & (trusted != UNKNOWN)
    equal = noisy[both] == trusted[both]
    if both.any() and not equal.any():
        notes.append(f"warning: none of {both.sum():,} noisy labels equals its trusted label")
    if both.sum() >= MANY_EQUAL and equal.all():
        notes.append(
            f"all {both.sum():,} trusted labels equal the noisy ones; if that cannot be, name the column "
            "of checked labels with --trusted-label-col"
        )
    return tuple(notes)
