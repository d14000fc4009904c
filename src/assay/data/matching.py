"""From the rows of label tables to images: which image each row is of, and the label that each image has.

What needs a guess is refused with its place and what was probably meant. A row whose image cannot be found
stays a row with its reason.
"""

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Listing, ReadOptions, Skipped, missing_reason
from assay.data.files import IMAGE_EXTENSIONS, check_entry, extension
from assay.data.place import Place, Url
from assay.data.tables import Table, check_decoded, shown
from assay.data.vectors import Vectors
from assay.errors import DataError, LabelError, UsageError
from assay.types import UNKNOWN, Groups, Labels

Key = int | str
"""Identifies a row: the index of its image in the listing, or the path that names no image."""

_ARCHIVE_ENDING = re.compile(r"\.(zip|tar|t[gbx]z|tar\.\w+)\Z", re.IGNORECASE)
_SHOWN_PAIRS = 3


@dataclass(frozen=True)
class LabelRows:
    """The labels of a table, byte for byte, each with its image once they are matched."""

    table: Table
    labels: tuple[str, ...]
    """The empty string where the label is missing."""
    entries: tuple[str, ...] | None = None
    """The image of each row as the table names it; None if rows follow the order of the images."""
    images: tuple[int | None, ...] | None = None
    """Index of each row's image in the listing, None where it was not found; None before they are matched."""
    skipped: Mapping[int, Skipped] = field(default_factory=dict)
    """Why a row has no image: ``bad_path`` or ``missing_image``."""
    notes: tuple[str, ...] = ()
    """Lines for the user: the pairs that were assumed, names that are nearly right."""
    declared: tuple[str, ...] = ()
    """Classes that may have no image, such as empty class folders."""
    class_names: tuple[str, ...] = ()
    """Names of the labels 0, 1, …, where the table has them."""
    annotators: tuple[str, ...] | None = None
    """Who gave each label, "" where nobody is named; None if an image has one label."""
    groups: tuple[str, ...] | None = None
    """The group of each row; the empty string where it is missing. None without a column of groups."""

    @property
    def name(self) -> str:
        """The name of the file, for messages."""
        return self.table.path.name

    @property
    def keys(self) -> list[Key]:
        """What identifies each matched row; two rows with one key are of one image."""
        entries = self.entries or ()
        return [entries[row] if image is None else image for row, image in enumerate(self.images or ())]


def match_rows(
    rows: LabelRows, listing: Listing, images: Place, options: ReadOptions, *, complete: bool
) -> LabelRows:
    """The same rows with their images.

    Parameters
    ----------
    complete : rows without paths must be as many as the images; otherwise they belong to the first images

    Raises
    ------
    DataError : another number of rows than images; no path names an image; ``ambiguous_name``: a path that
        may be two images, or two paths that are one image by file name alone
    TableError : a path that is not UTF-8 and that no image has
    """
    if rows.images is not None:
        return rows
    if rows.entries is None:
        return _match_by_order(rows, listing, images, complete=complete)
    return _match_by_path(rows, rows.entries, listing, images, options)


def _match_by_order(rows: LabelRows, listing: Listing, images: Place, *, complete: bool) -> LabelRows:
    n, expected = len(rows.labels), len(listing.names)
    while n > expected and not rows.labels[n - 1]:  # an editor's empty last line is no label
        n -= 1
    if n > expected or (complete and n < expected):
        limit = "" if complete else "at most "
        if isinstance(listing.source, Vectors):
            raise DataError(
                f"{rows.name}: expected {limit}{expected:,} labels, one for each row of {images.name}, got "
                f"{n:,}; without names, label i belongs to row i. Correct one of the two files (an empty "
                "line is an unknown label)"
            )
        raise DataError(
            f"{rows.name}: expected {limit}{expected:,} labels, one for each image of {images.name}, "
            f"got {n:,}; without names, label i belongs to the i-th image in natural order (2.png "
            f"before 10.png; here {', '.join(map(shown, listing.names[:3]))}). "
            "Correct the file (an empty line is an unknown label), or give it a header 'path,label' and names"
        )
    note = f"{rows.name} has no labels"
    if n:
        # Both ends: a line too many or too few is seen by whoever knows the images.
        ends = sorted({*range(n)[:_SHOWN_PAIRS], *range(n)[-_SHOWN_PAIRS:]})
        pairs = [f"{_plain(listing.names[row])} → {_plain(rows.labels[row]) or '(none)'}" for row in ends]
        if n > len(ends):
            pairs.insert(_SHOWN_PAIRS, "…")
        note = f"{rows.name}: {n:,} labels by order of names: {', '.join(pairs)}"
    return replace(rows, images=tuple(range(n)), notes=(*rows.notes, note))


