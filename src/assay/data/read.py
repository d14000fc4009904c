"""Reading a data set: find the images, read the label tables, match both, decide the classes.

Rows come in the order of the noisy table, then of the trusted one, then the images that neither names, in
natural order. Labels without names, class folders and Parquet keep the order of the images. A row has the
name of its image below the place of the images; a row without an image has the path that the table wrote.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from assay.data.classes import Classes, decide_classes, label_warnings
from assay.data.dataset import Dataset, Listing, PickedSource, ReadOptions
from assay.data.decisions import with_decisions
from assay.data.files import raw_fault
from assay.data.match import LabelRows, match, misalignment, one_label_each
from assay.data.memory import MemorySource
from assay.data.sources import class_folders, one_image, scan_archive, scan_folder
from assay.data.tables import (
    LABEL_COLUMNS,
    Table,
    is_parquet,
    known_columns,
    pick_columns,
    pick_labels,
    read_table,
    shown,
    unread_columns,
)
from assay.errors import DataError, LabelError, UsageError
from assay.types import UNKNOWN, Labels

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Label files that may lie among the images, as in a Hugging Face image folder."""

TRUSTED_FLAG = "--trusted-label-col"

_SPLITS = {"train", "training", "test", "val", "valid", "validation", "dev"}

Key = int | str
"""Identifies a row: the index of its image in the listing, or the path that names no image."""


def read_dataset(images: Path, options: ReadOptions) -> Dataset:
    """The images of a place with their noisy and trusted labels.

    Without a noisy file the noisy labels are those of a metadata file in the folder, of the Parquet file
    that holds the images, or the names of class folders; else every noisy label is UNKNOWN.

    Raises
    ------
    DataError : no image, labels or decisions that do not fit the images, names that are ambiguous
    LabelError : labels that cannot be right; see ``decide_classes``, ``one_label_each``, ``with_decisions``
    TableError : a label file or decisions that cannot be read without guessing
    UsageError : an option with an impossible value
    """
    if options.duplicates not in ("refuse", "vote"):
        raise UsageError(
            f"expected --duplicates refuse or vote, got {options.duplicates!r}: an image has one noisy label"
        )
    listing = list_images(images, options)
    noisy, declared, notes = _noisy_labels(images, listing, options)
    listing = replace(listing, notes=(*listing.notes, *notes))
    return _with_labels(images, listing, noisy, options, declared=declared)


def read_trusted(images: Path, options: ReadOptions, apart: Collection[str] = ()) -> Dataset:
    """The images of a place with their trusted labels alone, such as a test set; it may have one class.

    Parameters
    ----------
    apart : labels that are classes each, even if they differ in case alone

    Raises
    ------
    AssayError : as ``read_dataset``
    """
    return _with_labels(images, list_images(images, options), None, options, least=1, apart=apart)


def read_images(images: Path, options: ReadOptions | None = None) -> Dataset:
    """The images of a place without labels and without classes.

    Raises
    ------
    DataError : no such place, or no image in it
    TableError : a Parquet file without a column of images, or with several and none is named
    """
    options = options or ReadOptions()
    return _unlabelled(list_images(images, options), options)


def read_listed(listing: bytes, options: ReadOptions | None = None) -> Dataset:
    """The images at these paths, in this order, without labels.

    Parameters
    ----------
    listing : paths, one a line, or with NUL between them, as ``find -print0`` writes them

    Raises
    ------
    DataError : not one path
    """
    parts = listing.split(b"\0") if b"\0" in listing else listing.splitlines()
    paths = tuple(os.fsdecode(part) for part in parts if part)
    if not paths:
        raise DataError("expected paths of images on stdin, one a line, got none")
    options = options or ReadOptions()
    faults = {row: fault for row, path in enumerate(paths) if (fault := raw_fault(path)) is not None}
    return _unlabelled(Listing(paths, MemorySource(paths, options.limits.max_bytes), faults), options)


def _unlabelled(listing: Listing, options: ReadOptions) -> Dataset:
    # One number with a stride of 0: there may be millions of images.
    unknown = np.broadcast_to(np.int64(UNKNOWN), len(listing.names))
    return Dataset(
        listing.names,
        listing.source,
        (),
        unknown,
        unknown,
        skipped=listing.skipped,
        notes=listing.notes,
        accept_truncated=options.accept_truncated,
        limits=options.limits,
    )


