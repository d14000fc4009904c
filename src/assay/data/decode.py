"""The bytes of one image file -> sRGB pixels, or the reason why it is skipped: the only decoder.

Only files of an allowed format are handed to a parser, and only to the parser of that format. ``decode`` has
no side effects, so it may run in any number of threads. Colours follow fixed rules:

* 16-bit gray is scaled, 65535 to 255; 12-bit TIFF, 4095 to 255.
* Integer (``I``) and float (``F``) images are scaled from the narrowest of the ranges 0..1 (floats only),
  0..255 and 0..65535 that holds all values, or else from minimum to maximum. NaN counts as the minimum.
  The range depends on the image, so it is flagged ``rescaled``.
* Transparent pixels show the background.
* CMYK of a JPEG is inverted, as Adobe writes it and browsers read it.
* A colour profile that fits the pixels is converted to sRGB, by perceptual intent.
"""

import contextlib
import ctypes
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageFile, ImageOps, _imaging
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from assay.data.files import USUAL, Limits, Skipped, allowed_format, foreign_format
from assay.data.resize import TargetSize, to_square
from assay.types import Pixels

T = TypeVar("T")

Damage = Callable[[Pixels], Sequence[UInt8[np.ndarray, "_ _ 3"]]]
"""Variants of an image, made at its own size before it is resized."""

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
_DEEP_GRAY = frozenset(("I;16", "I;16B", "I;16L", "I;16N"))
_NUMBERS = frozenset(("I", "F"))
_PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_BITS_PER_SAMPLE = 258

FLAGS = {
    "animated": "animated (first frame used)",
    "truncated": "truncated (partly used)",
    "bad_exif": "with damaged EXIF (orientation ignored)",
    "icc_ignored": "with an unusable colour profile (ignored)",
    "rescaled": "with values outside 8 bits (rescaled)",
    "low_information": "of a single colour",
    "large": f"of more than {USUAL.max_pixels:,} pixels",
}
"""Flag -> text of each warning about an image that is used. Caches store a flag as the bit at its place here:
the order is fixed, and new ones go to the end."""


