"""Images and labels in memory: arrays, PIL images, lists of paths, columns of data frames."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from assay.data.classes import closest
from assay.data.dataset import Dataset, Skipped
from assay.data.paths import natural_key, read_named
from assay.errors import DataError, LabelError
from assay.types import UNKNOWN

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")
"""Of PIL images; others become RGB."""


@dataclass(frozen=True)
class MemorySource:
    """Bytes of images in memory; what has no bytes yet, pixels, is packed as PNG, which loses nothing."""

    images: Sequence[Any]
    """uint8 RGB arrays (H, W, 3), PIL images, bytes, paths, or Hugging Face's ``{"bytes": …, "path": …}``."""

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``; safe to call from threads."""
        image = self.images[index]
        if isinstance(image, dict):
            image = image.get("bytes") or image.get("path")
        if image is None:
            return Skipped("missing_image", "no image in memory")
        if isinstance(image, bytes):
            return image
        if isinstance(image, str | Path):
            return read_named(Path(image))
        return _packed(image if isinstance(image, Image.Image) else Image.fromarray(checked_pixels(image)))


def _packed(picture: Image.Image) -> bytes | Skipped:
    packed = io.BytesIO()
    try:
        exif = picture.getexif()  # turned as the same image in a file is
        picture = picture if picture.mode in PNG_MODES else picture.convert("RGB")
        picture.save(packed, "PNG", compress_level=1, **({"exif": exif} if exif else {}))
    except (OSError, ValueError, SyntaxError) as error:  # read from a damaged file only now
        return Skipped("corrupt", str(error))
    return packed.getvalue()


def checked_pixels(pixels: Any) -> np.ndarray:
    """An RGB image as an array.

    Raises
    ------
    DataError : another shape or type
    """
    found = np.asarray(pixels)
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3 or 0 in found.shape:
        raise DataError(f"images: expected uint8 RGB arrays (H, W, 3), got {found.dtype} {found.shape}")
    return found


def dataset_of(images: Any, noisy: Any, trusted: Any) -> Dataset:
    """A data set of images and labels in memory.

    Parameters
    ----------
    images : an array (N, H, W, 3), or N images as ``MemorySource`` takes them; a Hugging Face data set with a
        column of images
    noisy, trusted : N labels each, None, NaN, "", masked or -1 where unknown; of a Hugging Face data set also
        the name of a column

    Raises
    ------
    DataError : numbers of images and labels that differ, or no image
    LabelError : a trusted label that is no class of the noisy ones, or fewer than two classes
    """
    if hasattr(images, "column_names") and hasattr(images, "features"):  # Hugging Face, without importing it
        noisy, trusted = (_column(images, one) if isinstance(one, str) else one for one in (noisy, trusted))
        kinds = {name: type(images.features[name]).__name__ for name in images.column_names}
        pictures = [name for name, kind in kinds.items() if kind == "Image"]
        if len(pictures) != 1:
            raise DataError(f"images: expected one column of images, got {len(pictures)} among {[*kinds]}")
        images = images[pictures[0]]
    many = list(images)
    given, checked = _words("noisy", noisy, len(many)), _words("trusted", trusted, len(many))
    classes = tuple(sorted({word for word in given if word}, key=natural_key))
    if len(classes) < 2:
        raise LabelError(f"noisy: expected labels of two classes or more, got {[*classes]}")
    strange = next((row for row, word in enumerate(checked) if word and word not in classes), None)
    if strange is not None:
        near = closest(checked[strange], classes)
        hint = f"; did you mean {near!r}?" if near else ""
        raise LabelError(f"trusted[{strange}]: {checked[strange]!r} is no class of the noisy labels{hint}")
    index = {word: i for i, word in enumerate(classes)} | {"": UNKNOWN}
    return Dataset(
        tuple(str(image) if isinstance(image, str | Path) else str(row) for row, image in enumerate(many)),
        MemorySource(many),
        classes,
        np.array([index[word] for word in given], dtype=np.int64),
        np.array([index[word] for word in checked], dtype=np.int64),
    )


def _column(dataset: Any, name: str) -> list[Any]:
    """Labels of a Hugging Face column; class names where it has them."""
    if name not in dataset.column_names:
        raise DataError(f"expected a column {name!r}, got {list(dataset.column_names)}")
    values = list(dataset[name])
    titles = getattr(dataset.features[name], "names", None)
    if not titles:
        return values
    return [titles[value] if value is not None and value >= 0 else None for value in values]


def _words(name: str, labels: Any, n: int) -> list[str]:
    """Labels as text, "" where unknown."""
    if labels is None:
        return [""] * n
    if np.ma.isMaskedArray(labels):
        hidden = np.ma.getmaskarray(labels)
        labels = [None if masked else value for value, masked in zip(labels.data, hidden, strict=True)]
    words = [_word(value) for value in labels]
    if len(words) != n:
        raise DataError(f"{name}: expected a label for each of {n:,} images, got {len(words):,}")
    return words


def _word(value: Any) -> str:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' unknown
        return ""
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    number = float(value) if isinstance(value, int | float | np.number) else math.nan
    if math.isnan(number):
        return "" if isinstance(value, float | np.floating) else str(value)
    if number == UNKNOWN:
        return ""
    # A column of integers with gaps comes as floats: 3.0 is class 3.
    return str(int(number)) if number.is_integer() else str(value)
