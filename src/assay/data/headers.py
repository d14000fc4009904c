"""What the first bytes of a file promise, checked before Pillow may allocate anything.

Pillow alone would not do: it does not check the CRC of PNG pixel data, allocates the canvas of a WebP
and of a GIF frame while opening, and warns about a large frame in all threads.
"""

import struct
import zlib

_GIF_EXTENSION, _GIF_FRAME, _GIF_END, _GIF_COMMENT = 0x21, 0x2C, 0x3B, 0xFE


class BadImageError(Exception):
    """An image that ``decode`` refuses; becomes a ``Skipped`` there and goes no further."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def check_png(data: bytes) -> None:
    """Walk all chunks of a PNG and compare their CRCs.

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
    """(width, height) that the header of a PNG, GIF or WebP declares; None where only Pillow knows.

    The size of a GIF is that of its screen, widened to hold the first frame.
    """
    reader = {"PNG": _png_size, "GIF": _gif_size, "WEBP": _webp_size}.get(kind)
    try:
        return reader(data) if reader else None
    except (struct.error, IndexError):
        raise BadImageError("truncated", f"{kind} ends inside its header") from None


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


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
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    place = 13 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    while data[place] not in (_GIF_FRAME, _GIF_END):
        place = _after_extension(data, place) if data[place] == _GIF_EXTENSION else place + 1
    if data[place] == _GIF_END:
        return width, height
    left, top, frame_width, frame_height = struct.unpack_from("<4H", data, place + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def _after_extension(data: bytes, place: int) -> int:
    """Where Pillow goes on: past the first empty block, but past a second one if it begins with one.

    A reader that followed the standard instead could be led to another frame than Pillow.
    """
    is_comment = data[place + 1] == _GIF_COMMENT
    place += 2
    if data[place] == 0 and not is_comment:
        place += 1
    while data[place]:
        place += 1 + data[place]
    return place + 1
