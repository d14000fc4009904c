"""From labels to classes: which class each label means.

What needs a guess is refused with its place and what was probably meant.
"""

import difflib
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

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

COMMON = 5
"""A label that occurs once is questioned if it differs by one letter from a class with so many labels."""

MISSING = frozenset(("nan", "<na>", "na", "n/a", "#n/a", "nat", "none", "null", "-1", "?"))
"""Plain forms of labels that programs write where there is none; refused unless declared as classes."""

_INTEGER = re.compile(r"(0|[1-9][0-9]*)(\.0)?")  # with gaps, pandas writes 3.0
_SIMILARITY = 0.6
_SHOWN_CLASSES = 10
_SHOWN_EXAMPLES = 3


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
    LabelError : two spellings of one class, a label that stands for a missing one or is probably misspelled,
        a trusted label of no class, one that the classes file does not have, fewer classes than there must be
    UsageError : ``class_map`` maps to a name that is no class
    """
    given = [rows for rows in (noisy, trusted) if rows is not None]
    if not given:
        return Classes((), (), {"": UNKNOWN}, {"": UNKNOWN})
    titles, other = _listed(given, options.classes)
    _check_class_map(options, {*given[0].labels, *given[0].declared, *titles, *other})
    read: dict[str, str] = {}
    for label in {label for rows in given for label in rows.labels}:
        name = options.class_map.get(label, label)
        read[label] = name if name in titles else other.get(name, name)
    tables = [replace(rows, labels=tuple(map(read.__getitem__, rows.labels))) for rows in given]
    source = tables[0]
    sure = {*source.declared, *titles, *other, *apart, *options.class_map.values()}
    for rows in tables:
        _check_missing(rows, sure)
    prefer = Counter(tables[1].labels) if len(tables) > 1 else {}
    counts, apart = Counter(source.labels), {*titles, *apart}
    spelled = _one_spelling(counts, source, options, titles=titles, prefer=prefer, apart=apart)
    names = set(spelled.values()) - {""}
    if options.classes is not None:
        _check_listed(source, spelled, titles, options.classes)
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
    meanings = [(source, spelled)]
    if trusted is not None:
        meanings.append((tables[-1], _trusted_names(tables[-1], source, names, other, options)))
        names |= set(meanings[-1][1].values()) - {""}
    _check_spelling(meanings, sure)
    if len(names) < least:
        got = f"only {shown(min(names))}" if names else "no label at all"
        many = "two classes" if least > 1 else "one class"
        raise LabelError(f"{source.name}: expected labels of {many} or more, got {got}")
    ordered = tuple(sorted(names, key=natural_key))
    index = {name: place for place, name in enumerate(ordered)} | {"": UNKNOWN}

    def indices(rows: LabelRows | None, meaning: Mapping[str, str]) -> dict[str, int]:
        labels = () if rows is None else rows.labels
        return {label: index[meaning[read[label]]] for label in labels} | {"": UNKNOWN}

    return Classes(
        names=ordered,
        # A class that the trusted labels added is its own title.
        titles=tuple(titles.get(name, name) for name in ordered) if any(titles.values()) else (),
        noisy=indices(noisy, spelled),
        trusted=indices(trusted, meanings[-1][1]),
    )


def _listed(
    given: Sequence[LabelRows], classes: Path | Sequence[str] | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The classes that a list or a data set names, and what else a label may call them.

    Returns
    -------
    Each class with its title, which is empty where the labels are names; another name -> the class: the
    title, or the place in the list, from 0.
    """
    lines: Sequence[str] = next((rows.class_names for rows in given if rows.class_names), ())
    if classes is not None:
        lines = _read_names(classes) if isinstance(classes, Path) else classes
    if all(map(_INTEGER.fullmatch, lines)):
        return dict.fromkeys(lines, ""), {}
    places = {str(place): line for place, line in enumerate(lines)}
    labels = {label for rows in given for label in rows.labels}
    if classes is None:  # the names of a data set, of which these images may have few
        places = {place: line for place, line in places.items() if {place, line} & labels}
    observed = (label for label in given[0].labels if label and plain_form(label) not in MISSING)
    if all(map(_INTEGER.fullmatch, observed)):
        return places, {other: place for place, line in places.items() for other in (line, f"{place}.0")}
    return dict.fromkeys(places.values(), ""), places


