"""Bytes -> pixels, or why not: the one loader of training, prediction, review and export.

Of the bytes of a file only those of an allowed format are handed to a parser, and only to the parser
of that format. ``decode`` changes nothing that is shared, so it may run in any number of threads.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from assay.data.colour import to_rgb
from assay.data.dataset import Skipped
from assay.data.exif import orientation
from assay.data.formats import allowed_format, foreign_format
from assay.data.headers import BadImageError, check_png, declared_size
from assay.data.jpeg import split_jpeg
from assay.data.limits import USUAL, Limits
from assay.types import Pixels

Seen = TypeVar("Seen")

_MAX_ASPECT = 100
_END_OF_JPEG = b"\xff\xd9"

# The classes themselves rather than Image.open(formats=...): that one lets the JPEG format call the MPO
# parser, warns about large images in all threads, and loads every plugin for TIFF and WebP.
_PARSERS: dict[str, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
}
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


FLAGS = ("animated", "truncated", "bad_exif", "icc_ignored", "rescaled", "low_information", "large")
"""All remarks there are; a stored remark is a bit, so the order stays and new ones go to the end."""

WORDS = {
    "animated": "animated: the first picture is used",
    "truncated": "cut off: what there is is used",
    "bad_exif": "with damaged EXIF: not turned",
    "icc_ignored": "with a colour profile that could not be used",
    "rescaled": "with values of no fixed range: stretched to that of 8 bits",
    "low_information": "of one colour",
    "large": f"of more than {USUAL.max_pixels:,} pixels",
}
"""What each of ``FLAGS`` says of images, for a person."""


def image_warnings_on(flags: Mapping[int, Sequence[str]]) -> tuple[str, ...]:
    """How many images each remark was made of, a line each: ``3 images animated: the first picture is used``.

    Parameters
    ----------
    flags : row -> its remarks
    """
    return image_warning_lines(Counter(flag for found in flags.values() for flag in found))


def image_warning_lines(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The same of how many images each remark was made of."""
    found = ((counts.get(flag, 0), WORDS[flag]) for flag in FLAGS)
    return tuple(f"{n:,} {'image' if n == 1 else 'images'} {words}" for n, words in found if n)


@dataclass(frozen=True)
class Decoded:
    """One image, ready to be resized."""

    pixels: Pixels
    """(H, W, 3) upright sRGB; read-only."""
    flags: tuple[str, ...] = ()
    """Remarks: ``animated`` (the first frame is shown), ``truncated``, ``bad_exif``, ``icc_ignored``,
    ``rescaled`` (values of no fixed range), ``low_information`` (one colour), ``large`` (see ``Limits``)."""


def decode(
    data: bytes, *, at_least: int | None = None, limits: Limits = USUAL, accept_truncated: bool = False
) -> Decoded | Skipped:
    """The first frame of an image file as upright sRGB pixels, or why there is none.

    Parameters
    ----------
    at_least : a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps
        this many pixels; much faster for photos
    accept_truncated : keep the part of a cut file that is there, flagged ``truncated``

    Skipped : ``empty_file``, ``too_large``, ``not_an_image``, ``unsupported_format``,
    ``too_many_pixels``, ``bad_aspect`` (above 100:1), ``truncated``, ``corrupt``
    """
    found = _attempt(data, at_least, limits, keep_part=False)
    if accept_truncated and isinstance(found, Skipped) and found.reason == "truncated":
        return _attempt(data, at_least, limits, keep_part=True)
    return found


def see_picture(picture: Image.Image, limits: Limits = USUAL) -> Pixels | Skipped:
    """(H, W, 3) upright sRGB of a Pillow image, or why there are none: an opened one may not be read yet."""

    def see() -> Pixels:
        _check_size(picture.size, limits)
        rgb, _ = to_rgb(ImageOps.exif_transpose(picture), limits.background)
        return np.asarray(rgb)

    return _guarded(see, b"")


def _attempt(data: bytes, at_least: int | None, limits: Limits, keep_part: bool) -> Decoded | Skipped:
    return _guarded(lambda: _decode(data, at_least, limits, keep_part), data)


def _guarded(see: Callable[[], Seen], data: bytes) -> Seen | Skipped:
    """What ``see`` gives, or why it cannot: ``data`` is what it reads, as far as that is known."""
    try:
        return see()
    except MemoryError:
        # Its size is within the limits: this machine is full, and the image may be good.
        raise
    except Exception as error:  # noqa: BLE001  # hostile bytes can make a parser raise anything
        return _fault(error, data)


def fits(data: bytes, limits: Limits) -> bool:
    """Whether an image file asks for no more than ``limits``, by its header."""
    return declared(data, limits) is not None


