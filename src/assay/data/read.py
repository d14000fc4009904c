"""Reading a data set: find the images, read the label tables, match both, decide the classes.

Rows come in the order of the noisy table, then of the trusted one, then the images that neither names, in
natural order. Labels without names, class folders, Parquet and images in memory keep the order of the images.
A row has the name of its image below the place of the images; a row without an image has the path that the
table wrote.
"""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from assay.data.addresses import copied, parts_of, scan_parts, scan_remote_parts
from assay.data.annotations import all_labels, with_annotators
from assay.data.dataset import Dataset, Listing, PickedSource, ReadOptions
from assay.data.decisions import with_decisions
from assay.data.files import raw_fault
from assay.data.labels import Classes, decide_classes, label_warnings
from assay.data.manifest import is_manifest, manifest_listing, with_manifest
from assay.data.matching import (
    Key,
    LabelRows,
    check_one_each,
    group_of_each,
    match_rows,
    misalignment,
    one_label_each,
)
from assay.data.memory import IN_MEMORY, MemorySource
from assay.data.place import Place, Url
from assay.data.remote import open_url
from assay.data.sources import class_folders, one_image, scan_archive, scan_folder
from assay.data.tables import (
    ANNOTATOR_COLUMNS,
    LABEL_COLUMNS,
    Table,
    find_columns,
    find_labels,
    is_parquet,
    known_columns,
    read_table,
    shown,
    some,
)
from assay.data.vectors import Vectors, read_vectors
from assay.errors import DataError, LabelError, TableError, UsageError
from assay.types import UNKNOWN

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Label files that may lie among the images, as in a Hugging Face image folder."""

_SPLITS = {"train", "training", "test", "val", "valid", "validation", "dev"}
_SHOWN_COLUMNS = 5


def read_dataset(images: Place | Listing | None, options: ReadOptions) -> Dataset:
    """The images of a place or in memory, or ``options.features``, with their noisy and trusted labels.

    Without a noisy file the noisy labels are those of a metadata file in the folder, of the Parquet file
    that holds the images or features, or the names of class folders; else every noisy label is UNKNOWN. A
    manifest may also have the trusted labels and the groups.

    Raises
    ------
    DataError : no image, labels or decisions that do not fit the images, names that are ambiguous
    LabelError : labels that cannot be right
    TableError : a label file or decisions that cannot be read without guessing
    UsageError : an option with an impossible value
    """
    if options.duplicates not in ("refuse", "vote"):
        raise UsageError(
            f"expected --duplicates refuse or vote, got {options.duplicates!r}: an image has one noisy label"
        )
    place: Place
    if isinstance(images, Listing):
        place, listing = IN_MEMORY, images
        noisy, notes = _noisy_labels(place, listing, options)
    elif options.features is not None:
        vectors = _vectors(options.features, options)
        place = vectors.path
        noisy, notes = _noisy_labels(place, Listing((), vectors), options)
        listing = _vector_listing(vectors, noisy, images, options)
    else:
        place, listing = _open(_place(images), options)
        options = with_manifest(place, options)
        noisy, notes = _noisy_labels(place, listing, options)
    return _with_labels(place, replace(listing, notes=(*listing.notes, *notes)), noisy, options)


def read_trusted(images: Place | None, options: ReadOptions, apart: Collection[str] = ()) -> Dataset:
    """The images of a place, or ``options.features``, with their trusted labels alone, such as a test set; it
    may have one class.

    Parameters
    ----------
    apart : labels that are classes each, even if they differ in case alone
    """
    if options.features is None:
        place, listing = _open(_place(images), options)
        options = with_manifest(place, options)
        return _with_labels(place, listing, None, options, least=1, apart=apart)
    vectors, labels = _vectors(options.features, options), None
    if options.trusted is not None:
        labels = _labels_in(options.trusted, vectors.path, options, options.label_column)
    listing = _vector_listing(vectors, labels, images, options)
    return _with_labels(vectors.path, listing, None, options, least=1, apart=apart)


def read_images(images: Place | None, options: ReadOptions | None = None) -> Dataset:
    """The images of a place, or ``options.features``, without labels and without classes."""
    options = options or ReadOptions()
    if options.features is None:
        return _unlabelled(list_images(_place(images), options), options)
    return _unlabelled(_vector_listing(_vectors(options.features, options), None, images, options), options)


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


def list_images(images: Place, options: ReadOptions) -> Listing:
    """The images of a folder, a zip, a tar, a Parquet file, or a folder of such files, in natural order
    (Parquet: its rows), or one image.

    Raises
    ------
    DataError : no such place, a file of another kind, or no image in it
    """
    return _open(images, options)[1]


def _open(images: Place, options: ReadOptions) -> tuple[Place, Listing]:
    """(where they can be read, which is a copy of a file that came from a store; the images)"""
    listing, place = None, images
    if isinstance(images, Url):
        found = open_url(images, options.limits)
        if isinstance(found, Listing):
            # Where there are no images, there may be files full of them.
            parts = None if found.names else scan_remote_parts(images, options.limits, options.path_column)
            listing = parts or found
        else:
            place = found
    if listing is None:
        assert isinstance(place, Path)
        listing = _list_here(place, images, options)
        if isinstance(images, Url) and not is_manifest(place, options):
            listing = copied(listing, place, images)
    if not listing.names:
        ignored = f" ({'; '.join(listing.notes)})" if listing.notes else ""
        raise DataError(f"expected images in {images}, got none{ignored}")
    return place, listing


def _list_here(images: Path, origin: Place, options: ReadOptions) -> Listing:
    try:
        is_folder, exists = images.is_dir(), images.exists()
    except OSError as error:  # a folder above that cannot be searched, or a path that is too long
        raise DataError(f"cannot read {images}: {error.strerror}; check the path and its rights") from error
    if is_folder and (parts := parts_of(images)):
        return scan_parts(parts, options.limits, options.path_column)
    if is_folder:
        return scan_folder(images, follow_symlinks=options.follow_symlinks, limits=options.limits)
    if not exists:
        raise DataError(f"no such folder or file of images: {images}")
    if is_manifest(images, options):
        return manifest_listing(images, origin, options.limits)
    if images.suffix.lower() in (".csv", ".tsv", ".txt", ".json", ".jsonl"):
        raise DataError(
            f"expected images, such as a folder, got {images.name}, which looks like a label file; name the "
            "images first and the label file with its flag, such as --noisy"
        )
    if is_parquet(images):
        from assay.data.parquet import parquet_listing  # polars is slow to import

        return parquet_listing(images, image_column=options.path_column)
    return one_image(images, options.limits) or scan_archive(images, options.limits)


def _with_labels(
    images: Place,
    listing: Listing,
    noisy: LabelRows | None,
    options: ReadOptions,
    *,
    least: int = 2,
    apart: Collection[str] = (),
) -> Dataset:
    """The data set of these noisy labels and of ``options.trusted``."""
    wanted, own = options.label_column, options.trusted_label_column
    trusted = None
    if options.trusted is not None:
        # Of its only labels, the flag is --label-col.
        flag = "--label-col" if noisy is None and own is None else "--trusted-label-col"
        column = wanted if own is None else own
        trusted = _labels_in(options.trusted, images, options, column, flag, must_be=own is not None)
    tables = [rows.table for rows in (noisy, trusted if own is None else None) if rows is not None]
    if wanted is not None and not any(wanted in (table.columns or ()) for table in tables):
        # A column that no table has is a slip, which must not choose another one.
        for table in filter(_has_label, tables):
            find_labels(table, wanted)
    if noisy is not None:
        noisy = match_rows(noisy, listing, images, options, complete=True)
    if trusted is not None:
        trusted = match_rows(trusted, listing, images, options, complete=False)
    grouped = None if options.group_column is None else _groups(listing, noisy, trusted, options.group_column)
    classes = decide_classes(noisy, trusted, options, least=least, apart=apart)
    dataset = _arrange(listing, noisy, trusted, grouped, classes, options, in_memory=images == IN_MEMORY)
    return dataset if options.decisions is None else with_decisions(dataset, options.decisions, images)


def _groups(listing: Listing, noisy: LabelRows | None, trusted: LabelRows | None, column: str) -> LabelRows:
    """The rows that say which group an image is in: noisy ones, else trusted ones, else the images' own."""
    tables = [rows for rows in (noisy, trusted) if rows is not None]
    if (found := next((rows for rows in tables if rows.groups is not None), None)) is not None:
        return found  # of the trusted table alone: groups of the trusted images
    own = listing.table
    if own is not None and column in (own.columns or ()):
        groups = own.column((own.columns or ()).index(column))
        return LabelRows(own, groups, images=tuple(range(len(groups))), groups=groups)
    there = [
        f"{rows.name}: {', '.join(map(shown, rows.table.columns))}" for rows in tables if rows.table.columns
    ]
    raise TableError(
        f"--group-col: expected a column {shown(column)} in the noisy or the trusted labels, got "
        f"{'; '.join(there) or 'labels without columns'}"
    )


