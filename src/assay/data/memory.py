"""Images and labels in memory: arrays, PIL images, lists of paths, data frames, Hugging Face data sets."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from assay.data.dataset import Listing, ReadOptions, Skipped
from assay.data.files import IMAGE_EXTENSIONS, USUAL, Limits, extension, read_named
from assay.data.manifest import listing_of
from assay.data.tables import PATH_COLUMNS, Table, is_missing, known_columns, shown, table_of
from assay.errors import DataError, UsageError

IN_MEMORY = Path("images in memory")
"""Stands for their place in messages."""

GROUPS = "groups"
"""The column that groups given one by one become."""

# Modes of PIL images that a PNG can hold; others become RGB.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


@dataclass(frozen=True)
class MemorySource:
    """Images in memory, and files named one by one; pixels are packed as PNG, which loses nothing."""

    images: Sequence[Any]
    """uint8 arrays (H, W, 3) or (H, W), PIL images, bytes, paths, or ``{"bytes": …, "path": …}``."""
    max_bytes: int = USUAL.max_bytes
    """Of a file; a larger one is skipped."""

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``; safe to call from threads; DataError for an array of another kind."""
        image = self.images[index]
        if isinstance(image, Mapping):
            image = image.get("bytes") or image.get("path")
        if image is None:
            return Skipped("missing_image", "no image in memory")
        if isinstance(image, bytes):
            return image
        if isinstance(image, str | Path):
            return read_named(Path(image), self.max_bytes)
        if not isinstance(image, Image.Image):
            found = np.asarray(image)
            is_grey, is_rgb = found.ndim == 2, found.ndim == 3 and found.shape[2] == 3
            if found.dtype != np.uint8 or not (is_grey or is_rgb) or 0 in found.shape:
                raise DataError(
                    f"images: expected uint8 arrays (H, W, 3) or (H, W), got {found.dtype} {found.shape}"
                )
            image = Image.fromarray(found)
        packed = io.BytesIO()
        try:
            exif = image.getexif()  # turned as the same image in a file is
            image = image if image.mode in _PNG_MODES else image.convert("RGB")
            image.save(packed, "PNG", compress_level=1, **({"exif": exif} if exif else {}))
        except (OSError, ValueError, SyntaxError) as error:  # read from a damaged file only now
            return Skipped("corrupt", str(error))
        return packed.getvalue()


def memory_listing(images: Any, path_column: str | None = None, limits: Limits = USUAL) -> Listing:
    """Images in memory, with the columns that stand beside them as ``table``.

    An image is named by its path or URL if it has one, else by its row from 0.

    Parameters
    ----------
    images : an array (N, H, W, 3) or (N, H, W); N images as ``MemorySource`` takes them, or URLs; a pandas or
        polars frame, a mapping of columns, or a Hugging Face data set, with a column of such images
    path_column : its name, if it has none of the usual names and other columns hold images too

    Raises
    ------
    DataError : no column of images, or several; a Hugging Face data set of several splits
    TableError : one path twice
    """
    if hasattr(images, "features") and hasattr(images, "column_names"):
        return _of_hugging_face(images, path_column, limits)
    if isinstance(images, Mapping) and any(hasattr(part, "column_names") for part in images.values()):
        splits = ", ".join(map(shown, images))
        raise DataError(f"images: expected one data set, got the splits {splits}; give one, such as data[…]")
    if not hasattr(images, "columns") and not isinstance(images, Mapping):
        return _listing(images, None, limits)
    return _of_frame(images, path_column, limits)


def with_columns(
    listing: Listing, options: ReadOptions, *, noisy: Any, trusted: Any, annotations: Any, groups: Any
) -> tuple[Listing, ReadOptions]:
    """The same images, and the options with their labels.

    Parameters
    ----------
    noisy, trusted : the name of a column beside the images, N labels, or a label file or frame with names
    annotations : a file or frame with the image, annotator and label of each row
    groups : the name of a column, or N groups

    Raises
    ------
    DataError : another number than N, or no such column
    """
    n, beside = len(listing.names), listing.table
    columns = () if beside is None else beside.columns or ()

    def labels_of(given: Any, name: str) -> Table | Path | None:
        if given is None or isinstance(given, Path):
            return given
        if isinstance(given, str):
            if beside is not None and given in columns:
                return replace(beside, path=Path(given))  # its name in messages
            if Path(given).is_file():
                return Path(given)
            expected = (
                f"expected one of the columns {', '.join(map(repr, columns))}, or" if columns else "expected"
            )
            raise DataError(f"{name}: {expected} a label file, got {given!r}, which does not exist")
        if isinstance(given, Mapping) or hasattr(given, "columns"):
            return table_of(given, name)
        table = table_of(list(given), name, of_images=True)
        if len(table.rows) != n:
            raise DataError(f"{name}: expected one for each of {n:,} images, got {len(table.rows):,}")
        return table

    found = replace(
        options,
        noisy=labels_of(noisy, "noisy") or options.noisy,
        trusted=labels_of(trusted, "trusted") or options.trusted,
        annotations=labels_of(annotations, "annotations") or options.annotations,
    )
    if isinstance(noisy, str) and noisy in columns:
        found = replace(found, label_column=noisy)
    if isinstance(trusted, str) and trusted in columns:
        found = replace(found, trusted_label_column=trusted)
    if isinstance(groups, str):
        found = replace(found, group_column=groups)
    elif groups is not None:
        cells = labels_of(list(groups), "groups")
        assert isinstance(cells, Table)
        others = beside.rows if beside is not None else ((),) * n
        rows = tuple((*row, *cell) for row, cell in zip(others, cells.rows, strict=True))
        table = replace(cells, columns=(*columns, GROUPS), rows=rows)
        listing, found = replace(listing, table=table), replace(found, group_column=GROUPS)
    return listing, found