def check_one_each(rows: LabelRows, n: int, vectors: Path) -> None:
    """DataError unless each of the ``n`` rows of ``vectors`` has one line, with a name of its own."""
    entries = rows.entries or ()
    if rows.annotators is not None:
        raise DataError(
            f"{vectors.name}: expected features with names, as {rows.name} has several lines for one row; "
            "write them as Parquet with a column 'file'"
        )
    if len(entries) != n:
        raise DataError(
            f"{rows.name}: expected {n:,} lines, one for each row of {vectors.name}, got {len(entries):,}; "
            "line i belongs to row i, the header not counted"
        )
    row_of: dict[str, int] = {}
    for row, entry in enumerate(entries):
        if (first := row_of.setdefault(entry, row)) != row:
            raise DataError(
                f"{rows.table.where(row)}: expected a name of its own, got {shown(entry)} as in "
                f"{rows.table.unit} {rows.table.line_numbers[first]}; each is one row of {vectors.name}"
            )


def _match_by_path(
    rows: LabelRows, entries: Sequence[str], listing: Listing, images: Place, options: ReadOptions
) -> LabelRows:
    finder = ImageFinder(
        listing.names, images, rows.table.path, match=options.match, strip_prefix=options.strip_prefix
    )
    notes = list(rows.notes)
    find = cache(finder.find)  # a table of several annotators names each image several times
    found = [find(entry) for entry in entries]
    if found and all(image is None for image, _ in found):
        prefix = _foreign_prefix(finder, rows, entries, listing, images)
        finder = ImageFinder(listing.names, images, rows.table.path, strip_prefix=prefix)
        found = [finder.find(entry) for entry in entries]
        first = next(image for image, _ in found if image is not None)
        notes.append(
            f"{rows.name}: all paths begin with {_plain(prefix)}, which is not here and was left out: "
            f"{_plain(entries[0])} → {_plain(listing.names[first])}"
        )
    skipped, missing = dict[int, Skipped](), list[str]()
    for row, (entry, (image, _)) in enumerate(zip(entries, found, strict=True)):
        if image is None:
            # A name of any bytes may exist on disk; one that does not is Latin-1 text far more often.
            if (bad := finder.check(entry)) is None:
                check_decoded(entry, where := rows.table.where(row))
                bad = Skipped(
                    missing_reason(listing.source), f"{where} names {shown(entry)}, which does not exist"
                )
            missing.append(entry)
            skipped[row] = bad
    if near := [(entry, one[0]) for entry in missing if len(one := finder.named(entry)) == 1]:
        entry, image = near[0]
        notes.append(
            f"warning: {rows.name}: paths that name no image, but would by file name alone (--match name): "
            f"{len(near):,}, such as {shown(entry)} for {shown(listing.names[image])}"
        )
    if skipped:
        notes.append(f"{rows.name}: rows without an image: {len(skipped):,}, such as {shown(missing[0])}")
    if normalised := sum(how == "form" for _, how in found):
        notes.append(f"{rows.name}: names in another Unicode form than the images': {normalised:,}")
    if by_name := [row for row, (_, how) in enumerate(found) if how == "name"]:
        _check_one_path_each(rows, entries, found)
        entry, image = entries[by_name[0]], found[by_name[0]][0] or 0
        notes.append(
            f"{rows.name}: rows matched by file name: {len(by_name):,}, such as {_plain(entry)} → "
            f"{_plain(listing.names[image])}"
        )
    return replace(rows, images=tuple(image for image, _ in found), skipped=skipped, notes=tuple(notes))


