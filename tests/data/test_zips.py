import stat
import struct
import zipfile
from pathlib import Path

import pytest
from packing import LIMIT, PNG, reasons, zipped

from assay.data.archives import scan_archive
from assay.data.folders import class_folders


def test_a_nul_in_a_zip_name_is_a_bad_path(tmp_path):
    """Fault 21: zipfile would end the name at the NUL, and show another."""
    path = zipped(tmp_path / "x.zip", {"a.pngX.png": PNG})
    path.write_bytes(path.read_bytes().replace(b"a.pngX.png", b"a.png\0.png"))
    listing = scan_archive(path)
    assert listing.names == ("a.png\ufffd.png",)
    assert reasons(listing) == {"a.png\ufffd.png": "bad_path"}


def test_backslashes_in_a_zip_separate(tmp_path):
    """Zips made by old Windows programs have class folders too."""
    path = zipped(tmp_path / "x.zip", {"cat/1.png": PNG, "dog/2.png": PNG})
    path.write_bytes(path.read_bytes().replace(b"cat/", b"cat\\").replace(b"dog/", b"dog\\"))
    assert class_folders(scan_archive(path), allow_empty=False) == (("cat", "dog"), [0, 1])


def patched(path: Path, name: str, **values: int) -> Path:
    """Change fields of the directory entry of a member."""
    layout = {
        "flags": (8, "H"),
        "method": (10, "H"),
        "packed": (20, "I"),
        "size": (24, "I"),
        "mode": (38, "I"),
    }
    data = bytearray(path.read_bytes())
    entry = data.rindex(name.encode()) - 46
    for field, value in values.items():
        place, code = layout[field]
        struct.pack_into("<" + code, data, entry + place, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"flags": 1}, "unsupported"),
        ({"method": 12}, "unsupported"),
        ({"size": LIMIT + 1}, "too_large"),
        ({"packed": 1000, "size": 2_000_000}, "too_large"),
        ({"mode": (stat.S_IFLNK | 0o777) << 16}, "not_regular"),
    ],
    ids=["encrypted", "other method", "too large", "absurd ratio", "link"],
)
def test_a_zip_member_that_cannot_be_had_is_skipped(tmp_path, values, reason):
    """Encrypted, exotic, huge and special members are skipped rows; the others are read."""
    path = patched(zipped(tmp_path / "x.zip", {"a.png": PNG, "b.png": PNG}), "b.png", **values)
    listing = scan_archive(path)
    assert reasons(listing) == {"b.png": reason}
    assert listing.source.read(0) == PNG
    assert listing.source.read(1) == listing.skipped[1]


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_the_declared_size_is_not_believed(tmp_path, size):
    """A member that holds more or less than its archive says is corrupt, and no more is unpacked."""
    path = patched(zipped(tmp_path / "x.zip", {"a.png": bytes(1000)}), "a.png", size=size)
    assert scan_archive(path).source.read(0).reason == "corrupt"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_inside_a_zip_is_a_skipped_image(tmp_path, method):
    """One damaged member is skipped when it is read; its neighbours are not."""
    path = zipped(tmp_path / "x.zip", {"a.png": PNG, "b.png": PNG, "c.png": PNG}, method)
    data = bytearray(path.read_bytes())
    first = data.index(b"a.png") + 5
    data[first + 20] ^= 0xFF
    data[data.index(b"PK\3\4", first)] = 0
    path.write_bytes(data)
    listing = scan_archive(path)
    assert [getattr(listing.source.read(n), "reason", "read") for n in range(3)] == [
        "corrupt",
        "corrupt",
        "read",
    ]


def test_a_zip_behind_a_program_is_read(tmp_path):
    """A zip that unpacks itself has other bytes before it."""
    path = zipped(tmp_path / "x", {"a.png": PNG})
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    listing = scan_archive(path)
    assert listing.source.read(0) == PNG


@pytest.mark.parametrize(
    ("name", "expected"), [("caf\u00e9.png".encode(), "caf\u00e9.png"), (b"caf\x82.png", "caf\u00e9.png")]
)
def test_names_that_are_utf_8_need_no_flag(tmp_path, name, expected):
    """Many programs write them without; what cannot be UTF-8 is cp437, as the format has it."""
    path = zipped(tmp_path / "x.zip", {"#" * len(name): PNG})
    path.write_bytes(path.read_bytes().replace(b"#" * len(name), name))
    assert scan_archive(path).names == (expected,)


def test_a_zip_of_the_folder_itself_is_read(tmp_path):
    """As some programs pack ``./images`` or ``images/.``: the dot is no hidden folder."""
    names = {"./": b"", "./cat/1.png": PNG, "./dog/./2.png": PNG}
    listing = scan_archive(zipped(tmp_path / "x.zip", names))
    assert listing.names == ("cat/1.png", "dog/2.png")
    assert class_folders(listing, allow_empty=False) == (("cat", "dog"), [0, 1])
