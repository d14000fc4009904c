"""Reading a data set: find the images, find what is said about them, put both in one order.

Rows come in the order of the noisy table, then of the trusted one, then the images that neither names, in
natural order. Labels without names, class folders and Parquet keep the order of the images.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from assay.data.archives import scan_archive
from assay.data.arrange import arrange
from assay.data.dataset import Dataset, Listing, ReadOptions
from assay.data.decisions import with_decisions
from assay.data.label_files import (
    LabelFile,
    is_parquet,
    pick_columns,
    pick_labels,
    read_any_table,
    unread_columns,
)
from assay.data.labels import decide_classes
from assay.data.pairing import Pairing, pair_by_name, pair_by_order
from assay.data.sources import class_folders, one_image, scan_folder
from assay.data.tables import LABEL_COLUMNS, Table, known_columns, shown
from assay.errors import DataError, LabelError, UsageError
from assay.types import UNKNOWN

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Label files that may lie among the images, as in a Hugging Face image folder."""

TRUSTED_FLAG = "--trusted-label-col"

_SPLITS = {"train", "training", "test", "val", "valid", "validation", "dev"}


@dataclass(frozen=True)
class _Found:
    """Labels that came with the images."""

    file: LabelFile | None = None
    paired: bool = False
    """True if label i is of image i by construction."""
    declared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lacks: Table | None = None
    """The table, if it has no column of the name that was given and the labels are those of a known name."""
    has_column: bool = False
    """Whether it has the column of the name that was given."""


def read_images(images: Path, options: ReadOptions | None = None) -> Dataset:
    """The images of a folder, a zip, a tar or a Parquet file, or one, without labels and without classes.

    Parameters
    ----------
    options : how to find the images; what is said of labels is not read

    Raises
    ------
    DataError : no such place, or no image in it
    TableError : a Parquet file without a column of images, or with several and none is named
    """
    options = options or ReadOptions()
    listing = list_images(images, options)
    # One number, seen as many: there may be millions of images.
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


def read_dataset(images: Path, options: ReadOptions) -> Dataset:
    """The images of a place with their noisy and trusted labels.

    Without a noisy file the noisy labels are those of a metadata file in the folder, of the Parquet file
    that holds the images, or the names of class folders; failing all, every given label is UNKNOWN.

    Raises
    ------
    DataError : no image, labels or decisions that do not fit the images, names that are ambiguous
    LabelError : labels that cannot be right; see ``decide_classes``, ``one_label_each``, ``with_decisions``
    TableError : a label file or decisions that cannot be read without guessing
    UsageError : an option that cannot be
    """
    if options.duplicates not in ("refuse", "vote"):
        raise UsageError(
            f"expected --duplicates refuse or vote, got {options.duplicates!r}: an image has one given label"
        )
    listing = list_images(images, options)
    return _with_labels(images, listing, _noisy(images, listing, options), options)


def read_trusted(images: Path, options: ReadOptions, apart: Collection[str] = ()) -> Dataset:
    """The images of a place with their trusted labels alone: whatever else is said of them is not read.

    Parameters
    ----------
    apart : labels that are classes each, even if they differ in case alone

    Raises
    ------
    AssayError : as ``read_dataset``
    """
    # What is judged may well be of one class alone.
    return _with_labels(images, list_images(images, options), _Found(), options, least=1, apart=apart)


def _with_labels(
    images: Path,
    listing: Listing,
    found: _Found,
    options: ReadOptions,
    *,
    least: int = 2,
    apart: Collection[str] = (),
) -> Dataset:
    trusted = _trusted(images, options, alone=found.file is None)
    lacking = found.lacks or trusted.lacks
    if lacking is not None and not (found.has_column or trusted.has_column):
        pick_labels(lacking, options.label_column)  # says that no file has it
    noisy_pairing = _pair(found, listing, images, complete=True)
    trusted_pairing = _pair(trusted, listing, images, complete=False)
    classes = decide_classes(
        found.file, trusted.file, options, declared=found.declared, least=least, apart=apart
    )
    listing = replace(listing, notes=(*listing.notes, *found.notes, *trusted.notes))
    dataset = arrange(listing, noisy_pairing, trusted_pairing, classes, vote=options.duplicates == "vote")
    dataset = replace(dataset, accept_truncated=options.accept_truncated, limits=options.limits)
    return dataset if options.decisions is None else with_decisions(dataset, options.decisions)


def list_images(images: Path, options: ReadOptions) -> Listing:
    """The images of a folder, a zip, a tar or a Parquet file, in natural order (Parquet: its rows), or one.

    Raises
    ------
    DataError : no such place, a file of another kind, or no image in it
    """
    try:
        is_folder, is_there = images.is_dir(), images.exists()
    except OSError as error:  # a folder above may not be looked into, or the path is too long
        raise DataError(f"cannot read {images}: {error.strerror}; check the path and its rights") from error
    if is_folder:
        listing = scan_folder(images, follow_symlinks=options.follow_symlinks, limits=options.limits)
    elif not is_there:
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


