"""Pictures that tests draw, and files made of them."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

from assay.data.dataset import Skipped
from assay.data.decode import DecodedImage, decode


def picture(height: int = 48, width: int = 64) -> Image.Image:
    """A smooth picture without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / width, 255 * y / height, 128 + 100 * np.sin(6 * x / width + 4 * y / height)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of the image in a format."""
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG, with its CRC."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, bits: int = 8) -> bytes:
    """A gray PNG with these chunks between IHDR and IEND."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment at its beginning."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def mpf(*codes: int, order: str = "<") -> bytes:
    """An MPF segment that lists one picture for each type code."""
    entries = b"".join(struct.pack(order + "IIIHH", code, 1000, 0, 0, 0) for code in codes)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    index = struct.pack(order + "IHHHIII", 8, 1, 0xB002, 7, len(entries), 26, 0)
    return b"MPF\0" + magic + index + entries


def decoded(data: bytes, **options: object) -> DecodedImage:
    """What ``decode`` makes of a file that it must not skip."""
    found = decode(data, **options)
    assert isinstance(found, DecodedImage), found
    return found


def reason(data: bytes, **options: object) -> str:
    """Why ``decode`` skips a file that it must skip."""
    found = decode(data, **options)
    assert isinstance(found, Skipped), found
    return found.reason


def difference(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Distance of each value from that of the image."""
    return np.abs(pixels.astype(int) - np.asarray(image))