def _read_names(path: Path) -> list[str]:
    lines: dict[str, int] = {}
    for number, line in enumerate((line.rstrip("\r\n") for line in read_lines(path)), start=1):
        where = f"{path.name} line {number}"
        check_decoded(line, where)
        if not line.strip():
            raise LabelError(f"{where}: expected the name of a class, got an empty line")
        if line in lines:
            raise LabelError(f"{where}: {shown(line)} is already in line {lines[line]}")
        lines[line] = number
    return [*lines]


def _check_class_map(options: ReadOptions, known: Collection[str]) -> None:
    for label, name in options.class_map.items():
        if name and name not in known and not options.allow_new_classes:
            raise UsageError(
                f"--class-map {cut(label)}={cut(name)}: {shown(name)} is not a class{_hint(name, known)} "
                "The right side must be one of the classes"
            )


def _check_missing(rows: LabelRows, sure: Collection[str]) -> None:
    """LabelError for a label such as NaN that nobody said is a class."""
    for label, n in Counter(rows.labels).items():
        if label not in sure and plain_form(label) in MISSING:
            many = f" ({n:,} rows)" if n > 1 else ""
            raise LabelError(
                f"{_first_place(rows, label)}: the label {shown(label)}{many} usually stands for a missing "
                f"one. Leave the cell empty, or pass {_flag(label, '')}; if it is a class, pass "
                f"{_flag(label, label)}"
            )


def _check_spelling(meanings: Sequence[tuple[LabelRows, Mapping[str, str]]], sure: Collection[str]) -> None:
    """LabelError for a label that occurs once and is a common class but for one letter."""
    counts: dict[str, int] = {}
    for rows, meaning in meanings:
        for name, n in Counter(meaning[label] for label in rows.labels if label).items():
            counts[name] = max(n, counts.get(name, 0))
    common = {form: name for name, n in counts.items() if n >= COMMON for form in _with_a_slip(name)}
    single = [name for name, n in counts.items() if n == 1 and name not in sure]
    near = {name: common[form] for name in single for form in _with_a_slip(name) if form in common}
    if not near:
        return
    for rows, meaning in meanings:
        for row, label in enumerate(rows.labels):
            if (name := meaning[label]) in near:
                meant = near[name]
                many = f" ({len(near):,} labels look misspelled)" if len(near) > 1 else ""
                raise LabelError(
                    f"{rows.table.where(row)}: the label {shown(label)} occurs once; did you mean "
                    f"{shown(meant)} ({counts[meant]:,} labels)? Correct it, or pass {_flag(label, meant)}; "
                    f"if it is a class, pass {_flag(label, label)}, or list all classes in --classes{many}"
                )


def _with_a_slip(label: str) -> list[str]:
    """The plain form, and that without any one letter: slips of one letter have one of these in common."""
    form = plain_form(label)
    # Class 10 is not class 1, nor grade A grade B: digits and short words stay.
    spans = (word.span() for word in re.finditer(r"[^\W\d_]{4,}|[\W_]", form))
    return [form, *(form[:at] + form[at + 1 :] for span in spans for at in range(*span))]


def _check_listed(
    source: LabelRows,
    spelled: Mapping[str, str],
    titles: Mapping[str, str],
    classes: Path | Sequence[str],
) -> None:
    """LabelError for a label that is not among the listed classes."""
    for row, label in enumerate(source.labels):
        if (name := spelled[label]) and name not in titles:
            where = classes.name if isinstance(classes, Path) else "the list"
            numbers = " (the first is class 0)" if any(titles.values()) else ""
            raise LabelError(
                f"{source.table.where(row)}: {shown(label)} is not among the {len(titles)} classes of "
                f"{where}{numbers}{_hint(name, titles)} Correct the label, or add its class there"
            )