def list_images(images: Path, options: ReadOptions) -> Listing:
    """The images of a folder, a zip, a tar or a Parquet file, in natural order (Parquet: its rows), or one.

    Raises
    ------
    DataError : no such place, a file of another kind, or no image in it
    """
    try:
        is_folder, exists = images.is_dir(), images.exists()
    except OSError as error:  # a folder above that cannot be searched, or a path that is too long
        raise DataError(f"cannot read {images}: {error.strerror}; check the path and its rights") from error
    if is_folder:
        listing = scan_folder(images, follow_symlinks=options.follow_symlinks, limits=options.limits)
    elif not exists:
        raise DataError(f"no such folder or file of images: {images}")
    elif is_parquet(images):
        from assay.data.parquet import parquet_listing  # polars is slow to import

        listing = parquet_listing(images, image_column=options.path_column)
    else:
        listing = one_image(images, options.limits) or scan_archive(images, options.limits)
    if not listing.names:
        ignored = f" ({'; '.join(listing.notes)})" if listing.notes else ""
        raise DataError(f"expected images in {images}, got none{ignored}")
    return listing


def _with_labels(
    images: Path,
    listing: Listing,
    noisy: LabelRows | None,
    options: ReadOptions,
    *,
    declared: tuple[str, ...] = (),
    least: int = 2,
    apart: Collection[str] = (),
) -> Dataset:
    trusted = _trusted_labels(images, options, alone=noisy is None)
    _check_label_column(noisy, trusted, options)
    if noisy is not None:
        noisy = match(noisy, listing, images, complete=True)
    if trusted is not None:
        trusted = match(trusted, listing, images, complete=False)
    classes = decide_classes(noisy, trusted, options, declared=declared, least=least, apart=apart)
    dataset = _arrange(listing, noisy, trusted, classes, options)
    return dataset if options.decisions is None else with_decisions(dataset, options.decisions, images)


# Where labels come from


def _noisy_labels(
    images: Path, listing: Listing, options: ReadOptions
) -> tuple[LabelRows | None, tuple[str, ...], tuple[str, ...]]:
    """(labels, classes that may have no image, notes)"""
    if options.noisy is not None:
        return _labels_in(options.noisy, images, options), (), ()
    if is_parquet(images):
        if not _has_label(table := read_table(images), options):
            return None, (), (f"{images.name} has no label column",)
        return _labels_in(table, images, options), (), ()
    files = [images / name for name in METADATA_NAMES if (images / name).is_file()]
    if len(files) > 1:
        raise UsageError(
            f"{images.name} holds {', '.join(path.name for path in files)}; name one of them with --noisy"
        )
    notes: tuple[str, ...] = ()
    for path in files:
        table = read_table(path, path_column=options.path_column, label_column=options.label_column)
        if _has_label(table, options):
            labels = _labels_in(table, images, options)
            # A table among the images has more columns as a rule: captions, sizes.
            return replace(labels, notes=()), (), (f"noisy labels are read from {path.name}",)
        notes = (f"{path.name} has no label column, so its rows were not read",)
    folders = _class_folders(images, listing, options)
    return folders[0], folders[1], (*notes, *folders[2])


def _trusted_labels(images: Path, options: ReadOptions, *, alone: bool) -> LabelRows | None:
    """The trusted labels; ``alone`` if no others are read, so that --label-col is the column of theirs."""
    if options.trusted is None:
        return None
    own = options.trusted_label_column
    if own is None:
        return _labels_in(options.trusted, images, options, flag="--label-col" if alone else TRUSTED_FLAG)
    found = _labels_in(options.trusted, images, replace(options, label_column=own), flag=TRUSTED_FLAG)
    if own not in (found.table.columns or ()):
        pick_labels(found.table, own, TRUSTED_FLAG)  # refuses a table without it
    return found


def _labels_in(
    source: Path | Table, images: Path, options: ReadOptions, *, flag: str = "--label-col"
) -> LabelRows:
    """The labels of a table; those of the Parquet file that holds the images belong to its rows."""
    table = source
    if not isinstance(table, Table):
        table = read_table(table, path_column=options.path_column, label_column=options.label_column)
    column = options.label_column
    # One flag serves two files: the label column of one may have a known name instead.
    if column not in (table.columns or ()) and _known_label(table):
        column = None
    if is_parquet(images) and table.path.resolve() == images.resolve():
        labels = pick_labels(table, column, flag)
        return LabelRows(table, labels, images=tuple(range(len(labels))))
    labels, entries = pick_columns(
        table, path_column=options.path_column, label_column=column, label_flag=flag
    )
    return LabelRows(table, labels, entries, notes=unread_columns(table, options.path_column, column))


def _has_label(table: Table, options: ReadOptions) -> bool:
    return options.label_column is not None or _known_label(table)


def _known_label(table: Table) -> bool:
    return bool(known_columns(table.columns or (), LABEL_COLUMNS))


def _check_label_column(noisy: LabelRows | None, trusted: LabelRows | None, options: ReadOptions) -> None:
    """TableError for a --label-col that no table has: a slip must not choose another column."""
    both = [noisy, trusted] if options.trusted_label_column is None else [noisy]
    tables = [labels.table for labels in both if labels is not None]
    if options.label_column is None or any(options.label_column in (one.columns or ()) for one in tables):
        return
    for table in filter(_known_label, tables):
        pick_labels(table, options.label_column)


