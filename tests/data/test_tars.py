import bz2
import copy
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
from packing import LIMIT, PNG, packed, reasons, tarred, zipped

from assay.data.archives import scan_archive
from assay.errors import DataError, ResourceError


def test_a_damaged_header_inside_a_tar_is_refused(tmp_path):
    """Python's tarfile would take it for the end and lose all images behind it without a word."""
    data = bytearray(tarred({"a.png": PNG, "b.png": PNG, "c.png": PNG}))
    data[data.index(b"b.png") + 3] ^= 1
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"got a damaged one \(no end mark at byte 1024\)"):
        scan_archive(tmp_path / "x.tar")


def test_a_gzip_of_something_else_is_refused(tmp_path):
    """A compressed file that is no tar is damaged as a tar."""
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"just text, of some length" * 99))
    with pytest.raises(DataError, match="expected a whole tar file, got a damaged one"):
        scan_archive(tmp_path / "x.gz")


SPECIAL = [
    ("hard.png", tarfile.LNKTYPE, "a.png"),
    ("lost.png", tarfile.LNKTYPE, "no.png"),
    ("soft.png", tarfile.SYMTYPE, "/etc/passwd"),
    ("fifo.png", tarfile.FIFOTYPE, ""),
    ("sparse.png", tarfile.GNUTYPE_SPARSE, ""),
]


def test_special_members_of_a_tar_are_skipped(tmp_path):
    """Links and devices are skipped rows; a hard link to a member reads that member."""
    buffer = io.BytesIO(tarred({"a.png": PNG}, tarfile.GNU_FORMAT))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for name, kind, link in SPECIAL:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info)
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    listing = scan_archive(tmp_path / "x.tar")
    assert reasons(listing) == {
        "lost.png": "missing",
        "soft.png": "not_regular",
        "fifo.png": "not_regular",
        "sparse.png": "unsupported",
    }
    assert listing.source.read(listing.names.index("hard.png")) == PNG


def test_a_large_member_of_a_tar_is_skipped(tmp_path):
    """The limit of 64 MiB holds in a tar."""
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(tarred({"a.png": bytes(LIMIT + 1), "b.png": PNG}), 1))
    assert reasons(scan_archive(tmp_path / "x.tar.gz")) == {"a.png": "too_large"}


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    """A zip inside a tar does not make it a zip."""
    inner = zipped(tmp_path / "inner.zip", {"in.png": PNG}, zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "x").write_bytes(tarred({"a.png": PNG, "inner.zip": inner}))
    assert scan_archive(tmp_path / "x").names == ("a.png",)


def test_a_compressed_tar_leaves_no_file(tmp_path, monkeypatch):
    """It is unpacked into a file without a name, and cannot be copied to another process by mistake."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    source = scan_archive(packed(tmp_path, "tar.gz", {"a.png": PNG})).source
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(
        TypeError, match=r"^a compressed tar cannot be sent to another process; unpack it into a"
    ):
        copy.copy(source.store)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    """Fault 48: no room to unpack a compressed tar names the place and what to do."""
    path = packed(tmp_path, "tar.gz", {"a.png": PNG})
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path.open, Path("/dev/full"), "wb", buffering=0))
    message = (
        r": expected room to unpack it in .*, got: No space left on device after 0 bytes; set TMPDIR to a"
    )
    with pytest.raises(ResourceError, match=message):
        scan_archive(path)


def test_a_bomb_of_a_tar_is_refused(tmp_path, monkeypatch):
    """A compressed tar that unpacks without end is stopped at a multiple of its size."""
    monkeypatch.setattr("assay.data.tars._SMALL_BYTES", 1_000_000)
    path = tmp_path / "x.tar.xz"
    path.write_bytes(lzma.compress(bytes(8_000_000)))
    with pytest.raises(DataError, match=r"damaged one \(it unpacks to more than 1,000,000 bytes\)"):
        scan_archive(path)


def test_an_invalid_name_is_kept(tmp_path):
    """Fault 25: bytes of a tar that are no UTF-8 come back exactly."""
    name = b"bad\xff\xfe.png".decode("utf-8", "surrogateescape")
    (tmp_path / "x.tar").write_bytes(tarred({name: PNG, "new\nline.png": PNG}, tarfile.GNU_FORMAT))
    assert scan_archive(tmp_path / "x.tar").names == (name, "new\nline.png")


def _renumbered(data: bytes, size: bytes) -> bytes:
    """The first header of a tar with another size, and the sum that goes with it."""
    header = bytearray(data[:512])
    header[124:136], header[148:156] = size, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


@pytest.mark.parametrize("size", [b"\xff" * 11 + b"\x00", b"\x80" + b"\xff" * 11], ids=["negative", "huge"])
def test_a_size_that_cannot_be_is_refused(tmp_path, size):
    """One would lead back to an earlier header for ever, the other is beyond what a file can have."""
    (tmp_path / "x.tar").write_bytes(_renumbered(tarred({"a.png": PNG, "b.png": PNG}), size))
    with pytest.raises(DataError, match="expected a whole tar file, got a damaged one"):
        scan_archive(tmp_path / "x.tar")


def test_a_damaged_bzip2_is_refused(tmp_path):
    """bz2 has no error of its own for it."""
    data = bytearray(bz2.compress(tarred({"a.png": PNG})))
    data[len(data) // 2] ^= 255
    (tmp_path / "x.tar.bz2").write_bytes(data)
    with pytest.raises(DataError, match="expected a whole tar file, got a damaged one"):
        scan_archive(tmp_path / "x.tar.bz2")


def test_a_tar_of_the_folder_itself_is_read(tmp_path):
    """As ``tar cf images.tar images/.`` makes it: the dot is no hidden folder."""
    (tmp_path / "x.tar").write_bytes(tarred({"images/./1.png": PNG, "images/./a/2.png": PNG}))
    assert scan_archive(tmp_path / "x.tar").names == ("images/1.png", "images/a/2.png")
