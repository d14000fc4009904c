"""The metadata of a JPEG, found without decoding it.

Pillow would read it too, but reports a damaged EXIF or MPF block as a Python warning, which cannot be
caught in one thread without changing the filters of all.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from assay.data.headers import BadImageError

_MPF_ENTRIES = 0xB002
_ENTRY_BYTES = 16
_VIEWS = 2
"""The class of pictures that are as good as the first: panorama, stereo, several angles."""


class Jpeg(NamedTuple):
    """A JPEG file with its metadata set apart."""

    data: bytes
    """The file without its EXIF blocks."""
    exif: bytes
    """The first EXIF block; empty if there is none."""


def split_jpeg(data: bytes) -> Jpeg:
    """Set the EXIF of a JPEG apart, whatever it holds.

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
        elif marker == 0xE2 and data.startswith(b"MPF\0", start + 4):
            _refuse_views(data[start + 8 : end])
    if not exif:
        return Jpeg(data, b"")
    return Jpeg(b"".join((*kept, data[kept_to:])), exif[0])


def _refuse_views(mpf: bytes) -> None:
    # Phones list previews, gain maps and depth maps beside a photo; to everyone else that is a plain JPEG.
    if _lists_views(mpf):
        raise BadImageError("unsupported_format", "MPO (several pictures in one JPEG)")


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
    """Whether an MPF index lists a second picture that is another view, not something about the first.

    Source : CIPA DC-007-2009, sections 5.2.3 (index) and 5.2.3.3.1 (type code)
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(mpf[:4], "<")
    try:
        (start,) = struct.unpack_from(order + "I", mpf, 4)
        (n_tags,) = struct.unpack_from(order + "H", mpf, start)
        tags = [struct.unpack_from(order + "HHII", mpf, start + 2 + 12 * n) for n in range(n_tags)]
        n_bytes, table = next((tag[2:] for tag in tags if tag[0] == _MPF_ENTRIES), (0, 0))
        places = range(table, table + min(n_bytes, len(mpf)), _ENTRY_BYTES)
        codes = [struct.unpack_from(order + "I", mpf, place)[0] for place in places]
    except struct.error:
        return False
    return any(code >> 16 & 0xFF == _VIEWS for code in codes[1:])