def _class_folders(
    images: Path, listing: Listing, options: ReadOptions
) -> tuple[LabelRows | None, tuple[str, ...], tuple[str, ...]]:
    """Class folders at the top, or inside the one folder that an archive often begins with."""
    inner = listing
    if (
        all("/" in name for name in inner.names)
        and len({name.partition("/")[0] for name in inner.names}) == 1
    ):
        # The listing's folders are those of the outer level.
        inner = replace(listing, names=tuple(name.partition("/")[2] for name in listing.names), folders=())
    tops = {name.partition("/")[0] for name in inner.names if "/" in name}
    outside = [name for name in inner.names if "/" not in name]
    if len(tops) < 2:
        return None, (), ()
    if outside:
        note = (
            f"the {len(tops):,} folders of {images.name} are not read as classes: {len(outside):,} of "
            f"{len(inner.names):,} images lie outside them, such as {shown(outside[0])}"
        )
        return None, (), (note,)
    if tops <= _SPLITS:
        raise LabelError(
            f"{images.name} holds the folders {', '.join(sorted(tops))}, which are parts of a data set "
            "rather than classes; give one of them as the images"
        )
    classes, places = class_folders(inner, allow_empty=options.allow_empty_classes)
    labels = tuple(classes[place] for place in places)
    rows = tuple(range(len(labels)))
    table = Table(images, None, tuple((label,) for label in labels), tuple(row + 1 for row in rows), "image")
    return LabelRows(table, labels, images=rows), classes, ("noisy labels are the class folders",)


# One row for each image


def _arrange(
    listing: Listing,
    noisy: LabelRows | None,
    trusted: LabelRows | None,
    classes: Classes,
    options: ReadOptions,
) -> Dataset:
    """One row for each image, and one for each path in a table that names no image."""
    tables = [rows for rows in (noisy, trusted) if rows is not None]
    keys = [key for rows in tables for key in _keys(rows)]
    row_of = {key: row for row, key in enumerate(dict.fromkeys([*keys, *range(len(listing.names))]))}
    images = tuple(key if isinstance(key, int) else None for key in row_of)
    noisy_labels, noisy_notes = _labels(noisy, classes.noisy, row_of, vote=options.duplicates == "vote")
    trusted_labels, trusted_notes = _labels(trusted, classes.trusted, row_of, vote=None)
    notes = [*listing.notes, *noisy_notes, *trusted_notes]
    labeled = set(range(len(listing.names))) if noisy is None else {*(noisy.images or ())} - {None}
    if noisy is not None and (n_unlabeled := len(listing.names) - len(labeled)):
        notes.append(f"{noisy.name}: images without a row, used as unlabeled: {n_unlabeled:,}")
    notes += label_warnings(classes.names, noisy_labels, trusted_labels)
    if any(rows.entries is None for rows in tables):
        # In the order of the images, in which labels without names were matched.
        order = [row_of[image] for image in range(len(listing.names))]
        notes += misalignment(noisy_labels[order], trusted_labels[order])
    skipped = {row_of[image]: why for image, why in listing.skipped.items()}
    for rows in tables:
        of_rows = _keys(rows)
        skipped |= {row_of[of_rows[row]]: why for row, why in rows.skipped.items()}
    in_order = images == tuple(range(len(images)))
    return Dataset(
        names=tuple(listing.names[key] if isinstance(key, int) else key for key in row_of),
        source=listing.source if in_order else PickedSource(listing.source, images),
        classes=classes.names,
        noisy=noisy_labels,
        trusted=trusted_labels,
        titles=classes.titles,
        skipped=dict(sorted(skipped.items())),
        notes=tuple(dict.fromkeys(notes)),  # one table may give both labels
        accept_truncated=options.accept_truncated,
        limits=options.limits,
    )


def _keys(rows: LabelRows) -> list[Key]:
    """What identifies each row of a table; two rows with one key are of one image."""
    entries = rows.entries or ()
    return [entries[row] if image is None else image for row, image in enumerate(rows.images or ())]


def _labels(
    rows: LabelRows | None, index: Mapping[str, int], row_of: Mapping[Key, int], *, vote: bool | None
) -> tuple[Labels, tuple[str, ...]]:
    """(label of each image, notes)"""
    if rows is None:
        return np.full(len(row_of), UNKNOWN, dtype=np.int64), ()
    places = [row_of[key] for key in _keys(rows)]
    indices = [index[label] for label in rows.labels[: len(places)]]
    labels, merged = one_label_each(rows, places, indices, len(row_of), vote=vote)
    empty = indices.count(UNKNOWN)
    missing = (f"{rows.name}: empty labels, used as unknown: {empty:,}",) if empty else ()
    return labels, (*rows.notes, *missing, *merged)