def _one_spelling(
    counts: Mapping[str, int],
    rows: LabelRows,
    options: ReadOptions,
    *,
    titles: Collection[str] = (),
    prefer: Mapping[str, int] = MappingProxyType({}),
    apart: Collection[str] = (),
) -> dict[str, str]:
    """The class name of every label; several spellings of one name are merged only on request.

    Parameters
    ----------
    titles : spellings that are right
    prefer : how often another table has a spelling, which then counts before these rows
    """
    labels = {*counts, *rows.declared, *titles} - {""}
    if options.normalize_labels:
        forms = set(map(plain_form, labels))
        labels |= {label for label in prefer if label and plain_form(label) in forms}
    spelled: dict[str, str] = {"": ""}
    for form, spellings in by_form(labels).items():
        # Listed side by side by a person, such as letters that differ in case alone.
        if len(spellings) > 1 and {*spellings} <= {*apart} & {*counts}:
            spelled |= {label: label for label in spellings}
            continue
        # What a person listed, checked or sorted is kept, then the most frequent, then the natural order.
        ranked = sorted(
            spellings,
            key=lambda one: (
                one not in titles,
                -prefer.get(one, 0),
                one not in rows.declared,
                -counts.get(one, 0),
            ),
        )
        keep = ranked[0] if form else ""
        if not options.normalize_labels and (len(spellings) > 1 or not form):
            where = _first_place(rows, next(label for label in spellings if label != keep))
            if not form:
                raise LabelError(
                    f"{where}: the label {shown(spellings[0])} is only white space; leave it empty"
                )
            both = " and ".join(map(shown, spellings[:3]))
            raise LabelError(
                f"{where}: {both} differ only in case, spaces or Unicode form; write {shown(keep)} "
                "everywhere, pass --normalize-labels, or list them in --classes if they are two classes"
            )
        if options.normalize_labels and keep not in {*titles, *rows.declared}:
            keep = " ".join(keep.split())
        spelled |= dict.fromkeys(spellings, keep)
    return spelled


def _trusted_names(
    trusted: LabelRows,
    source: LabelRows,
    names: Collection[str],
    other: Mapping[str, str],
    options: ReadOptions,
) -> dict[str, str]:
    """The class name of each trusted label, which must be one of ``names`` unless new ones are allowed.

    Parameters
    ----------
    other : further names of the classes
    """
    forms = by_form([*names, *other])
    meaning: dict[str, str] = {"": ""}
    unknown: list[str] = []
    for label in dict.fromkeys(trusted.labels):
        name, form = label, plain_form(label)
        if options.normalize_labels and not {name} & {*names, *other}:
            name = forms.get(form, [name if form else ""])[0]
        name = name if name in names else other.get(name, name)
        # Another spelling of a class is never a new class.
        if name and name not in names and (form in forms or not options.allow_new_classes):
            unknown.append(label)
        meaning[label] = name
    if unknown:
        raise LabelError(_unknown_labels(unknown, trusted, source, [*names, *other]))
    new = Counter(set(meaning.values()) - set(names) - {""})
    merged = _one_spelling(new, trusted, options)
    return {label: merged.get(name, name) for label, name in meaning.items()}


def _unknown_labels(
    unknown: Sequence[str], trusted: LabelRows, source: LabelRows, known: Sequence[str]
) -> str:
    """What to do about trusted labels that are no class."""
    near = {label: closest(label, known) for label in unknown}
    if len(unknown) > 1 and len(unknown) == len({*trusted.labels} - {""}) and not any(near.values()):
        kinds = {all(map(_INTEGER.fullmatch, labels)) for labels in (unknown, known)}
        advice = "is one of the two another column? Name it with --label-col or --trusted-label-col"
        if len(kinds) > 1:
            advice = "if the integers stand for the names, list the names, from 0, in --classes FILE"
        return (
            f"{trusted.name}: none of its labels ({some(unknown, _SHOWN_EXAMPLES)}) is a class of "
            f"{source.name} ({some(sorted(known, key=natural_key), _SHOWN_EXAMPLES)}); {advice}"
        )
    label = unknown[0]
    advice = f"pass {_flag(label, near[label] or 'CLASS')}, or --allow-new-classes"
    if near[label] is not None and plain_form(near[label] or "") == plain_form(label):
        advice = "or pass --normalize-labels, as the two differ only in case, spaces or Unicode form"
    more = f" ({len(unknown):,} labels are no class)" if len(unknown) > 1 else ""
    return (
        f"{_first_place(trusted, label)}: {shown(label)} is not a class of {source.name}"
        f"{_hint(label, known)} Correct it, {advice}{more}"
    )


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
        form = form.removesuffix(".0")  # an integer that was a float on its way
    if form not in forms:
        form = next(iter(difflib.get_close_matches(form, forms, n=1, cutoff=_SIMILARITY)), "")
    return next(iter(forms.get(form, ())), None)


def _hint(label: str, names: Iterable[str]) -> str:
    near = closest(label, names)
    return "." if near is None else f"; did you mean {shown(near)}?"


def _flag(label: str, name: str) -> str:
    pair = shlex.quote(f"{cut(label)}={cut(name)}")
    return f"--class-map{'=' if pair.startswith('-') else ' '}{pair}"


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
