"""Messages read without the package that writes them."""

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from assay.predict.protobuf import Message


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.text(max_size=20),
    st.binary(max_size=300),
)
def test_what_the_package_writes_is_read(sides, name, raw):
    """Numbers of any sign, packed or not, text and bytes come back."""
    tensor = TensorProto(dims=sides, name=name, raw_data=raw)
    read = Message(memoryview(tensor.SerializeToString()))
    assert read.numbers(1) == sides
    assert read.text(8) == name
    assert read.size(9) == len(raw)
    assert (1 in read) == bool(sides)


def test_messages_in_messages_and_packed_numbers():
    """An operator's attributes, one of them a list of numbers, and a fixed-width one."""
    node = helper.make_node("Pad", ["a"], ["b"], pads=[1, -2, 300], value=0.5)
    pads, value = Message(memoryview(node.SerializeToString())).parts(5)
    assert (pads.text(1), pads.numbers(8)) == ("pads", [1, -2, 300])
    assert (value.text(1), value.numbers(8)) == ("value", [])
    packed = onnx.TensorProto(int64_data=[1, -2, 300])
    assert Message(memoryview(packed.SerializeToString())).numbers(7) == [1, -2, 300]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    """Whatever comes ends in a message that holds no more than its bytes, or in a ValueError, and at once."""
    try:
        read = Message(memoryview(data))
    except ValueError:
        return
    for number in range(30):
        with contextlib.suppress(ValueError):
            assert 0 <= read.size(number) <= len(data)
        with contextlib.suppress(ValueError):
            assert len(read.text(number)) <= read.size(number)
        with contextlib.suppress(ValueError):
            assert len(read.parts(number)) <= len(data)
        with contextlib.suppress(ValueError):
            assert all(-(2**63) <= found < 2**63 for found in read.numbers(number))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x80" * 20, r"^a number without an end$"),
        (b"\x02\x00", r"^a field of number 0$"),
        (b"\xba\x80\x80\x80\x10\x00", r"^a field of number 536870919$"),
        (b"\x08", r"^a number without an end$"),
        (
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            r"^wire type 2 of 9223372036854775807 bytes, with 0 left$",
        ),
        (b"\x0d\x01\x02", r"^wire type 5 of 4 bytes, with 2 left$"),
        (b"\x0b\x0c", r"^wire type 3 of -1 bytes, with 1 left$"),
    ],
)
def test_bytes_that_are_no_message_are_refused(data, why):
    """Lengths beyond the end, numbers without one, and the groups of old."""
    with pytest.raises(ValueError, match=why):
        Message(memoryview(data))


def test_a_number_is_no_message():
    """A field asked for as something that it is not."""
    read = Message(memoryview(b"\x08\x01"))
    with pytest.raises(ValueError, match=r"^field 1 holds a number$"):
        read.parts(1)
