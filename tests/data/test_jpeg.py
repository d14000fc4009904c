from io import BytesIO

import pytest
from pictures import mpf, with_segment
from PIL import Image

from assay.data.formats import BadImageError, split_jpeg


def jpeg(**options) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (16, 8), (200, 10, 60)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


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
    """A second view, as of stereo cameras, makes an MPO, which is outside the allow-list."""
    data = with_segment(jpeg(), 0xE2, mpf(0x030000, 0x020002, order=order))
    with pytest.raises(BadImageError, match=r"^MPO \(several pictures in one JPEG\)$"):
        split_jpeg(data)


@pytest.mark.parametrize(
    "index",
    [
        mpf(0x030000),
        mpf(0x030000, 0x010001, 0x010002),
        mpf(0x030000, 0),
        mpf(0x030000, 0, 0),
        mpf(0x030000, 0x020002)[:-20],
        b"MPF\0",
    ],
    ids=["one picture", "previews", "gain map", "gain map and depth", "cut index", "empty index"],
)
def test_a_photo_with_more_about_itself_is_a_plain_jpeg(index):
    """What cameras and phones add to a photo does not make it another format."""
    data = with_segment(jpeg(), 0xE2, index)
    assert split_jpeg(data).data == data