class BadImageError(Exception):
    """An image that cannot be decoded; ``decode`` turns it into a ``Skipped``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class DecodedImage:
    """One image."""

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    """Upright sRGB: one as large as it was decoded, or one for each target size; may be read-only."""
    flags: tuple[str, ...] = ()
    """Warnings, keys of ``FLAGS``."""

    @property
    def pixels(self) -> Pixels:
        """The first of ``images``."""
        return self.images[0]


def decode(
    data: bytes,
    targets: Sequence[TargetSize] = (),
    *,
    at_least: int | None = None,
    damage: Damage | None = None,
    limits: Limits = USUAL,
    accept_truncated: bool = False,
) -> DecodedImage | Skipped:
    """The first frame of an image file as upright sRGB pixels, or why it is skipped.

    Parameters
    ----------
    targets : resize to each of these; without any, the image keeps the size that it is decoded at
    at_least : decode a JPEG at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps so many pixels,
        which is much faster for photos; by default the size of the first target
    damage : resize the variants that it makes, instead of the image: all of them to the first target, then
        all to the next
    accept_truncated : use what is left of a truncated file, flagged ``truncated``

    Skipped : ``empty_file``, ``too_large``, ``not_an_image``, ``unsupported_format``,
    ``too_many_pixels``, ``bad_aspect`` (above 100:1), ``truncated``, ``corrupt``
    """
    if at_least is None and targets:
        at_least = targets[0].size
    found = _guarded(lambda: _decode(data, at_least, limits, keep_part=False), data)
    if accept_truncated and isinstance(found, Skipped) and found.reason == "truncated":
        found = _guarded(lambda: _decode(data, at_least, limits, keep_part=True), data)
    if isinstance(found, Skipped) or not targets:
        return found
    variants = [found.pixels] if damage is None else damage(found.pixels)
    return DecodedImage(tuple(to_square(one, *target) for target in targets for one in variants), found.flags)


def decode_opened(image: Image.Image, limits: Limits = USUAL) -> DecodedImage | Skipped:
    """The same for a Pillow image; one that was only opened is read now."""

    def convert() -> DecodedImage:
        _check_size(image.size, limits)
        rgb, flags = to_rgb(ImageOps.exif_transpose(image), limits.background)
        return DecodedImage((np.asarray(rgb),), flags)

    return _guarded(convert, b"")


def size_in_header(data: bytes, limits: Limits) -> tuple[int, int] | None:
    """(width, height) of an image file by its header; None if it is no image or beyond ``limits``."""
    found = _guarded(lambda: _open(data, limits, keep_part=True), data)
    return None if isinstance(found, Skipped) else found[1].size


def warning_lines(counts: Mapping[str, int]) -> tuple[str, ...]:
    """One line for each flag, of flag -> number of images: ``3 images animated (first frame used)``."""
    found = ((counts.get(flag, 0), text) for flag, text in FLAGS.items())
    return tuple(f"{n:,} {'image' if n == 1 else 'images'} {text}" for n, text in found if n)


def _guarded(work: Callable[[], T], data: bytes) -> T | Skipped:
    """The result of ``work``, or why it failed on ``data``."""
    try:
        return work()
    except MemoryError:
        raise  # the size is within the limits: this machine is short of memory, and the image may be good
    except BadImageError as error:
        return Skipped(error.reason, error.detail)
    except Exception as error:  # noqa: BLE001  # hostile bytes can make a parser raise anything
        detail = f"{type(error).__name__}: {error}"
        if isinstance(error, Image.DecompressionBombError):
            return Skipped("too_many_pixels", detail)
        if "too large" in detail or "Too much memory" in detail:  # PNG text that unpacks to megabytes
            return Skipped("too_large", detail)
        is_cut = (
            "truncated" in detail.lower()
            or (data.startswith(b"\xff\xd8") and _END_OF_JPEG not in data[-64:])
            or (data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little"))
        )
        return Skipped("truncated" if is_cut else "corrupt", detail)


def _decode(data: bytes, at_least: int | None, limits: Limits, *, keep_part: bool) -> DecodedImage:
    kind, image, exif = _open(data, limits, keep_part=keep_part)
    flags = ["truncated"] if keep_part else []
    if image.width * image.height > USUAL.max_pixels:
        flags.append("large")
    if getattr(image, "is_animated", False):
        if kind == "TIFF":
            raise BadImageError("unsupported_format", "TIFF of several pages")
        flags.append("animated")
    if at_least is not None:
        image.draft(None, (at_least, at_least))  # does nothing unless it is a JPEG
    try:
        image.load()
    except (OSError, SyntaxError, EOFError):
        if not keep_part:
            raise
        # The rows decoded so far are in place. Without tiles nothing is left to be loaded: the effect of
        # LOAD_TRUNCATED_IMAGES for this image alone.
        image.tile = []
        image.load()
    rgb, colour_flags = to_rgb(image, limits.background)
    exif = exif or image.info.get("exif")
    if exif and kind != "TIFF":  # Pillow has turned a TIFF already
        try:
            turn = orientation(exif)
            rgb = rgb.transpose(_TRANSPOSITIONS[turn]) if turn > 1 else rgb
        except ValueError:
            flags.append("bad_exif")
    pixels = np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.height, rgb.width, 3)
    flags += colour_flags
    first = pixels[0, 0]
    # Most images differ in their first row already, which spares a pass over all.
    if (pixels[0] == first).all() and (pixels == first).all():
        flags.append("low_information")
    return DecodedImage((pixels,), tuple(flags))


def _open(data: bytes, limits: Limits, *, keep_part: bool) -> tuple[str, ImageFile.ImageFile, bytes | None]:
    """Format, image of which nothing is decoded yet, and EXIF of a JPEG."""
    if not data:
        raise BadImageError("empty_file", "0 bytes")
    if len(data) > limits.max_bytes:
        raise BadImageError("too_large", f"{len(data):,} bytes, the limit is {limits.max_bytes:,}")
    kind = allowed_format(data)
    if kind is None:
        if foreign := foreign_format(data):
            raise BadImageError("unsupported_format", foreign)
        raise BadImageError("not_an_image", f"starts with {data[:8]!r}, as no known image does")
    exif = None
    if kind == "JPEG":
        data, exif = split_jpeg(data + _END_OF_JPEG if keep_part else data)
    elif kind == "PNG" and not keep_part:
        check_png(data)
    elif kind == "TIFF":
        _silence_libtiff()
    if (size := declared_size(data, kind)) is not None:
        _check_size(size, limits)  # before Pillow may allocate a canvas
    image = _PARSERS[kind](BytesIO(data))
    _check_size(image.size, limits)
    return kind, image, exif


def _silence_libtiff() -> None:
    """Keep libtiff from printing to stderr what Pillow raises anyway."""
    # For the whole process: to redirect stderr meanwhile would lose lines of other threads.
    with contextlib.suppress(OSError, AttributeError):  # where it is linked into Pillow itself
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if not width * height:
        raise BadImageError("corrupt", f"{width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise BadImageError(
            "too_many_pixels", f"{width} x {height}, the limit is {limits.max_pixels:,} pixels"
        )
    if max(size) > _MAX_ASPECT * min(size):
        raise BadImageError("bad_aspect", f"{width} x {height} is longer than {_MAX_ASPECT}:1")


# --- colours -------------------------------------------------------------------------------------------


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in sRGB over ``background``, and the flags ``rescaled`` and ``icc_ignored``."""
    if image.mode == "RGB" and not image.info.keys() & {"icc_profile", "transparency"}:
        return image, ()
    if image.mode in ("LAB", "HSV"):
        raise BadImageError("unsupported_format", f"colour space {image.mode}")
    flags = ("rescaled",) if image.mode in _NUMBERS else ()
    profile = image.info.get("icc_profile")
    colour, alpha = _split(image)
    rgb = _to_srgb(colour, profile) if profile else colour.convert("RGB")
    if rgb is None:
        rgb, flags = colour.convert("RGB"), (*flags, "icc_ignored")
    if alpha is None:
        return rgb, flags
    canvas = Image.new("RGB", rgb.size, background)
    canvas.paste(rgb, mask=alpha)
    return canvas, flags


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour in one of L, RGB, CMYK, and how opaque each pixel is (L), None for entirely."""
    if image.mode in _DEEP_GRAY or image.mode in _NUMBERS:
        return _deep_to_gray(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in _PROFILE_SPACES else image.convert("RGB")), None


def _deep_to_gray(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image)
    if image.mode in _DEEP_GRAY:
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
        least, span = 0.0, 4095.0 if bits == (12,) else 65535.0
    else:
        finite = values[np.isfinite(values.astype(np.float64))]
        least, greatest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        usual = [top for top in (1.0, 255.0, 65535.0)[image.mode == "I" :] if least >= 0 and greatest <= top]
        least, span = (0.0, usual[0]) if usual else (least, (greatest - least) or 1.0)
    filled = np.nan_to_num(values.astype(np.float32), nan=least, posinf=least + span, neginf=least)
    gray = np.clip((filled - least) * (255.0 / span) + 0.5, 0, 255).astype(np.uint8)
    hidden = image.info.get("transparency")
    opaque = None if hidden is None else Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))
    return Image.fromarray(gray), opaque


def _to_srgb(colour: Image.Image, profile: bytes) -> Image.Image | None:
    """The image converted from ``profile`` to sRGB; None if the profile is broken or of another space."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != _PROFILE_SPACES[colour.mode]:
            return None
        if (source.profile.profile_description or "").startswith("sRGB"):
            return colour.convert("RGB")  # converting would only round
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(colour, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


# --- headers and metadata ------------------------------------------------------------------------------

# Read from the bytes: Pillow does not check the CRC of PNG pixels, allocates the canvas of a WebP and of a
# GIF frame when it opens them, and reports large frames and damaged EXIF as Python warnings, which cannot be
# caught in one thread without changing the filters of all.


def check_png(data: bytes) -> None:
    """Compare the CRCs of all chunks of a PNG."""
    place = 8
    while place < len(data):
        if place + 12 > len(data):
            raise BadImageError("truncated", f"PNG ends inside the chunk at byte {place}")
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            raise BadImageError("truncated", f"PNG ends inside the chunk {kind!r} at byte {place}")
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise BadImageError("corrupt", f"PNG chunk {kind!r} at byte {place} has a wrong CRC")
        if kind == b"IEND":
            return
        place = end + 4
    raise BadImageError("corrupt", "PNG has no IEND chunk")


def declared_size(data: bytes, kind: str) -> tuple[int, int] | None:
    """(width, height) in the header of a PNG, GIF or WebP; None for formats that Pillow opens safely.

    The size of a GIF is that of its screen, widened to hold the first frame.
    """
    try:
        if kind == "PNG":
            width, height = struct.unpack_from(">II", data, 16)
        elif kind == "GIF":
            width, height = _gif_size(data)
        elif kind != "WEBP":
            return None
        elif data[12:16] == b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        elif data[12:16] == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        else:
            width, height = (int.from_bytes(data[place : place + 3], "little") + 1 for place in (24, 27))
    except (struct.error, IndexError):
        raise BadImageError("truncated", f"{kind} ends inside its header") from None
    return width, height


def _gif_size(data: bytes) -> tuple[int, int]:
    extension_start, frame, end, comment = 0x21, 0x2C, 0x3B, 0xFE
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    place = 13 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    while data[place] not in (frame, end):
        if data[place] != extension_start:
            place += 1
            continue
        is_comment = data[place + 1] == comment
        place += 2
        # Pillow goes on behind a first empty block: a reader of the standard would find another frame.
        if data[place] == 0 and not is_comment:
            place += 1
        while data[place]:
            place += 1 + data[place]
        place += 1
    if data[place] == end:
        return width, height
    left, top, frame_width, frame_height = struct.unpack_from("<4H", data, place + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def split_jpeg(data: bytes) -> tuple[bytes, bytes | None]:
    """(the JPEG file without its EXIF blocks, the first of them, unparsed; None if there is none)."""
    exif: list[bytes] = []
    kept: list[bytes] = []
    kept_to, place = 0, 2
    # The segments before the pixels, as far as they can be followed.
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0xDA, 0xD9) or end > len(data):
            break
        if marker == 0xE1 and data.startswith(b"Exif\0\0", place + 4):
            exif.append(data[place + 4 : end])
            kept.append(data[kept_to:place])
            kept_to = end
        elif marker == 0xE2 and data.startswith(b"MPF\0", place + 4) and _lists_views(data[place + 8 : end]):
            raise BadImageError("unsupported_format", "MPO (several pictures in one JPEG)")
        place = end
    # The common way copies nothing.
    return (b"".join((*kept, data[kept_to:])), exif[0]) if exif else (data, None)


def _lists_views(mpf: bytes) -> bool:
    """Whether an MPF index lists a second view (panorama, stereo): class 2 of the type code.

    Phones list previews, gain maps and depth maps beside a photo, which stays a plain JPEG for everyone else.

    Source: CIPA DC-007-2009, sections 5.2.3 (index) and 5.2.3.3.1 (type code)
    """
    entries_tag, entry_bytes, views_class = 0xB002, 16, 2
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(mpf[:4], "<")
    try:
        (start,) = struct.unpack_from(order + "I", mpf, 4)
        (n_tags,) = struct.unpack_from(order + "H", mpf, start)
        tags = [struct.unpack_from(order + "HHII", mpf, start + 2 + 12 * n) for n in range(n_tags)]
        n_bytes, table = next((tag[2:] for tag in tags if tag[0] == entries_tag), (0, 0))
        places = range(table, table + min(n_bytes, len(mpf)), entry_bytes)
        codes = [struct.unpack_from(order + "I", mpf, place)[0] for place in places]
    except struct.error:
        return False
    return any(code >> 16 & 0xFF == views_class for code in codes[1:])


def orientation(exif: bytes) -> int:
    r"""EXIF orientation, 1 (upright) to 8; 1 where the block has none.

    Parameters
    ----------
    exif : a TIFF header and its first directory, with or without ``Exif\0\0`` before it

    Source: Exif 2.32, CIPA DC-008-2019, section 4.6.4
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise ValueError(f"EXIF starts with {block[:4]!r}, not with a TIFF header")
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (n_entries,) = struct.unpack_from(order + "H", block, start)
        for place in range(start + 2, start + 2 + 12 * n_entries, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", block, place)
            if tag != 0x0112:
                continue
            if kind == 4:  # LONG instead of SHORT, against the standard; other readers take it
                (value,) = struct.unpack_from(order + "I", block, place + 8)
            if kind not in (3, 4) or count != 1 or not 0 <= value <= 8:
                raise ValueError(f"EXIF orientation is {value} (type {kind}, count {count}), not 1 to 8")
            return int(value) or 1  # some programs write 0 for unknown
    except struct.error as error:
        raise ValueError(f"EXIF is cut short: {error}") from None
    return 1