def _place(images: Place | None) -> Place:
    if images is None:
        raise UsageError("expected IMAGES or --features FILE, got neither; name a folder of images or a file")
    return images


# Features in place of images


def _vectors(features: Path | Vectors, options: ReadOptions) -> Vectors:
    return features if isinstance(features, Vectors) else read_vectors(features, options.path_column)


def _vector_listing(
    vectors: Vectors, labels: LabelRows | None, images: Place | None, options: ReadOptions
) -> Listing:
    """The rows with their names: their own, those of the label file, those of the images, or numbers from 1.

    Parameters
    ----------
    labels : whose line i belongs to row i where the rows have no names of their own
    images : shown in the report and the review; their names must be those of the rows
    """
    n, names = len(vectors.rows), vectors.names
    if names is None and labels is not None and labels.entries is not None:
        check_one_each(labels, n, vectors.path)
        names = labels.entries
    if images is not None:
        found = list_images(images, options).names
        names = names or found
        if len(names) != n:
            raise DataError(
                f"{vectors.path.name}: expected a row for each of the {len(names):,} images of {images.name} "
                f"in natural order, as the labels have no names, got {n:,}"
            )
        if not {*names} & {*found}:
            raise DataError(
                f"{images.name}: expected the images of the {n:,} rows of {vectors.path.name}, found none: "
                f"the first is called {shown(names[0])}, an image {shown(found[0])}; write the names below "
                f"{images.name} as file, or leave the images out"
            )
    names = names or tuple(str(number) for number in range(1, n + 1))
    return Listing(names, vectors, vectors.skipped)