def declared(data: bytes, limits: Limits) -> tuple[int, int] | None:
    """(width, height) of an image file by its header; None if it is none, or larger than ``limits``."""
    found = _guarded(lambda: _open(data, limits, keep_part=True), data)
    return None if isinstance(found, Skipped) else found[1].size


def _open(data: bytes, limits: Limits, keep_part: bool) -> tuple[str, ImageFile.ImageFile, bytes]:
    """Format, image of which nothing is decoded yet, and EXIF of a JPEG."""
    kind = _allowed_kind(data, limits)
    exif = b""
    if kind == "JPEG":
        data, exif = split_jpeg(data + _END_OF_JPEG if keep_part else data)
    elif kind == "PNG" and not keep_part:
        check_png(data)
    _check_size(declared_size(data, kind), limits)
    image = _PARSERS[kind](BytesIO(data))
    _check_size(image.size, limits)
    return kind, image, exif


def _decode(data: bytes, at_least: int | None, limits: Limits, keep_part: bool) -> Decoded:
    kind, image, exif = _open(data, limits, keep_part)
    flags = ["truncated"] if keep_part else []
    if image.width * image.height > USUAL.max_pixels:
        flags.append("large")
    if getattr(image, "is_animated", False):
        if kind == "TIFF":
            raise BadImageError("unsupported_format", "TIFF of several pages")
        flags.append("animated")
    if at_least is not None:
        image.draft(None, (at_least, at_least))  # does nothing unless it is a JPEG
    _load(image, keep_part)
    rgb, image_warnings = to_rgb(image, limits.background)
    upright, bad_exif = _upright(rgb, exif or image.info.get("exif", b"") if kind != "TIFF" else b"")
    pixels = np.frombuffer(upright.tobytes(), np.uint8).reshape(upright.height, upright.width, 3)
    return Decoded(pixels, (*flags, *bad_exif, *image_warnings, *_low_information(pixels)))


def _allowed_kind(data: bytes, limits: Limits) -> str:
    if not data:
        raise BadImageError("empty_file", "0 bytes")
    if len(data) > limits.max_bytes:
        raise BadImageError("too_large", f"{len(data):,} bytes, the limit is {limits.max_bytes:,}")
    kind = allowed_format(data)
    if kind is not None:
        return kind
    foreign = foreign_format(data)
    if foreign is not None:
        raise BadImageError("unsupported_format", foreign)
    raise BadImageError("not_an_image", f"starts with {data[:8]!r}, as no known image does")


def _check_size(size: tuple[int, int] | None, limits: Limits) -> None:
    if size is None:
        return
    width, height = size
    if not width * height:
        raise BadImageError("corrupt", f"{width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise BadImageError(
            "too_many_pixels", f"{width} x {height}, the limit is {limits.max_pixels:,} pixels"
        )
    if max(size) > _MAX_ASPECT * min(size):
        raise BadImageError("bad_aspect", f"{width} x {height} is longer than {_MAX_ASPECT}:1")


def _load(image: ImageFile.ImageFile, keep_part: bool) -> None:
    try:
        image.load()
    except (OSError, SyntaxError, EOFError):
        if not keep_part:
            raise
        # The rows decoded so far are in place. Without tiles nothing is left to be loaded: the effect of
        # LOAD_TRUNCATED_IMAGES for this image alone.
        image.tile = []
        image.load()


def _upright(image: Image.Image, exif: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """The image turned as its EXIF says. Pillow has turned a TIFF already."""
    if not exif:
        return image, ()
    try:
        turn = orientation(exif)
    except ValueError:
        return image, ("bad_exif",)
    return (image.transpose(_TRANSPOSITIONS[turn]) if turn > 1 else image), ()


def _low_information(pixels: Pixels) -> tuple[str, ...]:
    first = pixels[0, 0]
    # Most images differ in their first row already, which spares a pass over all.
    constant = (pixels[0] == first).all() and (pixels == first).all()
    return ("low_information",) if constant else ()


def _fault(error: Exception, data: bytes) -> Skipped:
    if isinstance(error, BadImageError):
        return Skipped(error.reason, error.detail)
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, Image.DecompressionBombError):
        return Skipped("too_many_pixels", detail)
    if "too large" in detail or "Too much memory" in detail:  # PNG text that unpacks to megabytes
        return Skipped("too_large", detail)
    return Skipped("truncated" if _is_cut(data) or "truncated" in detail.lower() else "corrupt", detail)


def _is_cut(data: bytes) -> bool:
    """Whether a file that did not decode lacks its end."""
    if data.startswith(b"\xff\xd8"):
        return _END_OF_JPEG not in data[-64:]
    if data.startswith(b"RIFF"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False
