"""The one EXIF tag that changes what a picture shows: its orientation.

Read here and not by Pillow, for the reason that ``jpeg.py`` gives.
"""

import struct

_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4


def orientation(exif: bytes) -> int:
    r"""EXIF orientation, 1 (upright) to 8; 1 where the block does not say.

    Parameters
    ----------
    exif : a TIFF header and its first directory, with or without ``Exif\0\0`` before it

    Raises
    ------
    ValueError : the block is cut short, is no TIFF, or says a number outside 0..8; 0 counts as 1
    Source : Exif 2.32, CIPA DC-008-2019, section 4.6.4
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise ValueError(f"EXIF starts with {block[:4]!r}, not with a TIFF header")
    try:
        return _first_directory(block, order)
    except struct.error as error:
        raise ValueError(f"EXIF is cut short: {error}") from None


def _first_directory(block: bytes, order: str) -> int:
    (start,) = struct.unpack_from(order + "I", block, 4)
    (n_entries,) = struct.unpack_from(order + "H", block, start)
    for place in range(start + 2, start + 2 + 12 * n_entries, 12):
        tag, kind, count, value = struct.unpack_from(order + "HHIH", block, place)
        if tag == _ORIENTATION:
            if kind == _LONG:  # against the standard, and as other readers take it
                (value,) = struct.unpack_from(order + "I", block, place + 8)
            if kind not in (_SHORT, _LONG) or count != 1 or not 0 <= value <= 8:
                raise ValueError(f"EXIF orientation is {value} (type {kind}, count {count}), not 1 to 8")
            return int(value) or 1  # 0: a program that does not know
    return 1
