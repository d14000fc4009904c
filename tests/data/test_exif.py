import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from assay.data.formats import orientation


def block(entry: bytes, order: str = "<", start: int = 8) -> bytes:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", start) + bytes(start - 8) + struct.pack(order + "H", 1) + entry


@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_that_pillow_wrote_is_read(value):
    """What Pillow writes is read back, with its prefix and without."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera of some name", value
    assert orientation(exif.tobytes()) == value
    assert orientation(exif.tobytes().removeprefix(b"Exif\0\0")) == value


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order):
    """Intel and Motorola order say the same."""
    assert orientation(block(struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0), order, start=20)) == 6


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_is_usual_though_wrong_is_read(order):
    """A long number, as other readers take it; 0 of a program that does not know."""
    assert orientation(block(struct.pack(order + "HHII", 0x0112, 4, 1, 6), order, start=20)) == 6
    assert orientation(block(struct.pack(order + "HHIHH", 0x0112, 3, 1, 0, 0), order, start=20)) == 1


def test_no_orientation_means_upright():
    """A block that says nothing of the orientation leaves the picture as it is."""
    assert orientation(block(struct.pack("<HHII", 0x0128, 3, 1, 2))) == 1


@pytest.mark.parametrize(
    ("exif", "message"),
    [
        (b"", r"EXIF starts with b'', not with a TIFF header"),
        (b"Exif\0\0garbage", r"EXIF starts with b'garb', not with a TIFF header"),
        (b"II*\0\xff\xff\xff\xff", "EXIF is cut short: "),
        (block(b""), "EXIF is cut short: "),
        (
            block(struct.pack("<HHII", 0x0112, 3, 1, 9)),
            r"EXIF orientation is 9 \(type 3, count 1\), not 1 to 8",
        ),
        (
            block(struct.pack("<HHII", 0x0112, 2, 1, 6)),
            r"EXIF orientation is 6 \(type 2, count 1\), not 1 to 8",
        ),
    ],
)
def test_a_malformed_block_is_an_error(exif, message):
    """A block that cannot be believed raises instead of guessing."""
    with pytest.raises(ValueError, match=message):
        orientation(exif)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
)
def test_any_bytes_give_a_number_or_a_value_error(tail, head):
    """No block, however hostile, raises anything but ValueError."""
    with suppress(ValueError):
        assert 1 <= orientation(head + tail) <= 8