def _foreign_prefix(
    finder: "ImageFinder", rows: LabelRows, entries: Sequence[str], listing: Listing, images: Place
) -> str:
    """What all paths begin with and that lies on another machine; the rest of each names an image.

    Raises
    ------
    DataError : there is none, or more than one; the message has the flag that helps, if any
    """
    ends, each = finder.ends(entries), frozenset(entries)
    whole = [prefix for prefix, n in ends.items() if n == len(each)]
    # A path to something that is here means that file, and not one of these images.
    if len(whole) == 1 and all(map(finder.check, each)) and not _is_here(rows.table.path, entries[0]):
        return whole[0]
    n_named = sum(len(finder.named(entry)) == 1 for entry in each)
    prefix, n = max(ends.items(), key=lambda item: item[1], default=("", 0))
    advice = "; write the paths relative to the label file or to the images"
    if n and n >= n_named:
        flags = " or ".join(f"--strip-prefix {shlex.quote(one)}" for one in whole or [prefix])
        advice = f". With {flags}, {n:,} of {len(each):,} do"
    elif n_named:
        advice = f". With --match name, which compares file names alone, {n_named:,} of {len(each):,} do"
    kind = "a row" if isinstance(listing.source, Vectors) else "an image"
    raise DataError(
        f"{rows.name}: none of its {len(entries):,} paths names {kind} of {images.name}: the first is "
        f"{shown(entries[0])}, {kind} is called {shown(listing.names[0])}{advice}"
    )


def _is_here(table: Path, entry: str) -> bool:
    # Not of \\host\share: to look there may send a password.
    return not re.match(r"[\\/]{2}", entry) and os.path.lexists(table.parent / entry)


def _check_one_path_each(
    rows: LabelRows, entries: Sequence[str], found: Sequence[tuple[int | None, str]]
) -> None:
    """DataError for an image that two different paths are, of which one has only its file name."""
    first: dict[int, int] = {}
    for row, (image, how) in enumerate(found):
        if image is None or entries[other := first.setdefault(image, row)] == entries[row]:
            continue
        if "name" in (how, found[other][1]):
            raise DataError(
                f"{rows.table.where(row)}: ambiguous_name: {shown(entries[row])} and {shown(entries[other])} "
                f"in {rows.table.unit} {rows.table.line_numbers[other]} are one image by file name; keep one "
                "of the rows, or write the exact paths"
            )


class ImageFinder:
    r"""Finds the image that a path in a table names; opens nothing.

    A path may begin at the table's folder, at the images or at the name of their folder, or be the whole path
    of an image; in an archive whose members share one folder, that folder may be left out. Names are compared
    exactly, then by Unicode NFC.

    Parameters
    ----------
    names : of the images, below their place
    table : the file whose paths are looked up
    match : ``name`` to look for the file name alone where the path names no image: exactly, then without case
        and ending
    strip_prefix : taken off each path that begins with it; ``/`` and ``\`` are equal
    """

    def __init__(
        self,
        names: Sequence[str],
        images: Place,
        table: Path,
        *,
        match: str = "path",
        strip_prefix: str | None = None,
    ) -> None:
        if match not in ("path", "name"):
            raise UsageError(f"expected --match path or name, got {match!r}")
        self._names, self._known, self._match = names, frozenset(names), match
        self._composed = _by_key(names, lambda name: unicodedata.normalize("NFC", name))
        # (beginning to take off a path, beginning to put on), in the order of preference
        routes: list[tuple[str, str]] = []
        whole = [strip_prefix] if strip_prefix else []
        if isinstance(images, Url):
            whole.append(f"{str(images).rstrip('/')}/")
        elif images.is_dir():
            root, folder = images.resolve(), table.resolve().parent
            if root.is_relative_to(folder):
                routes.append((_beginning(root.relative_to(folder)), ""))
            elif root.anchor == folder.anchor:  # on one drive
                whole.append(_beginning(Path(os.path.relpath(root, folder))))
            if folder.is_relative_to(root):
                routes.append(("", _beginning(folder.relative_to(root))))
            whole += [_beginning(images.absolute()), _beginning(root)]
        inner = images.name if isinstance(images, Url) else images.resolve().name
        routes += [("", ""), (_ARCHIVE_ENDING.sub("", inner) + "/", "")]
        tops = {name.partition("/")[0] for name in names}
        if (
            isinstance(images, Path)
            and not images.is_dir()
            and len(tops) == 1
            and all("/" in name for name in names)
        ):
            routes.append(("", tops.pop() + "/"))
        self._routes = tuple(dict.fromkeys(routes))
        self._whole = tuple(dict.fromkeys(beginning.replace("\\", "/") for beginning in whole))

    def check(self, entry: str) -> Skipped | None:
        """``bad_path`` if the text of ``entry`` cannot name a file below the images."""
        # An archive lists members with hostile names too; they are skipped there.
        return None if entry in self._known else check_entry(self._below(entry))

    def find(self, entry: str) -> tuple[int | None, str]:
        """(image that ``entry`` names or None, how: by its "path", its Unicode "form" or its file "name").

        Raises
        ------
        DataError : ``ambiguous_name``: the path may be two images
        """
        found: tuple[int, ...] = ()
        how, differ = "path", "differ only in their Unicode form; rename one of the two files"
        if self.check(entry) is None:  # without this /1.png would be 1.png
            candidates = list(self._candidates(entry))
            equal = next((name for name in candidates if name in self._known), None)
            forms = [
                unicodedata.normalize("NFC", name) for name in (candidates if equal is None else [equal])
            ]
            found = next((self._composed[form] for form in forms if form in self._composed), ())
            how = "path" if equal is not None or not found else "form"
        if not found and self._match == "name":
            found = self.named(entry)
            how, differ = "name", "have this file name; write the paths below the images"
        if len(found) > 1:
            both = " and ".join(ascii(self._names[image]) for image in found[:2])
            raise DataError(f"ambiguous_name: {shown(entry)} may be {both}, which {differ}")
        return (found[0], how) if found else (None, "path")

    def named(self, entry: str) -> tuple[int, ...]:
        """The images with the file name of ``entry``, or else those that differ from it in case or ending."""
        name = _file_name(entry)
        return self._by_name.get(name) or self._by_plain_name.get(_without_case_and_ending(name), ())

    def ends(self, entries: Iterable[str]) -> Counter[str]:
        """Beginnings of these paths, each with the number of paths whose rest is the name of an image."""
        counts: Counter[str] = Counter()
        for entry in frozenset(entries):
            for separator in re.finditer(r"[\\/]", entry):
                rest = entry[separator.end() :].replace("\\", "/")
                counts[entry[: separator.end()]] += unicodedata.normalize("NFC", rest) in self._composed
        return +counts

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[int, ...]]:
        return _by_key(self._names, _file_name)

    @cached_property
    def _by_plain_name(self) -> Mapping[str, tuple[int, ...]]:
        return _by_key(self._names, lambda name: _without_case_and_ending(_file_name(name)))

    def _below(self, entry: str) -> str:
        """``entry`` as it is, or from the images on if it is the whole path of something there."""
        plain = entry.replace("\\", "/")
        off = next((beginning for beginning in self._whole if plain.startswith(beginning)), None)
        return entry if off is None else entry[len(off) :].lstrip("/\\")

    def _candidates(self, entry: str) -> Iterator[str]:
        below = self._below(entry)
        clean = "/".join(part for part in re.split(r"[\\/]", below) if part not in ("", "."))
        for form in dict.fromkeys((below, clean)):  # a backslash may also be part of a name
            for off, on in self._routes:
                if form.startswith(off):
                    yield on + form[len(off) :]