# Where labels come from


def _noisy_labels(
    images: Place, listing: Listing, options: ReadOptions
) -> tuple[LabelRows | None, tuple[str, ...]]:
    """(labels, notes)"""
    wanted = options.label_column
    if options.annotations is not None:
        if options.noisy is not None:
            raise UsageError("expected --noisy or --annotations, got both: --annotations replaces --noisy")
        return with_annotators(_labels_in(options.annotations, images, options, wanted)), ()
    if options.noisy is not None:
        return _labels_in(options.noisy, images, options, wanted), ()
    table = listing.table
    if table is None and isinstance(images, Path) and is_parquet(images):
        table = read_table(images)  # of features
    if table is not None:
        if wanted is None and not _has_label(table):
            return None, (f"{images.name} has no label column",)
        return _labels_in(replace(table, of_images=True), images, options, wanted), ()
    near = [images / name for name in METADATA_NAMES] if isinstance(images, Path) else []
    files = [path for path in near if path.is_file()]
    if len(files) > 1:
        raise UsageError(
            f"{images.name} holds {', '.join(path.name for path in files)}; name one of them with --noisy"
        )
    notes: tuple[str, ...] = ()
    for path in files:
        table = read_table(path, path_column=options.path_column, label_column=wanted)
        if wanted is not None or _has_label(table):
            labels = _labels_in(table, images, options, wanted)
            # A table among the images has more columns as a rule: captions, sizes.
            return replace(labels, notes=()), (f"noisy labels are read from {path.name}",)
        notes = (f"{path.name} has no label column, so its rows were not read",)
    folders, found = _class_folders(images, listing, options)
    return folders, (*notes, *found)


def _labels_in(
    source: Path | Table,
    images: Place,
    options: ReadOptions,
    column: str | None,
    flag: str = "--label-col",
    *,
    must_be: bool = False,
) -> LabelRows:
    """The labels of a table, in ``column``, which ``flag`` names; unless it must be, also in a known one."""
    table = source
    if not isinstance(table, Table):
        table = read_table(table, path_column=options.path_column, label_column=column)
    columns = table.columns or ()
    groups = None
    if options.group_column in columns:
        groups = table.column(find_labels(table, options.group_column, "--group-col"))
    if column not in columns and _has_label(table) and not must_be:
        column = None  # one flag serves two files
    own = is_parquet(images) and isinstance(images, Path) and table.path.resolve() == images.resolve()
    if own or table.of_images:
        place = find_labels(table, column, flag) if columns else 0
        images_of_rows = tuple(range(len(table.rows)))
        names = table.class_names.get(columns[place], ()) if columns else ()
        return LabelRows(table, table.column(place), None, images_of_rows, groups=groups, class_names=names)
    place, paths = find_columns(table, path_column=options.path_column, label_column=column, label_flag=flag)
    if must_be and column not in columns:  # of a lone column the name does not matter otherwise
        find_labels(table, column, flag)
    entries = None if paths is None else tuple(cells[paths] for cells in table.rows)
    read = [place, paths, columns.index(options.group_column) if groups is not None else None]
    if source is options.annotations:
        read += known_columns(columns, ANNOTATOR_COLUMNS)
    others = [name for i, name in enumerate(columns) if i not in read and name.strip()]
    notes: tuple[str, ...] = ()
    if others:
        used, unused = shown(columns[place]), some(others, _SHOWN_COLUMNS)
        notes = (f"{table.path.name}: labels are read from column {used}; not read: {unused}",)
    names = table.class_names.get(columns[place], ()) if columns else ()
    return LabelRows(table, table.column(place), entries, notes=notes, groups=groups, class_names=names)


def _has_label(table: Table) -> bool:
    return bool(known_columns(table.columns or (), LABEL_COLUMNS))


