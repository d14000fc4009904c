"""From labels as they were written to classes and their indices.

The classes are the distinct noisy labels. A label that looks like a slip, such as a trusted one that no
noisy one equals or two spellings of one class, is refused with what was probably meant.
"""

import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from assay.data.dataset import ReadOptions
from assay.data.label_files import LabelFile
from assay.data.paths import natural_key
from assay.data.spelling import by_form, chosen_spelling, closest, plain_form
from assay.data.tables import check_decoded, read_lines, shown, some
from assay.errors import LabelError, UsageError
from assay.types import UNKNOWN

_INTEGER = re.compile(r"0|[1-9][0-9]*")
_SHOWN_CLASSES = 10

MANY_EQUAL = 30
"""Trusted labels that all equal the given ones: more rarely so by chance than by the wrong column."""


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, and which one each label means."""

    names: tuple[str, ...]
    """The K labels as they came in, in natural order."""
    titles: tuple[str, ...]
    """K names for people, from a classes file; empty where the labels are names already."""
    noisy: Mapping[str, int]
    """Class index of each noisy label; UNKNOWN of the empty one."""
    trusted: Mapping[str, int]
    """Class index of each trusted label; UNKNOWN of the empty one."""


def decide_classes(
    noisy: LabelFile | None,
    trusted: LabelFile | None,
    options: ReadOptions,
    *,
    declared: Sequence[str] = (),
    least: int = 2,
    apart: Collection[str] = (),
) -> Classes:
    """The classes that the labels speak of: the distinct noisy ones, or trusted ones if there are no noisy.

    Parameters
    ----------
    declared : classes that may have no image, such as empty class folders; a classes file adds its own
    least : how many classes there must be
    apart : labels that are classes each, as those of a classes file are, even if they differ in case alone

    Raises
    ------
    LabelError : two spellings of one class, a trusted label of no class, a label of white space only,
        one that the classes file does not have, fewer classes than there must be
    UsageError : ``class_map`` leads to what is no class
    """
    source = noisy or trusted
    if source is None:
        return Classes((), (), {"": UNKNOWN}, {"": UNKNOWN})
    meant = options.class_map if noisy is None else {}
    counts = Counter(meant.get(label, label) for label in source.labels)
    titles = _classes_file(options.classes, counts)
    spelled = _one_spelling(counts, (*declared, *titles), source, options, apart={*titles, *apart})
    if options.classes is not None:
        _check_listed(source, meant, spelled, titles, options.classes.name)
    elif not declared and least > 1:
        _check_shared(source, {spelled[label] for label in counts} - {""})
    names = set(spelled.values()) - {""}
    trusted_names = {} if trusted is None else _trusted_names(trusted, source, names, options)
    names |= set(trusted_names.values()) - {""}
    ordered = _enough(sorted(names, key=natural_key), source, least)
    index = {name: place for place, name in enumerate(ordered)} | {"": UNKNOWN}
    return Classes(
        names=ordered,
        titles=tuple(titles.get(name, name) for name in ordered) if any(titles.values()) else (),
        noisy={label: index[name] for label, name in spelled.items()},
        trusted={label: index[name] for label, name in trusted_names.items()},
    )


MANY_CLASSES = 5_000
"""More than these are refused where they have fewer than two rows each, and nobody has listed them."""


def image_warnings(
    names: Sequence[str], noisy: Int[np.ndarray, "N"], trusted: Int[np.ndarray, "N"]
) -> tuple[str, ...]:
    """Notes on labels that are right in form but few: what can be learned from them is limited."""
    notes: list[str] = []
    seen = np.bincount(trusted[trusted != UNKNOWN], minlength=len(names))
    if seen.any() and not seen.all():
        notes.append(f"no trusted label is {_some(np.flatnonzero(seen == 0), names)}")
    lone = np.bincount(noisy[noisy != UNKNOWN], minlength=len(names)) == 1
    if lone.any():
        notes.append(f"only one image is given as {_some(np.flatnonzero(lone), names)}")
    both = (noisy != UNKNOWN) & (trusted != UNKNOWN)
    if both.any() and not (noisy[both] == trusted[both]).any():
        notes.append(f"warning: none of {both.sum():,} given labels equals its trusted one")
    if both.sum() >= MANY_EQUAL and (noisy[both] == trusted[both]).all():
        notes.append(
            f"all {both.sum():,} trusted labels equal the given ones; if that cannot be, name the column "
            "with what was found on checking: --trusted-label-col"
        )
    return tuple(notes)


def _classes_file(path: Path | None, observed: Collection[str]) -> dict[str, str]:
    """The classes that the file declares, each with its title; no title where the labels are names."""
    if path is None:
        return {}
    lines: dict[str, int] = {}
    for number, line in enumerate((line.rstrip("\r\n") for line in read_lines(path)), start=1):
        where = f"{path.name} line {number}"
        check_decoded(line, where)
        if not line.strip():
            raise LabelError(f"{where}: expected the name of a class, got an empty line")
        if line in lines:
            raise LabelError(f"{where}: {shown(line)} is named in line {lines[line]} already")
        lines[line] = number
    numbered = all(_INTEGER.fullmatch(label) for label in observed if label)
    if numbered and not all(_INTEGER.fullmatch(line) for line in lines):
        return {str(place): line for place, line in enumerate(lines)}
    return dict.fromkeys(lines, "")


def _one_spelling(
    counts: Mapping[str, int],
    declared: Collection[str],
    source: LabelFile,
    options: ReadOptions,
    *,
    apart: Collection[str] = (),
) -> dict[str, str]:
    """The class name of every label; several spellings of one name are merged only when asked.

    Parameters
    ----------
    apart : names that a person wrote down side by side: letters, say, that differ in case alone, and both
        occur
    """
    spelled: dict[str, str] = {"": ""}
    for form, spellings in by_form({*counts, *declared} - {""}).items():
        if len(spellings) > 1 and {*spellings} <= {*apart} & {*counts}:
            spelled |= {label: label for label in spellings}
            continue
        keep = chosen_spelling(spellings, counts, declared) if form else ""
        if not options.normalize_labels and (len(spellings) > 1 or not form):
            raise LabelError(_unclear(source, spellings, keep))
        spelled |= dict.fromkeys(spellings, keep)
    return spelled


def _unclear(source: LabelFile, spellings: Sequence[str], keep: str) -> str:
    where = _first_place(source, next(label for label in spellings if label != keep))
    if not keep:
        return (
            f"{where}: the label {shown(spellings[0])} is only white space; leave it empty if it is missing"
        )
    both = " and ".join(shown(label) for label in spellings[:3])
    return (
        f"{where}: {both} differ only in case, spaces or Unicode form; "
        f"write {shown(keep)} everywhere, or pass --normalize-labels; two classes stand apart in --classes"
    )


def _check_listed(
    file: LabelFile,
    meant: Mapping[str, str],
    spelled: Mapping[str, str],
    listed: Collection[str],
    classes_file: str,
) -> None:
    for row, label in enumerate(file.labels):
        name = spelled[meant.get(label, label)]
        if name and name not in listed:
            raise LabelError(
                f"{file.where(row)}: {shown(label)} is not among the {len(listed)} classes of "
                f"{classes_file}{_hint(name, listed)} Correct the label or add its class to the file"
            )


def _trusted_names(
    trusted: LabelFile, source: LabelFile, names: Collection[str], options: ReadOptions
) -> dict[str, str]:
    """The class name of each trusted label, which must be one of ``names`` unless new ones are allowed."""
    _check_map(options, names)
    forms = by_form(names)
    meaning: dict[str, str] = {"": ""}
    unknown: list[str] = []
    for label in dict.fromkeys(trusted.labels):
        name = options.class_map.get(label, label)
        same = next(iter(by_form([name])), "")
        if options.normalize_labels and name not in names:
            name = forms.get(same, [name if same else ""])[0]
        if name and name not in names and (same in forms or not options.allow_new_classes):
            unknown.append(label)
        meaning[label] = name
    if unknown:
        raise LabelError(_not_a_class(trusted, source, unknown, names, options))
    new = set(meaning.values()) - set(names) - {""}
    merged = _one_spelling(Counter(new), (), trusted, options)
    return {label: merged.get(name, name) for label, name in meaning.items()}


def _check_map(options: ReadOptions, names: Collection[str]) -> None:
    for label, name in options.class_map.items():
        if name and name not in names and not options.allow_new_classes:
            raise UsageError(
                f"--class-map {label}={name}: {shown(name)} is not a class{_hint(name, names)} "
                "The right side must be one of the classes"
            )


def _not_a_class(
    trusted: LabelFile,
    source: LabelFile,
    unknown: Sequence[str],
    names: Collection[str],
    options: ReadOptions,
) -> str:
    label = unknown[0]
    name = options.class_map.get(label, label)
    near = closest(name, names)
    mapped = shlex.quote(f"{label[:60]}={near or 'CLASS'}")
    advice = f"--class-map {mapped}, or --allow-new-classes"
    if near is not None and plain_form(near) == plain_form(name):
        advice = "--normalize-labels: the two differ only in case, spaces or Unicode form"
    more = f" ({len(unknown):,} labels are no class)" if len(unknown) > 1 else ""
    return (
        f"{_first_place(trusted, label)}: {shown(label)} is not a class of {source.path.name}"
        f"{_hint(name, names)} Correct it, pass {advice}{more}"
    )


def _hint(label: str, names: Iterable[str]) -> str:
    near = closest(label, names)
    return "." if near is None else f"; did you mean {shown(near)}?"


def _enough(names: Sequence[str], source: LabelFile, least: int) -> tuple[str, ...]:
    if len(names) < least:
        got = f"only {shown(names[0])}" if names else "no label at all"
        many = "two classes" if least > 1 else "one class"
        raise LabelError(f"{source.path.name}: expected labels of {many} or more, got {got}")
    return tuple(names)


def _check_shared(source: LabelFile, found: Collection[str]) -> None:
    labelled = sum(map(bool, source.labels))
    if len(found) > MANY_CLASSES and 2 * len(found) > labelled:
        first, *_, last = sorted(found, key=natural_key)
        raise LabelError(
            f"{source.path.name}: expected classes that images share, got {len(found):,} different labels in "
            f"{labelled:,} rows, such as {shown(first)} and {shown(last)}; if that is another column, name "
            "that of the labels (--label-col, --trusted-label-col); if they are classes, list them: --classes"
        )


def _first_place(file: LabelFile, label: str) -> str:
    return file.where(file.labels.index(label)) if label in file.labels else file.path.name


def _some(places: Int[np.ndarray, "_"], names: Sequence[str]) -> str:
    return some([names[place] for place in places], _SHOWN_CLASSES)