def _of_frame(frame: Any, path_column: str | None, limits: Limits) -> Listing:
    """The images in one column of a frame or mapping, and its columns of single values."""
    first = {name: _first(frame[name]) for name in (frame if isinstance(frame, Mapping) else frame.columns)}
    if path_column is not None and path_column not in first:
        raise DataError(f"images: expected a column {path_column!r}, got {', '.join(map(repr, first))}")
    columns = [*first]
    of_images = [name for name in columns if _is_image(first[name])]
    of_paths = [columns[place] for place in known_columns([*map(str, columns)], PATH_COLUMNS)]
    of_paths = of_paths or [name for name in columns if _is_image_path(first[name])]
    # A column of images goes before one of paths, which then only tells what they are called.
    found = of_images or of_paths if path_column is None else [path_column]
    if len(found) != 1:
        raise DataError(
            f"images: expected one column of images or paths, got {len(found) or 'none'} among "
            f"{', '.join(map(repr, columns))}; name it with assay.ReadOptions(path_column=…)"
        )
    # Lists and arrays in a column, such as embeddings, are no labels.
    plain = {
        name: frame[name]
        for name in columns
        if name not in found and (first[name] is None or np.isscalar(first[name]))
    }
    table = table_of(plain, "data frame", of_images=True) if plain else None
    listing = _listing(frame[found[0]], table, limits)
    others = [name for name in of_paths if name not in found]
    if found == of_images and len(others) == 1:
        names = tuple(map(str, frame[others[0]]))
        listing = replace(listing, names=names) if len(set(names)) == len(names) else listing
    return listing


def _of_hugging_face(dataset: Any, column: str | None, limits: Limits) -> Listing:
    """Its images as they are stored, read when they are needed; the labels by the names of their classes."""
    if not hasattr(dataset, "__len__"):
        raise UsageError(
            "images: expected a data set of known length, got a stream; load it without streaming"
        )
    kinds = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    pictures = [name for name, kind in kinds.items() if kind == "Image" and column in (None, name)]
    if not pictures:  # of paths then
        return _of_frame({name: _class_names(dataset, name) for name in kinds}, column, limits)
    if len(pictures) > 1:
        raise DataError(
            f"images: expected one column of images, got {', '.join(pictures)}; name it with "
            "assay.ReadOptions(path_column=…)"
        )
    stored = dataset.cast_column(pictures[0], type(dataset.features[pictures[0]])(decode=False))
    path = f"{pictures[0]}.path"
    # Alone in the table: the bytes of all images are not to be read for their names.
    alone = stored.select_columns(pictures).flatten().select_columns([path]).with_format("arrow")
    paths = alone[:].column(path).to_pylist()
    columns = {
        name: _class_names(dataset, name) for name, kind in kinds.items() if kind in ("ClassLabel", "Value")
    }
    table = table_of(columns, "data set", of_images=True) if columns else None
    names = tuple(paths)
    if not all(names) or len(set(names)) < len(names):
        names = tuple(map(str, range(len(stored))))
    return Listing(names, MemorySource(stored[pictures[0]]), table=table)


def _class_names(dataset: Any, name: str) -> Sequence[Any]:
    """A column, with the names of the classes where its feature has them."""
    titles = getattr(dataset.features[name], "names", None)
    if titles is None:
        return list(dataset[name])
    return [titles[value] if value is not None and value >= 0 else None for value in dataset[name]]


def _listing(images: Iterable[Any], table: Table | None, limits: Limits) -> Listing:
    many = [None if is_missing(image) else image for image in images]
    if not many:
        raise DataError("images: expected at least one, got none")
    kinds = {isinstance(image, str | Path) for image in many if image is not None}
    if kinds == {True}:
        none = ("",) * len(many)
        written = ["" if image is None else str(image) for image in many]
        listing = listing_of(written, none, none, Path.cwd() / IN_MEMORY, "images", limits)
        return replace(listing, table=table)
    return Listing(tuple(map(str, range(len(many)))), MemorySource(many, limits.max_bytes), table=table)


def _first(column: Any) -> Any:
    """The first value that is not missing; None if all are."""
    return next((value for value in column if not is_missing(value)), None)


def _is_image_path(value: Any) -> bool:
    return isinstance(value, str | Path) and extension(str(value)) in IMAGE_EXTENSIONS


def _is_image(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "bytes" in value or "path" in value
    return isinstance(value, bytes | Image.Image) or (isinstance(value, np.ndarray) and value.ndim in (2, 3))
