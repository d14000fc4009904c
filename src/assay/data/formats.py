"""Image files before they are decoded: formats, limits, headers, metadata, and reasons to skip one.

Everything here reads bytes and imports no image library. Pillow alone would not do: it does not check the CRC
of PNG pixels, allocates the canvas of a WebP and of a GIF frame when it opens them, and reports large frames
and damaged EXIF as Python warnings, which cannot be caught in one thread without changing the filters of all.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """Why an image cannot be used. Never an exception, never a missing row."""

    reason: str
    """A code: ``truncated``, ``bad_path``, ``missing_image``…"""
    detail: str = ""
    """What was found, for a person to read."""


@dataclass(frozen=True)
class Limits:
    """The largest image file that is used; one beyond is skipped before it is decoded."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 50_000_000
    """Width times height, as the header declares them."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB color shown behind transparent pixels."""

    @staticmethod
    def of(max_pixels: int) -> "Limits":
        """For images of up to ``max_pixels``; if that is more than usual, max_bytes grows with it."""
        if max_pixels <= USUAL.max_pixels:
            return Limits(max_pixels=max_pixels)
        return Limits(4 * max_pixels, max_pixels)  # more than uncompressed RGB needs


USUAL = Limits()


class BadImageError(Exception):
    """An image that cannot be decoded; ``decode`` turns it into a ``Skipped``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


# --- formats -------------------------------------------------------------------------------------------

SNIFF_BYTES = 512
"""How many first bytes ``allowed_format`` and ``foreign_format`` need."""

_STARTS = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X")
_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)

_FOREIGN_STARTS = {
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "PSD": (b"8BPS",),
    "EPS": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF-",),
    "FITS": (b"SIMPLE  =",),
    "ICO": (b"\0\0\1\0",),
    "DDS": (b"DDS ",),
    "QOI": (b"qoif",),
    "Netpbm": tuple(b"P%d%c" % (kind, space) for kind in range(1, 8) for space in b" \n\r\t"),
}
_FTYP_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}

ALLOWED_EXTENSIONS = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
)
_FOREIGN_EXTENSIONS = frozenset(
    (
        *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".mpo", ".psd", ".eps", ".fits", ".svg"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".dds", ".qoi", ".exr", ".hdr"),
    )
)
_RAW_EXTENSIONS = frozenset(
    (
        *(".nef", ".nrw", ".dng", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf"),
        *(".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw"),
    )
)
IMAGE_EXTENSIONS = ALLOWED_EXTENSIONS | _FOREIGN_EXTENSIONS | _RAW_EXTENSIONS
"""Endings that promise an image. Formats that are not supported count too: such a photo must be reported as
skipped, not be missing."""


def extension(name: str) -> str:
    """The ending of ``name`` in lower case with its dot; empty if there is none."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem and dot and ending else ""


def raw_fault(name: str) -> Skipped | None:
    """Why a camera's raw file is skipped: it looks like a TIFF, but its first image is only a thumbnail."""
    if extension(name) not in _RAW_EXTENSIONS:
        return None
    return Skipped("unsupported_format", "a camera's raw file")


def allowed_format(head: bytes) -> str | None:
    """PNG, JPEG, WEBP, BMP, GIF or TIFF by the first bytes; None if it is none of them."""
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and head[12:16] in _WEBP_CHUNKS:
        return "WEBP"
    # Two letters are too few, "BMW" starts with them: the size of the second header decides.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    return None


def foreign_format(head: bytes) -> str | None:
    """The name of an image format that is not supported, by the first bytes; None if it is none we know."""
    for name, starts in _FOREIGN_STARTS.items():
        if head.startswith(starts):
            return name
    if head[4:8] == b"ftyp":
        return next((name for name, brands in _FTYP_BRANDS.items() if head[8:12] in brands), None)
    text = head[:SNIFF_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text else None


def known_format(head: bytes) -> str | None:
    """The image format, supported or not, by the first bytes; None if it is no image."""
    return allowed_format(head) or foreign_format(head)


def promises_image(name: str, head: bytes) -> bool:
    """Whether a file without an image's ending starts like an image."""
    # With an ending such as .pdf, a file of a foreign format was not meant as a photo.
    return bool(allowed_format(head) if extension(name) else known_format(head))


# --- headers -------------------------------------------------------------------------------------------


def check_png(data: bytes) -> None:
    """Compare the CRCs of all chunks of a PNG.

    Raises
    ------
    BadImageError : ``truncated`` (a chunk is cut), ``corrupt`` (a wrong CRC, no IEND)
    """
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

    Raises
    ------
    BadImageError : ``truncated``
    """
    try:
        if kind == "PNG":
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        if kind == "GIF":
            return _gif_size(data)
        return _webp_size(data) if kind == "WEBP" else None
    except (struct.error, IndexError):
        raise BadImageError("truncated", f"{kind} ends inside its header") from None


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = (int.from_bytes(data[place : place + 3], "little") + 1 for place in (24, 27))
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


# --- metadata ------------------------------------------------------------------------------------------


def split_jpeg(data: bytes) -> tuple[bytes, bytes]:
    """(the JPEG file without its EXIF blocks, the first of them, unparsed; empty if there is none).

    Raises
    ------
    BadImageError : ``unsupported_format`` for a multi-picture file (MPO)
    """
    exif: list[bytes] = []
    kept: list[bytes] = []
    kept_to = 0
    for marker, start, end in _segments(data):
        if marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
            exif.append(data[start + 4 : end])
            kept.append(data[kept_to:start])
            kept_to = end
        elif marker == 0xE2 and data.startswith(b"MPF\0", start + 4) and _lists_views(data[start + 8 : end]):
            raise BadImageError("unsupported_format", "MPO (several pictures in one JPEG)")
    if not exif:
        return data, b""
    return b"".join((*kept, data[kept_to:])), exif[0]


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment before the pixels, as far as they can be followed."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0xDA, 0xD9) or end > len(data):
            return
        yield marker, place, end
        place = end


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

    Raises
    ------
    ValueError : the block is cut short, is no TIFF, or has a number outside 0..8; 0 counts as 1

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
