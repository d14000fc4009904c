"""Which image each row of a label file belongs to: by order, or by name.

Names match exactly first and then by Unicode NFC, relative to the label file's folder, then to the
images. A row whose image cannot be found stays a row; it is marked, never dropped.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assay.data.dataset import Listing, Skipped
from assay.data.finder import make_finder
from assay.data.label_files import LabelFile
from assay.data.paths import check_entry
from assay.data.tables import check_decoded, shown
from assay.errors import DataError, LabelError
from assay.types import UNKNOWN, Labels

_SHOWN_PAIRS = 3


@dataclass(frozen=True)
class Pairing:
    """The image of each row of a label file."""

    file: LabelFile
    images: tuple[int | None, ...]
    """Index into the listing for each row; None where no image was found."""
    skipped: Mapping[int, Skipped] = field(default_factory=dict)
    """Why a row has no image: ``bad_path`` or ``missing_image``."""
    normalised: int = 0
    """Rows whose name matched only after NFC."""
    notes: tuple[str, ...] = ()
    """The first and last pairs, where rows and images were paired by order; names that are nearly right."""


def pair_by_order(file: LabelFile, listing: Listing, images: Path, *, complete: bool) -> Pairing:
    """Row i belongs to the i-th image in natural order.

    Parameters
    ----------
    complete : every image must have a row; otherwise the rows are those of the first images

    Raises
    ------
    DataError : more rows than images, or fewer if ``complete``; blank rows at the end do not count
    """
    found, expected = len(file.labels), len(listing.names)
    while found > expected and not file.labels[found - 1]:
        found -= 1
    if found > expected or (complete and found < expected):
        limit = "" if complete else "at most "
        raise DataError(
            f"{file.path.name}: expected {limit}{expected:,} labels, one for each image of {images.name}, "
            f"got {found:,}; without names, label i belongs to the i-th image in natural order (2.png "
            f"before 10.png; here {', '.join(map(shown, listing.names[:3]))}). "
            "Correct the file (an empty line is an unknown label), or give it a header 'path,label' and names"
        )
    return Pairing(file, tuple(range(found)), notes=_first_and_last(file, listing.names[:found]))


def pair_by_name(file: LabelFile, listing: Listing, images: Path, *, quiet: bool = False) -> Pairing:
    """Each row belongs to the image that its path names; see ``finder`` for where a path may begin.

    Parameters
    ----------
    quiet : nobody reads the notes

    Raises
    ------
    DataError : ``ambiguous_name``: two images differ only in Unicode form; or no row finds its image
    TableError : a path that is not UTF-8 and that no image has
    """
    finder = make_finder(listing, images, file.path)
    found: list[int | None] = []
    skipped: dict[int, Skipped] = {}
    normalised = 0
    for row, entry in enumerate(file.entries or ()):
        below = finder.below(entry)
        bad = check_entry(below)
        match = None if bad else finder.find(below)
        if match is None:
            skipped[row] = bad or _missing(file, row, entry)
        normalised += match is not None and not match.exact
        found.append(match.image if match else None)
    missing = [row for row, why in skipped.items() if why.reason == "missing_image"]
    near = finder.lookalikes((file.entries or ())[row] for row in missing) if missing and not quiet else []
    if found and not any(image is not None for image in found):
        _refuse_all(file, skipped, listing, images, near)
    return Pairing(file, tuple(found), skipped, normalised, _alike(file, near))


def one_label_each(
    file: LabelFile, rows: Sequence[int], indices: Sequence[int], n_images: int, *, vote: bool | None
) -> tuple[Labels, tuple[str, ...]]:
    """The label of each image from rows of which some may name one image twice; with notes.

    Parameters
    ----------
    rows : the image (0 to ``n_images`` - 1) of each row of the file
    indices : the class index of each row, or UNKNOWN
    vote : the most frequent label of an image wins, then the first; otherwise two are refused, and None
        says that voting is no way out, as for trusted labels

    Raises
    ------
    LabelError : one image with two labels, unless ``vote``
    """
    voters: dict[int, list[int]] = {}
    for row, (image, index) in enumerate(zip(rows, indices, strict=True)):
        if index != UNKNOWN:
            voters.setdefault(image, []).append(row)
    labels = np.full(n_images, UNKNOWN, dtype=np.int64)
    repeated = divided = tied = 0
    for image, its_rows in voters.items():
        ballot = Counter(indices[row] for row in its_rows)
        if len(ballot) > 1 and not vote:
            raise LabelError(_contradiction(file, its_rows, indices, votable=vote is not None))
        (most, votes), *others = ballot.most_common(2)  # of equals, the one that came first
        labels[image] = most
        tied += bool(others) and others[0][1] == votes
        repeated += len(its_rows) - 1
        divided += len(ballot) > 1
    name = file.path.name
    notes = [f"{name}: rows that repeat an image, merged: {repeated:,}"] if repeated else []
    if divided:
        of_tied = f", of equally many the first: {tied:,}" if tied else ""
        notes.append(f"{name}: images with different labels, the most frequent taken: {divided:,}{of_tied}")
    return labels, tuple(notes)


def _contradiction(file: LabelFile, rows: Sequence[int], indices: Sequence[int], votable: bool) -> str:
    first = rows[0]
    second = next(row for row in rows if indices[row] != indices[first])
    written = file.entries or ()  # without entries no image comes twice
    other = "" if written[first] == written[second] else f" for {shown(written[first])}"
    return (
        f"{file.where(second)}: {shown(written[second])} is {shown(file.labels[second])} here and "
        f"{shown(file.labels[first])}{other} in {file.unit} {file.line_numbers[first]}; correct the file"
        + (", or let the most frequent label win with --duplicates=vote" if votable else "")
    )


def _missing(file: LabelFile, row: int, entry: str) -> Skipped:
    # A name of any bytes may exist on disk; one that does not is Latin-1 text far more often than a name.
    check_decoded(entry, file.where(row))
    return Skipped("missing_image", f"{file.where(row)} names {shown(entry)}, which is not there")


def _alike(file: LabelFile, near: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """A warning of names that are nearly those of images."""
    if not near:
        return ()
    entry, name = near[0]
    return (
        f"warning: {file.path.name}: {len(near):,} of the names that are no image's differ from one in case "
        f"or ending alone, as {shown(entry)} and {shown(name)}; write them as the files are called",
    )


def _refuse_all(
    file: LabelFile,
    skipped: Mapping[int, Skipped],
    listing: Listing,
    images: Path,
    near: Sequence[tuple[str, str]],
) -> None:
    """Nothing fits: all paths are written otherwise than they are looked for."""
    none = f"{file.path.name}: none of its {len(skipped):,} paths names an image of {images.name}"
    if near:
        entry, name = near[0]
        raise DataError(
            f"{none}: {shown(entry)} and {shown(name)} differ in case or ending; write the paths as the "
            "files are called"
        )
    if listing.names:
        first = next((row for row, why in skipped.items() if why.reason == "missing_image"), min(skipped))
        raise DataError(
            f"{none}: the first is {shown((file.entries or ())[first])}, an image is called "
            f"{shown(listing.names[0])}; write the paths relative to the label file or to the images"
        )


def _first_and_last(file: LabelFile, names: Sequence[str]) -> tuple[str, ...]:
    """One note that shows the pairing that was assumed, for a person to check."""
    if not names:
        return (f"{file.path.name} has no labels",)
    ends = sorted({*range(len(names))[:_SHOWN_PAIRS], *range(len(names))[-_SHOWN_PAIRS:]})
    pairs = [f"{_plain(names[row])} → {_plain(file.labels[row]) or '(none)'}" for row in ends]
    if len(names) > len(ends):
        pairs.insert(_SHOWN_PAIRS, "…")
    return (f"{file.path.name}: {len(names):,} labels by order of names: {', '.join(pairs)}",)


def _plain(text: str) -> str:
    return text if text.isprintable() and len(text) <= 60 else shown(text)
