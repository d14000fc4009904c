import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from assay.data.headers import BadImageError
from assay.data.jpeg import split_jpeg


def jpeg(**options) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (16, 8), (200, 10, 60)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def mpf(*codes: int, order: str = "<") -> bytes:
    """An MPF segment that lists one picture for each type code."""
    entries = b"".join(struct.pack(order + "IIIHH", code, 1000, 0, 0, 0) for code in codes)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    index = struct.pack(order + "IHHHIII", 8, 1, 0xB002, 7, len(entries), 26, 0)
    return b"MPF\0" + magic + index + entries


def test_a_plain_jpeg_is_left_alone():
    """Without EXIF the bytes are the same object: the common way copies nothing."""
    data = jpeg()
    assert split_jpeg(data).data is data
    assert split_jpeg(data).exif == b""


def test_exif_is_cut_out_wherever_it_is():
    """Every EXIF block is cut, the first is returned, and nothing else changes."""
    plain = jpeg()
    data = with_segment(
        with_segment(with_segment(plain, 0xE1, b"Exif\0\0second"), 0xE5, b"other"), 0xE1, b"Exif\0\0first"
    )
    assert split_jpeg(data) == (with_segment(plain, 0xE5, b"other"), b"Exif\0\0first")


def test_fill_bytes_before_a_segment_are_stepped_over():
    """Any number of FF bytes may stand before a marker."""
    data = jpeg()
    filled = data[:2] + b"\xff\xff\xff" + with_segment(data, 0xE1, b"Exif\0\0here")[2:]
    assert split_jpeg(filled).exif == b"Exif\0\0here"


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_multi_picture_file_is_refused(order):
    """A second picture that is neither preview nor gain map makes an MPO, which is outside the allow-list."""
    data = with_segment(jpeg(), 0xE2, mpf(0x030000, 0x020002, order=order))
    with pytest.raises(BadImageError, match=r"^MPO \(several pictures in one JPEG\)$"):
        split_jpeg(data)


def test_an_mpo_that_pillow_wrote_is_refused():
    """Stereo pictures as Pillow writes them are recognised."""
    data = jpeg()
    buffer = BytesIO()
    other = Image.fromarray(np.full((8, 16, 3), 9, np.uint8))
    Image.open(BytesIO(data)).convert("RGB").save(buffer, "MPO", save_all=True, append_images=[other])
    with pytest.raises(BadImageError, match="MPO"):
        split_jpeg(buffer.getvalue())


@pytest.mark.parametrize(
    ("index", "more"),
    [
        (mpf(0x030000), b""),
        (mpf(0x030000, 0x010001, 0x010002), b""),
        (mpf(0x030000, 0), b'<x hdrgm:Version="1.0"/>'),
        (mpf(0x030000, 0), b"urn:com:apple:photo:2020:aux:hdrgainmap"),
        (mpf(0x030000, 0)[:-20], b""),
        (b"MPF\0", b""),
    ],
    ids=["one picture", "previews", "gain map", "other gain map", "cut index", "empty index"],
)
def test_a_photo_with_previews_or_a_gain_map_is_a_plain_jpeg(index, more):
    """What cameras and phones add to a photo does not make it another format."""
    data = with_segment(jpeg(), 0xE2, index) + more
    assert split_jpeg(data).data == data