def _class_folders(
    images: Place, listing: Listing, options: ReadOptions
) -> tuple[LabelRows | None, tuple[str, ...]]:
    """Class folders at the top, or inside the one folder that an archive often begins with."""
    inner = listing
    tops = {name.partition("/")[0] for name in listing.names}
    if len(tops) == 1 and all("/" in name for name in listing.names):
        # The listing's folders are those of the outer level.
        inner = replace(listing, names=tuple(name.partition("/")[2] for name in listing.names), folders=())
    tops = {name.partition("/")[0] for name in inner.names if "/" in name}
    outside = [name for name in inner.names if "/" not in name]
    if len(tops) < 2:
        return None, ()
    if outside:
        note = (
            f"the {len(tops):,} folders of {images.name} are not read as classes: {len(outside):,} of "
            f"{len(inner.names):,} images lie outside them, such as {shown(outside[0])}"
        )
        return None, (note,)
    if tops <= _SPLITS:
        raise LabelError(
            f"{images.name} holds the folders {', '.join(sorted(tops))}, which are parts of a data set "
            "rather than classes; give one of them as the images"
        )
    classes, places = class_folders(inner, allow_empty=options.allow_empty_classes)
    labels = tuple(classes[place] for place in places)
    rows = tuple(range(len(labels)))
    cells, numbers = tuple((label,) for label in labels), tuple(row + 1 for row in rows)
    table = Table(Path(images.name), None, cells, numbers, "image")
    found = LabelRows(table, labels, images=rows, declared=classes)
    return found, ("noisy labels are the class folders",)


# One row for each image


def _arrange(
    listing: Listing,
    noisy: LabelRows | None,
    trusted: LabelRows | None,
    grouped: LabelRows | None,
    classes: Classes,
    options: ReadOptions,
    *,
    in_memory: bool,
) -> Dataset:
    """One row for each image, and one for each path in a table that names no image."""
    tables = [rows for rows in (noisy, trusted) if rows is not None]
    # In the order of the tables, so that a user finds the rows again; images in memory have their own.
    keys: list[Key] = [*(range(len(listing.names)) if in_memory else ())]
    keys += [key for rows in tables for key in rows.keys]
    row_of = {key: row for row, key in enumerate(dict.fromkeys([*keys, *range(len(listing.names))]))}
    images = tuple(key if isinstance(key, int) else None for key in row_of)
    vote, advice = options.duplicates == "vote", ", or use the most frequent label with --duplicates=vote"
    annotations = None
    if noisy is not None and noisy.annotators is not None:
        noisy_labels, annotations, noisy_notes = all_labels(noisy, classes.noisy, row_of)
    else:
        noisy_labels, noisy_notes = one_label_each(noisy, classes.noisy, row_of, vote=vote, advice=advice)
    trusted_labels, trusted_notes = one_label_each(trusted, classes.trusted, row_of)
    groups, group_notes = (None, ()) if grouped is None else group_of_each(grouped, row_of)
    notes = [*listing.notes, *noisy_notes, *trusted_notes, *group_notes]
    if noisy is not None:
        n_unlabeled = len(listing.names) - len({*(noisy.images or ())} - {None})
        if n_unlabeled:
            notes.append(f"{noisy.name}: images without a row, used as unlabeled: {n_unlabeled:,}")
        n_noisy, n_trusted = ((labels != UNKNOWN).sum() for labels in (noisy_labels, trusted_labels))
        if trusted is not None and n_noisy < n_trusted:
            notes.append(
                f"warning: fewer noisy labels ({noisy.name}: {n_noisy:,}) than trusted ones ({trusted.name}: "
                f"{n_trusted:,}); are the two files swapped?"
            )
    notes += label_warnings(classes.names, noisy_labels, trusted_labels)
    if any(rows.entries is None for rows in tables):
        # In the order of the images, in which labels without names were matched.
        order = [row_of[image] for image in range(len(listing.names))]
        notes += misalignment(noisy_labels[order], trusted_labels[order])
    skipped = {row_of[image]: why for image, why in listing.skipped.items()}
    for rows in tables:
        of_rows = rows.keys
        skipped |= {row_of[of_rows[row]]: why for row, why in rows.skipped.items()}
    in_order = images == tuple(range(len(images)))
    return Dataset(
        names=tuple(listing.names[key] if isinstance(key, int) else key for key in row_of),
        source=listing.source if in_order else PickedSource(listing.source, images),
        classes=classes.names,
        noisy=noisy_labels,
        trusted=trusted_labels,
        titles=classes.titles,
        annotations=annotations,
        groups=groups,
        skipped=dict(sorted(skipped.items())),
        notes=tuple(dict.fromkeys(notes)),  # one table may give both labels
        accept_truncated=options.accept_truncated,
        limits=options.limits,
    )