def _by_key(names: Sequence[str], key: Callable[[str], str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for image, name in enumerate(names):
        form = key(name)
        found[form] = (*found.get(form, ()), image)
    return found


def _file_name(path: str) -> str:
    return unicodedata.normalize("NFC", re.split(r"[\\/]", path)[-1])


def _beginning(folder: Path) -> str:
    text = folder.as_posix()
    return "" if text == "." else text.rstrip("/") + "/"


def _without_case_and_ending(name: str) -> str:
    form = name.casefold()
    ending = extension(form)
    return form.removesuffix(ending) if ending in IMAGE_EXTENSIONS else form


def _plain(text: str) -> str:
    return text if text.isprintable() and len(text) <= 60 else shown(text)


# One label for each image


def one_label_each(
    rows: LabelRows | None,
    index: Mapping[str, int],
    row_of: Mapping[Key, int],
    *,
    vote: bool = False,
    advice: str = "",
) -> tuple[Labels, tuple[str, ...]]:
    """(label of each image, notes) from matched rows of which several may name one image.

    Parameters
    ----------
    index : class index of each label, or UNKNOWN
    row_of : the place of each key in the answer
    vote : the most frequent label of an image wins, then the first; otherwise two labels are refused
    advice : ends the refusal

    Raises
    ------
    LabelError : one image with two labels, unless ``vote``
    """
    labels = np.full(len(row_of), UNKNOWN, dtype=np.int64)
    if rows is None:
        return labels, ()
    keys = rows.keys
    indices = [index[label] for label in rows.labels[: len(keys)]]  # beyond are empty lines at the end
    rows_of: dict[int, list[int]] = {}
    for row, key in enumerate(keys):
        if indices[row] != UNKNOWN:
            rows_of.setdefault(row_of[key], []).append(row)
    repeated = divided = tied = 0
    for place, its_rows in rows_of.items():
        votes = Counter(indices[row] for row in its_rows)
        if len(votes) > 1 and not vote:
            first = its_rows[0]
            second = next(row for row in its_rows if indices[row] != indices[first])
            written = rows.entries or ()  # without entries no image comes twice
            other = "" if written[first] == written[second] else f" for {shown(written[first])}"
            raise LabelError(
                f"{rows.table.where(second)}: {shown(written[second])} is {shown(rows.labels[second])} here "
                f"and {shown(rows.labels[first])}{other} in {rows.table.unit} "
                f"{rows.table.line_numbers[first]}; correct the file{advice}"
            )
        (labels[place], most), *others = votes.most_common(2)  # of equals, the one that came first
        tied += bool(others) and others[0][1] == most
        repeated += len(its_rows) - 1
        divided += len(votes) > 1
    notes = list(rows.notes)
    if UNKNOWN in indices and not rows.table.of_images:  # there each image has a cell, trusted or not
        notes.append(f"{rows.name}: empty labels, used as unknown: {indices.count(UNKNOWN):,}")
    if repeated and rows.annotators is None:
        notes.append(f"{rows.name}: rows that repeat an image, merged: {repeated:,}")
    if divided:
        ties = f", in a tie the first: {tied:,}" if tied else ""
        notes.append(
            f"{rows.name}: images with different labels, the most frequent is used: {divided:,}{ties}"
        )
    return labels, tuple(notes)


def group_of_each(rows: LabelRows, row_of: Mapping[Key, int]) -> tuple[Groups, tuple[str, ...]]:
    """(group of each image, notes) from matched rows with groups; an image without one is a group of its own.

    Raises
    ------
    LabelError : one image in two groups
    """
    cells, first = rows.groups or (), dict[int, int]()
    for row, key in enumerate(rows.keys):
        if not cells[row].strip():
            continue
        known = first.setdefault(row_of[key], row)
        if cells[known] != cells[row]:
            raise LabelError(
                f"{rows.table.where(row)}: {shown((rows.entries or ())[row])} is in the group "
                f"{shown(cells[row])} here and in {shown(cells[known])} in {rows.table.unit} "
                f"{rows.table.line_numbers[known]}; correct the file: an image is in one group"
            )
    number = {name: i for i, name in enumerate(dict.fromkeys(cells[row] for row in first.values()))}
    groups = len(number) + np.arange(len(row_of))
    groups[[*first]] = [number[cells[row]] for row in first.values()]
    note = f"{rows.name}: {len(number):,} groups of {len(first):,} images"
    alone = len(row_of) - len(first)
    return groups, (
        note + (f"; {alone:,} images without one are each a group of their own" if alone else ""),
    )


def misalignment(noisy: Labels, trusted: Labels) -> tuple[str, ...]:
    """A warning if noisy and trusted labels agree only by chance, but much better when shifted by one image.

    Parameters
    ----------
    noisy, trusted : class indices or UNKNOWN, in the order in which files without names are read
    """
    here, chance, error = _agreement(noisy, trusted)
    shifted = {"later": _agreement(noisy[1:], trusted[:-1]), "earlier": _agreement(noisy[:-1], trusted[1:])}
    shift = max(shifted, key=lambda step: shifted[step][0])
    there, shifted_chance, shifted_error = shifted[shift]
    # By chance is within three standard errors of independent labels, much better beyond six.
    if here > chance + 3 * error or there <= shifted_chance + 6 * shifted_error:
        return ()
    return (
        f"warning: possible_misalignment: noisy and trusted labels agree on {here:.3f} of the images "
        f"({chance:.3f} by chance), but on {there:.3f} with the trusted labels one image {shift}; "
        "is there a line too many or too few in one of the files?",
    )


def _agreement(noisy: Int[np.ndarray, "P"], trusted: Int[np.ndarray, "P"]) -> tuple[float, float, float]:
    """Share of equal labels, that of independent ones, and the standard error of the latter."""
    both = (noisy != UNKNOWN) & (trusted != UNKNOWN)
    if not both.any():
        return 0.0, 1.0, 0.0
    pair = noisy[both], trusted[both]
    size = 1 + max(int(labels.max()) for labels in pair)
    shares = [np.bincount(labels, minlength=size) / both.sum() for labels in pair]
    chance = float(shares[0] @ shares[1])
    return float(np.mean(pair[0] == pair[1])), chance, float(np.sqrt(chance * (1 - chance) / both.sum()))
