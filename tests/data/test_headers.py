import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from assay.data.formats import BadImageError, check_png, declared_size


def saved(form: str, size: tuple[int, int] = (37, 21), **options) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, (200, 10, 60)).save(buffer, form, **options)
    return buffer.getvalue()


def test_a_whole_png_passes():
    """A PNG passes, with bytes after its end too."""
    check_png(saved("PNG"))
    check_png(saved("PNG") + b"trailing bytes")


@pytest.mark.parametrize(
    ("harm", "reason", "message"),
    [
        (lambda data: data[:-12], "corrupt", "^PNG has no IEND chunk$"),
        (
            lambda data: data[:-16] + b"\0\0\0\0" + data[-12:],
            "corrupt",
            "^PNG chunk b'IDAT' at byte 33 has a wrong CRC$",
        ),
        (lambda data: data[:45], "truncated", "^PNG ends inside the chunk b'IDAT' at byte 33$"),
        (lambda data: data[:37], "truncated", "^PNG ends inside the chunk at byte 33$"),
        (lambda data: data[:8], "corrupt", "^PNG has no IEND chunk$"),
    ],
    ids=["no IEND", "bad CRC", "cut in a chunk", "cut in a chunk header", "signature only"],
)
def test_a_damaged_png_is_refused(harm, reason, message):
    """Damage that Pillow would not notice is told, with the place."""
    with pytest.raises(BadImageError, match=message) as caught:
        check_png(harm(saved("PNG")))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("GIF", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"x"})],
)
def test_the_declared_size_is_the_size(form, options):
    """The header says what decoding would give: plain, lossless and extended WebP, PNG and GIF."""
    assert declared_size(saved(form, **options), form) == (37, 21)


def test_a_gif_frame_beyond_its_screen_counts():
    """A frame larger than the screen would be allocated, so it is part of the size."""
    data = bytearray(saved("GIF"))
    data[6:10] = struct.pack("<HH", 5, 5)
    assert declared_size(bytes(data), "GIF") == (37, 21)


def test_gif_extensions_before_the_frame_are_skipped():
    """Comments and control blocks before the first frame do not hide it."""
    data = saved("GIF", comment=b"c" * 600, transparency=0)
    shrunk = data[:6] + struct.pack("<HH", 1, 1) + data[10:]
    assert declared_size(shrunk, "GIF") == (37, 21)
    assert declared_size(data[:10] + b"\0\0\0;", "GIF") == (37, 21)


@pytest.mark.parametrize("junk", [b"\0", b"\x01\x02", b"!\x01\0\x01,\0", b"!\xfe\0"])
def test_a_gif_frame_behind_junk_is_the_one_that_pillow_finds(junk):
    """Bytes that the standard does not allow cannot hide a frame from the check."""
    data = saved("GIF")
    frame = data.index(b",", 13)
    hidden = data[:6] + struct.pack("<HH", 1, 1) + data[10:frame] + junk + data[frame:]
    assert declared_size(hidden, "GIF") == Image.open(BytesIO(hidden)).size == (37, 21)


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_a_cut_header_is_refused(form):
    """A file that ends inside its header is truncated."""
    with pytest.raises(BadImageError, match=f"^{form} ends inside its header$"):
        declared_size(saved(form)[:18], form)


def test_other_formats_are_left_to_pillow():
    """JPEG, BMP and TIFF can be opened without allocating their pixels."""
    assert declared_size(saved("JPEG"), "JPEG") is None


def test_the_crc_is_that_of_the_kind_and_the_data():
    """The CRC is compared over kind and data, as the PNG specification says."""
    body = b"tEXt" + b"Title\0x"
    chunk = struct.pack(">I", 7) + body + struct.pack(">I", zlib.crc32(body))
    data = saved("PNG")
    check_png(data[:33] + chunk + data[33:])
