"""Image files before they are decoded: formats, headers, EXIF."""

import struct
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import mpf, with_segment
from PIL import Image

from assay.data.decode import BadImageError, check_png, declared_size, decode, orientation, split_jpeg
from assay.data.files import IMAGE_EXTENSIONS, Skipped, allowed_format, extension, foreign_format


def saved(form: str, size: tuple[int, int] = (37, 21), **options) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, (200, 10, 60)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("head", "allowed", "foreign"),
    [
        *((saved(form)[:32], form, None) for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")),
        (b"\xff\x0a\x00", None, "JPEG XL"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='x'/>", None, "SVG"),
        *((head, None, None) for head in (b"", b"\x89PN", b"<html>", b"BMW and other makers, a list")),
        *((head, None, None) for head in (b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypmp42", b"P7x")),
    ],
)
def test_a_format_is_known_by_its_first_bytes(head, allowed, foreign):
    """Fault 15: an allowed image, one of another format, and text, sound or film are told apart."""
    assert (allowed_format(head), foreign_format(head)) == (allowed, foreign)


def test_an_extension_is_the_end_of_the_last_part():
    """Fault 16: in lower case; that of a HEIC photo promises an image, which is skipped later."""
    names = {"a.JPG": ".jpg", "x.y/a": "", "x/a.tar.GZ": ".gz", ".png": "", "a.": "", "a\udcff.PnG": ".png"}
    assert {name: extension(name) for name in names} == names
    assert ".heic" in IMAGE_EXTENSIONS


@pytest.mark.parametrize(
    ("harm", "reason", "message"),
    [
        (lambda data: data[:-12], "corrupt", "PNG has no IEND chunk"),
        (
            lambda data: data[:-16] + b"\0\0\0\0" + data[-12:],
            "corrupt",
            "PNG chunk b'IDAT' at byte 33 has a wrong CRC",
        ),
        (lambda data: data[:45], "truncated", "PNG ends inside the chunk b'IDAT' at byte 33"),
        (lambda data: data[:37], "truncated", "PNG ends inside the chunk at byte 33"),
        (lambda data: data[:8], "corrupt", "PNG has no IEND chunk"),
    ],
    ids=["no IEND", "bad CRC", "cut in a chunk", "cut in a chunk header", "signature only"],
)
def test_a_damaged_png_is_refused(harm, reason, message):
    """Fault 4: damage that Pillow would not notice is named with its place; bytes after the end are none."""
    check_png(saved("PNG") + b"trailing bytes")
    assert decode(harm(saved("PNG"))) == Skipped(reason, message)


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("GIF", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"x"})],
)
def test_the_declared_size_is_the_size(form, options):
    """Fault 5: of plain, lossless and extended WebP, PNG and GIF; a file that ends there is truncated."""
    assert declared_size(saved(form, **options), form) == (37, 21)
    with pytest.raises(BadImageError, match=f"^{form} ends inside its header$"):
        declared_size(saved(form)[:18], form)


@pytest.mark.parametrize("junk", [b"", b"\0", b"\x01\x02", b"!\x01\0\x01,\0", b"!\xfe\0"])
def test_a_gif_frame_beyond_its_screen_counts(junk):
    """Fault 5: it is the frame that Pillow finds, behind comments and bytes of no standard too."""
    for data in (saved("GIF"), saved("GIF", comment=b"c" * 600, transparency=0)):
        frame = data.index(b",", 13)
        hidden = data[:6] + struct.pack("<HH", 1, 1) + data[10:frame] + junk + data[frame:]
        assert declared_size(hidden, "GIF") == Image.open(BytesIO(hidden)).size == (37, 21)
    assert declared_size(data[:10] + b"\0\0\0;", "GIF") == (37, 21)


def test_exif_is_cut_out_of_a_jpeg():
    """Each block, also behind fill bytes; the first one is returned, and nothing else changes."""
    plain = saved("JPEG")
    assert split_jpeg(plain)[0] is plain  # the common way copies nothing
    data = with_segment(
        with_segment(with_segment(plain, 0xE1, b"Exif\0\0second"), 0xE5, b"other"), 0xE1, b"Exif\0\0first"
    )
    assert split_jpeg(data) == (with_segment(plain, 0xE5, b"other"), b"Exif\0\0first")
    filled = plain[:2] + b"\xff\xff\xff" + with_segment(plain, 0xE1, b"Exif\0\0here")[2:]
    assert split_jpeg(filled)[1] == b"Exif\0\0here"


@pytest.mark.parametrize(
    ("index", "is_refused"),
    [
        (mpf(0x030000, 0x020002, order="<"), True),
        (mpf(0x030000, 0x020002, order=">"), True),
        (mpf(0x030000), False),
        (mpf(0x030000, 0x010001, 0x010002), False),
        (mpf(0x030000, 0), False),
        (mpf(0x030000, 0, 0), False),
        (mpf(0x030000, 0x020002)[:-20], False),
        (b"MPF\0", False),
    ],
    ids=["stereo", "big endian", "one", "previews", "gain map", "gain map and depth", "cut", "empty"],
)
def test_only_a_second_view_makes_a_jpeg_a_multi_picture_file(index, is_refused):
    """Fault 15: what phones add to a photo does not make it another format."""
    data = with_segment(saved("JPEG"), 0xE2, index)
    if is_refused:
        with pytest.raises(BadImageError, match=r"^MPO \(several pictures in one JPEG\)$"):
            split_jpeg(data)
    else:
        assert split_jpeg(data)[0] == data


def block(entry: bytes, order: str = "<", start: int = 8) -> bytes:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", start) + bytes(start - 8) + struct.pack(order + "H", 1) + entry


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_read_in_both_byte_orders(order):
    """Fault 12: a long number and 0, as some programs write them, count too; without one it is 1."""
    for values, turn in (
        (struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0), 6),
        (struct.pack(order + "HHII", 0x0112, 4, 1, 6), 6),
        (struct.pack(order + "HHIHH", 0x0112, 3, 1, 0, 0), 1),
        (struct.pack(order + "HHII", 0x0128, 3, 1, 2), 1),
    ):
        assert orientation(block(values, order, start=20)) == turn


@pytest.mark.parametrize(
    ("exif", "message"),
    [
        (b"", r"EXIF starts with b'', not with a TIFF header"),
        (b"Exif\0\0garbage", r"EXIF starts with b'garb', not with a TIFF header"),
        (b"II*\0\xff\xff\xff\xff", "EXIF is cut short: "),
        (block(b""), "EXIF is cut short: "),
        (
            block(struct.pack("<HHII", 0x0112, 3, 1, 9)),
            r"EXIF orientation is 9 \(type 3, count 1\), not 1 to",
        ),
        (
            block(struct.pack("<HHII", 0x0112, 2, 1, 6)),
            r"EXIF orientation is 6 \(type 2, count 1\), not 1 to",
        ),
    ],
)
def test_a_malformed_block_is_an_error(exif, message):
    """Fault 12: nothing is guessed."""
    with pytest.raises(ValueError, match=message):
        orientation(exif)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
)
def test_any_bytes_give_an_orientation_or_a_value_error(tail, head):
    """No block, however hostile, raises anything else."""
    with suppress(ValueError):
        assert 1 <= orientation(head + tail) <= 8