def _trusted(images: Path, options: ReadOptions, *, alone: bool) -> _Found:
    """The trusted labels; ``alone`` where no others are read, so that one flag is theirs."""
    file, own = options.trusted, options.trusted_label_column
    if file is None:
        return _Found()
    if own is None:
        return _named(file, images, options, flag="--label-col" if alone else TRUSTED_FLAG)
    found = _named(file, images, replace(options, label_column=own), flag=TRUSTED_FLAG)
    if not found.has_column:
        pick_labels(read_any_table(file), own, TRUSTED_FLAG)  # says that it lacks it
    return replace(found, lacks=None, has_column=False)


def _named(file: Path, images: Path, options: ReadOptions, *, flag: str = "--label-col") -> _Found:
    """The labels of a file; of the Parquet file that holds the images, row by row."""
    if is_parquet(images) and file.resolve() == images.resolve():
        return _by_row(read_any_table(file), options, flag)
    table = read_any_table(file, path_column=options.path_column, label_column=options.label_column)
    columns = table.columns or ()
    # One flag serves two files: the label column of one may have a known name.
    lacks = options.label_column not in (None, *columns) and bool(known_columns(columns, LABEL_COLUMNS))
    label_column = None if lacks else options.label_column
    labels = pick_columns(table, path_column=options.path_column, label_column=label_column, label_flag=flag)
    note = unread_columns(table, options.path_column, label_column)
    return _Found(
        labels,
        notes=(note,) if note else (),
        lacks=table if lacks else None,
        has_column=options.label_column in columns,
    )


def _pair(found: _Found, listing: Listing, images: Path, *, complete: bool) -> Pairing | None:
    file = found.file
    if file is None:
        return None
    if found.paired:
        return Pairing(file, tuple(range(len(file.labels))))
    if file.entries is None:
        return pair_by_order(file, listing, images, complete=complete)
    return pair_by_name(file, listing, images)


def _noisy(images: Path, listing: Listing, options: ReadOptions) -> _Found:
    if options.noisy is not None:
        return _named(options.noisy, images, options)
    if is_parquet(images):
        return _inside_parquet(read_any_table(images), options)
    found = _metadata(images, options) if images.is_dir() else _Found()
    if found.file is not None:
        return found
    folders = _folders(images, listing, options)
    return replace(folders, notes=(*found.notes, *folders.notes))


def _inside_parquet(table: Table, options: ReadOptions) -> _Found:
    if not _has_label(table, options):
        return _Found(notes=(f"{table.path.name} has no label column",))
    return _by_row(table, options)


def _by_row(table: Table, options: ReadOptions, flag: str = "--label-col") -> _Found:
    labels = pick_labels(table, options.label_column, flag)
    file = LabelFile(table.path, labels, None, table.line_numbers, table.unit)
    return _Found(file, paired=True, has_column=options.label_column is not None)


def _metadata(images: Path, options: ReadOptions) -> _Found:
    files = [images / name for name in METADATA_NAMES if (images / name).is_file()]
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UsageError(f"{images.name} holds {names}; say which one with --noisy")
    for path in files:
        table = read_any_table(path, path_column=options.path_column, label_column=options.label_column)
        if not _has_label(table, options):
            return _Found(notes=(f"{path.name} has no label column, so its rows were not read",))
        file = pick_columns(table, path_column=options.path_column, label_column=options.label_column)
        notes = (f"the noisy labels are those of {path.name}",)
        return _Found(file, notes=notes, has_column=options.label_column is not None)
    return _Found()


def _has_label(table: Table, options: ReadOptions) -> bool:
    return options.label_column is not None or bool(known_columns(table.columns or (), LABEL_COLUMNS))


def _folders(images: Path, listing: Listing, options: ReadOptions) -> _Found:
    """Class folders at the top, or inside the one folder that an archive often begins with."""
    inner = _without_common_folder(listing)
    tops = {name.partition("/")[0] for name in inner.names if "/" in name}
    loose = [name for name in inner.names if "/" not in name]
    if len(tops) < 2:
        return _Found()
    if loose:
        return _Found(
            notes=(
                f"the {len(tops):,} folders of {images.name} are not taken for classes: {len(loose):,} of "
                f"{len(inner.names):,} images lie outside them, such as {shown(loose[0])}",
            )
        )
    if tops <= _SPLITS:
        raise LabelError(
            f"{images.name} holds the folders {', '.join(sorted(tops))}, which look like parts of a data set "
            "and not like classes; give one of them as the images"
        )
    classes, labels = class_folders(inner, allow_empty=options.allow_empty_classes)
    names = tuple(classes[label] for label in labels)
    file = LabelFile(images, names, None, tuple(range(1, len(names) + 1)), unit="image")
    return _Found(file, paired=True, declared=classes, notes=("the noisy labels are the class folders",))


def _without_common_folder(listing: Listing) -> Listing:
    tops = {name.partition("/")[0] for name in listing.names}
    if len(tops) > 1 or not all("/" in name for name in listing.names):
        return listing
    # The folders that are known are those of the outer level.
    return replace(listing, names=tuple(name.partition("/")[2] for name in listing.names), folders=())
