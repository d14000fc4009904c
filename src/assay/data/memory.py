"""Images and labels in memory: arrays, PIL images, lists of paths, columns of data frames."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from assay.data.annotations import all_labels, with_annotators
from assay.data.dataset import Dataset, ReadOptions, Skipped
from assay.data.files import USUAL, read_named
from assay.data.labels import decide_classes
from assay.data.matching import Key, LabelRows, group_of_each
from assay.data.tables import find_columns, shown, table_of
from assay.errors import DataError, UsageError
from assay.types import UNKNOWN, Labels

# Modes of PIL images that a PNG can hold; others become RGB.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


@dataclass(frozen=True)
class MemorySource:
    """Images in memory, and files named one by one; pixels are packed as PNG, which loses nothing."""

    images: Sequence[Any]
    """uint8 RGB arrays (H, W, 3), PIL images, bytes, paths, or Hugging Face's ``{"bytes": …, "path": …}``."""
    max_bytes: int = USUAL.max_bytes
    """Of a file; a larger one is skipped."""

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``; safe to call from threads; DataError for an array of another kind."""
        image = self.images[index]
        if isinstance(image, dict):
            image = image.get("bytes") or image.get("path")
        if image is None:
            return Skipped("missing_image", "no image in memory")
        if isinstance(image, bytes):
            return image
        if isinstance(image, str | Path):
            return read_named(Path(image), self.max_bytes)
        if not isinstance(image, Image.Image):
            found = np.asarray(image)
            if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3 or 0 in found.shape:
                raise DataError(
                    f"images: expected uint8 RGB arrays (H, W, 3), got {found.dtype} {found.shape}"
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


def dataset_of(
    images: Any,
    noisy: Any,
    trusted: Any,
    options: ReadOptions | None = None,
    *,
    annotations: Any = None,
    groups: Any = None,
) -> Dataset:
    """A data set of images and labels in memory.

    Parameters
    ----------
    images : an array (N, H, W, 3), or N images as ``MemorySource`` takes them; a Hugging Face data set with a
        column of images
    noisy, trusted : N labels each, None, NaN, "", masked or -1 where unknown; of a Hugging Face data set also
        the name of a column
    annotations : in place of ``noisy``, a mapping or data frame with columns such as file, annotator, label,
        where file is the path of an image, or its place: 0 for the first
    groups : N likewise, such as the patient of each image
    options : how labels become classes
    """
    if hasattr(images, "column_names") and hasattr(images, "features"):  # Hugging Face, without importing it
        noisy, trusted, groups = (
            _column(images, one) if isinstance(one, str) else one for one in (noisy, trusted, groups)
        )
        kinds = {name: type(images.features[name]).__name__ for name in images.column_names}
        pictures = [name for name, kind in kinds.items() if kind == "Image"]
        if len(pictures) != 1:
            raise DataError(f"images: expected one column of images, got {len(pictures)} among {[*kinds]}")
        images = images[pictures[0]]
    many = list(images)
    n = len(many)
    names = tuple(str(image) if isinstance(image, str | Path) else str(row) for row, image in enumerate(many))
    noisy_rows, trusted_rows = _rows(noisy, "noisy", n), _rows(trusted, "trusted", n)
    if annotations is not None:
        if noisy is not None:
            raise UsageError("expected noisy or annotations, got both: annotations replace the noisy labels")
        noisy_rows = _annotations(annotations, names)
    classes = decide_classes(noisy_rows, trusted_rows, options or ReadOptions())
    if noisy_rows is not None and noisy_rows.annotators is not None:
        noisy_labels, given, notes = all_labels(noisy_rows, classes.noisy, {row: row for row in range(n)})
    else:
        noisy_labels, given, notes = _indices(noisy_rows, classes.noisy, n), None, ()
    group_of = None
    if (rows := _rows(groups, "groups", n)) is not None:
        each: dict[Key, int] = {row: row for row in range(n)}
        group_of, more = group_of_each(replace(rows, groups=rows.labels, images=tuple(range(n))), each)
        notes = (*notes, *more)
    return Dataset(
        names,
        MemorySource(many),
        classes.names,
        noisy_labels,
        _indices(trusted_rows, classes.trusted, n),
        classes.titles,
        given,
        group_of,
        notes=notes,
    )


def _annotations(annotations: Any, names: tuple[str, ...]) -> LabelRows:
    table = table_of(annotations, "annotations")
    label, path = find_columns(table)
    entries = None if path is None else table.column(path)
    rows = with_annotators(LabelRows(table, table.column(label), entries))
    place = {name: row for row, name in enumerate(names)}
    for row, entry in enumerate(entries or ()):
        if entry not in place:
            raise DataError(
                f"{table.where(row)}: {shown(entry)} is no image; expected its path, or its place from 0 "
                f"to {len(names) - 1:,}"
            )
    return replace(rows, images=tuple(place[entry] for entry in entries or ()))


def _rows(labels: Any, name: str, n: int) -> LabelRows | None:
    if labels is None:
        return None
    table = table_of(list(labels), name)
    if len(table.rows) != n:
        raise DataError(f"{name}: expected one for each of {n:,} images, got {len(table.rows):,}")
    return LabelRows(table, table.column(0))


def _indices(rows: LabelRows | None, index: Mapping[str, int], n: int) -> Labels:
    if rows is None:
        return np.full(n, UNKNOWN)
    return np.array([index[label] for label in rows.labels], dtype=np.int64)


def _column(dataset: Any, name: str) -> list[Any]:
    """Labels of a Hugging Face column; class names where it has them."""
    if name not in dataset.column_names:
        raise DataError(f"expected a column {name!r}, got {list(dataset.column_names)}")
    values = list(dataset[name])
    titles = getattr(dataset.features[name], "names", None)
    if not titles:
        return values
    return [titles[value] if value is not None and value >= 0 else None for value in values]
