"""Putting images and what label files say about them into the rows of one Dataset."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay.data.alignment import misalignment
from assay.data.dataset import Dataset, ImageSource, Listing, Skipped
from assay.data.labels import Classes, image_warnings
from assay.data.pairing import Pairing, one_label_each
from assay.data.tables import shown
from assay.errors import DataError
from assay.types import UNKNOWN, Labels

Key = int | str
"""What makes a row one: the index of its image in the listing, or the path that names no image."""


@dataclass(frozen=True)
class PickedSource:
    """The images of another source in an order of their own."""

    source: ImageSource
    images: tuple[int | None, ...]
    """For each row, the index into ``source``; None where there is no image."""

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of row ``index``, or why they cannot be had."""
        image = self.images[index]
        return Skipped("missing_image") if image is None else self.source.read(image)


def arrange(
    listing: Listing, noisy: Pairing | None, trusted: Pairing | None, classes: Classes, *, vote: bool
) -> Dataset:
    """One row for each image, and one for each path in a table that names no image.

    The order is that of the noisy table, then of the trusted one, then that of the listing.

    Parameters
    ----------
    vote : settle several noisy labels of one image by majority; trusted ones may never differ

    Raises
    ------
    LabelError : one image with two labels
    DataError : ``ambiguous_name``: two rows would have the same name
    """
    pairings = [pairing for pairing in (noisy, trusted) if pairing is not None]
    names = _names(listing, pairings)
    row_of = {key: row for row, key in enumerate(names)}
    noisy_labels, noisy_notes = _labels(noisy, classes.noisy, row_of, vote)
    sure, sure_notes = _labels(trusted, classes.trusted, row_of, None)
    images = tuple(key if isinstance(key, int) else None for key in names)
    in_order = images == tuple(range(len(listing.names)))
    by_order = any(pairing.file.entries is None for pairing in pairings)
    notes = (
        *listing.notes,
        *noisy_notes,
        *sure_notes,
        *_unlabeled(listing, noisy),
        *image_warnings(classes.names, noisy_labels, sure),
        *(_shifted(images, noisy_labels, sure) if by_order else ()),
    )
    return Dataset(
        names=_distinct(tuple(names.values())),
        source=listing.source if in_order else PickedSource(listing.source, images),
        classes=classes.names,
        noisy=noisy_labels,
        trusted=sure,
        titles=classes.titles,
        skipped=_skipped(listing, pairings, row_of),
        notes=tuple(dict.fromkeys(notes)),  # one table may give both labels
    )


def _keys(pairing: Pairing) -> list[Key]:
    entries = pairing.file.entries or ()
    return [entries[row] if image is None else image for row, image in enumerate(pairing.images)]


def _names(listing: Listing, pairings: Sequence[Pairing]) -> dict[Key, str]:
    """The rows in their order, each with its name as the input wrote it."""
    names: dict[Key, str] = {}
    for pairing in pairings:
        written = pairing.file.entries or listing.names
        for key, name in zip(_keys(pairing), written, strict=False):
            names.setdefault(key, name)
    for image, name in enumerate(listing.names):
        names.setdefault(image, name)
    return names


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        name = Counter(names).most_common(1)[0][0]
        raise DataError(
            f"ambiguous_name: two images would both be called {shown(name)}, one by its path in a table and "
            "one by its place among the images; write the paths relative to the images"
        )
    return names


def _labels(
    pairing: Pairing | None, index: Mapping[str, int], row_of: Mapping[Key, int], vote: bool | None
) -> tuple[Labels, tuple[str, ...]]:
    if pairing is None:
        return np.full(len(row_of), UNKNOWN, dtype=np.int64), ()
    rows = [row_of[key] for key in _keys(pairing)]
    indices = [index[label] for label in pairing.file.labels[: len(rows)]]
    labels, notes = one_label_each(pairing.file, rows, indices, len(row_of), vote=vote)
    counted = {
        "rows that name no image": len(pairing.skipped),
        "empty labels, taken as unknown": indices.count(UNKNOWN),
        "names in another Unicode form than the images'": pairing.normalised,
    }
    name = pairing.file.path.name
    said = tuple(f"{name}: {what}: {count:,}" for what, count in counted.items() if count)
    return labels, (*pairing.notes, *said, *notes)


def _skipped(listing: Listing, pairings: Sequence[Pairing], row_of: Mapping[Key, int]) -> dict[int, Skipped]:
    skipped = {row_of[image]: why for image, why in listing.skipped.items()}
    for pairing in pairings:
        keys = _keys(pairing)
        skipped |= {row_of[keys[row]]: why for row, why in pairing.skipped.items()}
    return dict(sorted(skipped.items()))


def _unlabeled(listing: Listing, noisy: Pairing | None) -> tuple[str, ...]:
    if noisy is None:
        return ()
    count = len(listing.names) - len(set(noisy.images) - {None})
    return (f"{noisy.file.path.name}: images without a row, taken as unlabeled: {count:,}",) if count else ()


def _shifted(images: Sequence[int | None], noisy: Labels, trusted: Labels) -> tuple[str, ...]:
    """Judged in the order of the images, the one in which labels without names were paired."""
    found = sorted((image, row) for row, image in enumerate(images) if image is not None)
    order = [row for _, row in found]
    warning = misalignment(noisy[order], trusted[order])
    return () if warning is None else (warning,)
