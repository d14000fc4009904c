"""Which image each row of a label table belongs to: by order, or by the path that it names.

Without paths, row i belongs to the i-th image in natural order. A path may begin at the table's folder, at
the images or at the name of their folder, or be the whole path of an image; in an archive whose members share
one folder, that folder may be left out. Names are compared exactly, then by Unicode NFC. A row whose image
cannot be found stays a row with its reason.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Listing, Skipped
from assay.data.files import IMAGE_EXTENSIONS, check_entry, extension
from assay.data.tables import Table, check_decoded, shown
from assay.errors import DataError, LabelError
from assay.types import UNKNOWN, Labels

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

    @property
    def name(self) -> str:
        """The name of the file, for messages."""
        return self.table.path.name

    def where(self, row: int) -> str:
        """The place of a row, for a message: ``labels.csv line 17``."""
        return self.table.where(row)


def match(rows: LabelRows, listing: Listing, images: Path, *, complete: bool) -> LabelRows:
    """The same rows with their images.

    Parameters
    ----------
    complete : rows without paths must be as many as the images; otherwise they belong to the first images

    Raises
    ------
    DataError : another number of rows than images; no path names an image; ``ambiguous_name``: two images
        differ only in Unicode form
    TableError : a path that is not UTF-8 and that no image has
    """
    if rows.images is not None:
        return rows
    if rows.entries is None:
        return _match_by_order(rows, listing, images, complete=complete)
    return _match_by_name(rows, rows.entries, listing, images)


def _match_by_name(rows: LabelRows, entries: Sequence[str], listing: Listing, images: Path) -> LabelRows:
    finder = ImageFinder(listing.names, images, rows.table.path)
    found: list[int | None] = []
    skipped, missing = dict[int, Skipped](), list[str]()
    normalised = 0
    for row, entry in enumerate(entries):
        image, exact = finder.find(entry)
        if image is None:
            # A name of any bytes may exist on disk; one that does not is Latin-1 text far more often.
            if (bad := finder.check(entry)) is None:
                check_decoded(entry, where := rows.where(row))
                missing.append(entry)
                bad = Skipped("missing_image", f"{where} names {shown(entry)}, which does not exist")
            skipped[row] = bad
        normalised += not exact
        found.append(image)
    near = finder.lookalikes(missing) if missing else []
    if found and len(skipped) == len(found):
        why = (
            "{} and {} differ in case or ending; write the exact file names".format(*map(shown, near[0]))
            if near
            else f"the first is {shown([*missing, *entries][0])}, an image is called "
            f"{shown(listing.names[0])}; write the paths relative to the label file or to the images"
        )
        none = f"{rows.name}: none of its {len(rows.labels):,} paths names an image of {images.name}"
        raise DataError(f"{none}: {why}")
    notes = list(rows.notes)
    if near:
        entry, name = near[0]
        notes.append(
            f"warning: {rows.name}: {len(near):,} names of missing images differ from an existing one only "
            f"in case or ending, such as {shown(entry)} and {shown(name)}; write the exact file names"
        )
    if skipped:
        notes.append(f"{rows.name}: rows without an image: {len(skipped):,}")
    if normalised:
        notes.append(f"{rows.name}: names in another Unicode form than the images': {normalised:,}")
    return replace(rows, images=tuple(found), skipped=skipped, notes=tuple(notes))


class ImageFinder:
    """Finds the image that a path in a table names; opens nothing.

    Parameters
    ----------
    names : of the images, below their place
    images : their place
    table : the file whose paths are looked up; they may be relative to its folder
    """

    def __init__(self, names: Sequence[str], images: Path, table: Path) -> None:
        self._names, self._known = names, frozenset(names)
        self._composed: dict[str, tuple[int, ...]] = {}  # NFC form -> images
        for image, name in enumerate(names):
            form = unicodedata.normalize("NFC", name)
            self._composed[form] = (*self._composed.get(form, ()), image)
        is_folder = images.is_dir()
        self._routes = tuple(dict.fromkeys(_routes(names, images.resolve(), table, is_folder=is_folder)))
        places = (images.absolute(), images.resolve()) if is_folder else ()
        self._whole = tuple(dict.fromkeys(place.as_posix() + "/" for place in places))

    def check(self, entry: str) -> Skipped | None:
        """``bad_path`` if the text of ``entry`` cannot name a file below the images."""
        # An archive lists members with hostile names too; they are skipped there.
        return None if entry in self._known else check_entry(self._below(entry))

    def find(self, entry: str) -> tuple[int | None, bool]:
        """(image that ``entry`` names or None, whether the names are equal without Unicode normalisation).

        Raises
        ------
        DataError : ``ambiguous_name``: two images differ only in their Unicode form
        """
        if self.check(entry) is not None:  # without this /1.png would be 1.png
            return None, True
        candidates = list(self._candidates(self._below(entry)))
        equal = next((name for name in candidates if name in self._known), None)
        forms = [unicodedata.normalize("NFC", name) for name in (candidates if equal is None else [equal])]
        twins = next((self._composed[form] for form in forms if form in self._composed), ())
        if len(twins) > 1:
            both = " and ".join(ascii(self._names[twin]) for twin in twins[:2])
            raise DataError(
                f"ambiguous_name: {shown(entry)} may be {both}, which differ only in their Unicode form; "
                "rename one of the two files"
            )
        return (twins[0], equal is not None) if twins else (None, True)

    def lookalikes(self, entries: Iterable[str]) -> list[tuple[str, str]]:
        """(entry, name of an image) where the two differ only in case or in the ending."""
        alike: dict[str, str] = {}
        for name in self._names:
            alike.setdefault(_without_case_and_ending(name), name)
        found = []
        for entry in entries:
            forms = map(_without_case_and_ending, self._candidates(self._below(entry)))
            near = next((alike[form] for form in forms if form in alike), None)
            found += [(entry, near)] if near is not None else []
        return found

    def _below(self, entry: str) -> str:
        """``entry`` as it is, or from the images on if it is the whole path of something there."""
        return next((entry[len(whole) :] for whole in self._whole if entry.startswith(whole)), entry)

    def _candidates(self, entry: str) -> Iterator[str]:
        clean = "/".join(part for part in re.split(r"[\\/]", entry) if part not in ("", "."))
        for form in dict.fromkeys((entry, clean)):
            for off, on in self._routes:
                if form.startswith(off):
                    yield on + form[len(off) :]


def _routes(names: Sequence[str], root: Path, table: Path, *, is_folder: bool) -> Iterator[tuple[str, str]]:
    """(beginning to take off, beginning to put on) of a path, in the order of preference."""
    folder = table.resolve().parent
    if is_folder and root.is_relative_to(folder):
        yield _beginning(root.relative_to(folder)), ""
    if is_folder and folder.is_relative_to(root):
        yield "", _beginning(folder.relative_to(root))
    yield "", ""
    yield _ARCHIVE_ENDING.sub("", root.name) + "/", ""
    common = {name.partition("/")[0] for name in names}
    if not is_folder and len(common) == 1 and all("/" in name for name in names):
        yield "", common.pop() + "/"


def _beginning(folder: Path) -> str:
    text = folder.as_posix()
    return "" if text == "." else text + "/"


def _without_case_and_ending(name: str) -> str:
    form = unicodedata.normalize("NFC", name).casefold()
    ending = extension(form)
    return form.removesuffix(ending) if ending in IMAGE_EXTENSIONS else form


def _match_by_order(rows: LabelRows, listing: Listing, images: Path, *, complete: bool) -> LabelRows:
    n, expected = len(rows.labels), len(listing.names)
    while n > expected and not rows.labels[n - 1]:  # an editor's empty last line is no label
        n -= 1
    if n > expected or (complete and n < expected):
        limit = "" if complete else "at most "
        raise DataError(
            f"{rows.name}: expected {limit}{expected:,} labels, one for each image of {images.name}, "
            f"got {n:,}; without names, label i belongs to the i-th image in natural order (2.png "
            f"before 10.png; here {', '.join(map(shown, listing.names[:3]))}). "
            "Correct the file (an empty line is an unknown label), or give it a header 'path,label' and names"
        )
    note = f"{rows.name} has no labels"
    if n:
        ends = sorted({*range(n)[:_SHOWN_PAIRS], *range(n)[-_SHOWN_PAIRS:]})
        pairs = [f"{_plain(listing.names[row])} → {_plain(rows.labels[row]) or '(none)'}" for row in ends]
        if n > len(ends):
            pairs.insert(_SHOWN_PAIRS, "…")
        note = f"{rows.name}: {n:,} labels by order of names: {', '.join(pairs)}"
    return replace(rows, images=tuple(range(n)), notes=(*rows.notes, note))


def _plain(text: str) -> str:
    return text if text.isprintable() and len(text) <= 60 else shown(text)


def one_label_each(
    rows: LabelRows, places: Sequence[int], indices: Sequence[int], n: int, *, vote: bool | None
) -> tuple[Labels, tuple[str, ...]]:
    """(label of each of ``n`` images, notes) from rows of which several may name one image.

    Parameters
    ----------
    places : the image (0 to ``n`` - 1) of each row
    indices : the class index of each row, or UNKNOWN
    vote : the most frequent label of an image wins, then the first; if False two labels are refused; None is
        False where voting may not be advised, as for trusted labels

    Raises
    ------
    LabelError : one image with two labels, unless ``vote``
    """
    labels = np.full(n, UNKNOWN, dtype=np.int64)
    rows_of: dict[int, list[int]] = {}
    for row, (place, index) in enumerate(zip(places, indices, strict=True)):
        if index != UNKNOWN:
            rows_of.setdefault(place, []).append(row)
    repeated = divided = tied = 0
    for place, its_rows in rows_of.items():
        votes = Counter(indices[row] for row in its_rows)
        if len(votes) > 1 and not vote:
            first = its_rows[0]
            second = next(row for row in its_rows if indices[row] != indices[first])
            written = rows.entries or ()  # without entries no image comes twice
            other = "" if written[first] == written[second] else f" for {shown(written[first])}"
            raise LabelError(
                f"{rows.where(second)}: {shown(written[second])} is {shown(rows.labels[second])} here and "
                f"{shown(rows.labels[first])}{other} in {rows.table.unit} {rows.table.line_numbers[first]}; "
                "correct the file"
                + ("" if vote is None else ", or use the most frequent label with --duplicates=vote")
            )
        (labels[place], most), *others = votes.most_common(2)  # of equals, the one that came first
        tied += bool(others) and others[0][1] == most
        repeated += len(its_rows) - 1
        divided += len(votes) > 1
    notes = [f"{rows.name}: rows that repeat an image, merged: {repeated:,}"] if repeated else []
    if divided:
        ties = f", in a tie the first: {tied:,}" if tied else ""
        notes.append(
            f"{rows.name}: images with different labels, the most frequent is used: {divided:,}{ties}"
        )
    return labels, tuple(notes)


def misalignment(noisy: Labels, trusted: Labels) -> tuple[str, ...]:
    """A warning if noisy and trusted labels agree only by chance, but much better when shifted by one image.

    "By chance" is within three, "much better" beyond six standard errors of independent labels' agreement.

    Parameters
    ----------
    noisy, trusted : class indices or UNKNOWN, in the order in which files without names are read
    """
    here, chance, error = _agreement(noisy, trusted)
    shifted = {"later": _agreement(noisy[1:], trusted[:-1]), "earlier": _agreement(noisy[:-1], trusted[1:])}
    shift = max(shifted, key=lambda step: shifted[step][0])
    there, shifted_chance, shifted_error = shifted[shift]
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
