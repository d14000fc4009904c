"""Protocol-buffer messages, read without the package of that name.

The core install has no parser of ONNX files but the one in onnxruntime, which is what hostile files
must be kept from. This one copies nothing, and believes no length that it has not checked.
"""

from collections import defaultdict

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""The wire types; 3 and 4, the groups of old, are in no file of today."""


class Message:
    """The fields of one message by their numbers; a field may come several times.

    Raises
    ------
    ValueError : the bytes are no message; later, a field is not of the kind that it is asked for as
    """

    def __init__(self, data: memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = defaultdict(list)
        place = 0
        while place < len(data):
            key, place = _varint(data, place)
            # Google's parser keeps 32 bits of a key: a larger one is another field there than here.
            if not 8 <= key < 1 << 32:
                raise ValueError(f"a field of number {key >> 3}")
            value, place = _value(data, place, key & 7)
            self._fields[key >> 3].append(value)

    @property
    def fields(self) -> set[int]:
        """The numbers of those that are there."""
        return {*self._fields}

    def __contains__(self, number: int) -> bool:
        """Whether the field is there."""
        return number in self._fields

    def parts(self, number: int) -> list["Message"]:
        """The messages in a field."""
        return [Message(data) for data in self._chunks(number)]

    def raw(self, number: int) -> bytes:
        """The bytes in a field, of the last if there are several; none if there is none."""
        chunks = self._chunks(number)
        return bytes(chunks[-1]) if chunks else b""

    def text(self, number: int) -> str:
        """The text in a field; empty if there is none, the last if there are several."""
        return self.raw(number).decode("utf-8")

    def size(self, number: int) -> int:
        """Bytes in a field."""
        return sum(len(data) for data in self._chunks(number))

    def numbers(self, number: int) -> list[int]:
        """The whole numbers, signed, in a field; they may be packed into one."""
        found: list[int] = []
        for value in self._fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            place = 0
            while place < len(value):
                one, place = _varint(value, place)
                found.append(one)
        return [value - (1 << 64) if value >> 63 else value for value in found]

    def _chunks(self, number: int) -> list[memoryview]:
        chunks = [value for value in self._fields.get(number, ()) if isinstance(value, memoryview)]
        if len(chunks) < len(self._fields.get(number, ())):
            raise ValueError(f"field {number} holds a number")
        return chunks


def _value(data: memoryview, place: int, wire: int) -> tuple[int | memoryview, int]:
    """What a field holds, and where it ends."""
    if wire == _VARINT:
        return _varint(data, place)
    length = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
    if wire == _BYTES:
        length, place = _varint(data, place)
    if not 0 <= length <= len(data) - place:
        raise ValueError(f"wire type {wire} of {length} bytes, with {len(data) - place} left")
    return data[place : place + length], place + length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), data[place : place + 10], strict=False):
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), place + shift // 7 + 1
    raise ValueError("a number without an end")
