"""Images in a zip or tar: which members are rows, what is refused, and reading them in place."""

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packing import KINDS, LIMIT, PNG, packed, reasons, tarred, zipped

from assay.data.dataset import Skipped
from assay.data.sources import class_folders, scan_archive
from assay.errors import DataError, ResourceError

every_kind = pytest.mark.parametrize("kind", KINDS)
zip_and_tar = pytest.mark.parametrize("kind", ["zip", "tar"])


@every_kind
def test_members_are_read_in_natural_order(tmp_path, kind):
    """Each kind, told by its content, lists its images; each is read in place, in any order, by threads."""
    members = {name: name.encode() * 1000 for name in ("b/10.png", "b/2.png", "1.jpg", "deep/er/x.gif")}
    members["empty.png"] = b""
    listing = scan_archive(packed(tmp_path, kind, members))
    assert listing.names == ("1.jpg", "b/2.png", "b/10.png", "deep/er/x.gif", "empty.png")
    assert (listing.skipped, listing.notes, listing.folders) == ({}, (), ("b", "deep"))
    order = [n * 3 % 5 for n in range(600)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(listing.source.read, order))
    assert found == [members[listing.names[n]] for n in order]


@every_kind
def test_only_images_are_rows(tmp_path, kind):
    """Fault 28: hidden members and other files are counted; other names are judged by content."""
    members = {"a.PNG": PNG, "b": PNG, "c": b"text", "d.csv": b"x", "e.png?w=9": PNG, "__MACOSX/._a.png": PNG,
               ".x/y.png": PNG, "f/Thumbs.db": b"", "photo.heic": b"x", "raw.ARW": PNG}  # fmt: skip  # pairs
    listing = scan_archive(packed(tmp_path, kind, members))
    assert listing.names == ("a.PNG", "b", "e.png?w=9", "photo.heic", "raw.ARW")
    assert reasons(listing) == {"raw.ARW": "unsupported_format"}
    assert listing.notes == (
        "ignored 3 hidden entries",
        "ignored 1 file without an extension: no images",
        "ignored 1 file named *.csv: no images",
    )


@pytest.mark.slow
def test_a_zip_of_many_members_is_read_quickly(tmp_path):
    """More members than a zip of old could count, as zip64 has them, take seconds and few megabytes."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"{number}.png"), b"%d" % number)
    listing = scan_archive(path)
    assert listing.names == tuple(f"{number}.png" for number in range(66_000))
    assert all(listing.source.read(n) == b"%d" % n for n in range(0, 66_000, 10))


@zip_and_tar
def test_hostile_names_are_skipped_rows(tmp_path, kind):
    """Fault 21: a name that leads elsewhere is a row, is never read and nothing is extracted."""
    names = ["../up.png", "a/../../b.png", "/etc/x.png", "C:\\x.png", "..\\..\\y.png", "ok.png"]
    place = tmp_path / "deep" / "er"
    place.mkdir(parents=True)
    listing = scan_archive(packed(place, kind, dict.fromkeys(names, PNG)))
    assert len(listing.names) == 6
    assert [*reasons(listing).values()] == ["bad_path"] * 5
    found = [listing.source.read(index) for index in range(6)]
    assert found == [listing.skipped.get(index, PNG) for index in range(6)]
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "er", "archive"]


def test_a_name_of_any_bytes_is_kept(tmp_path):
    """Faults 21, 25: in a tar exactly, in a zip as UTF-8 where that can be, else cp437; not with a NUL."""
    name = b"bad\xff\xfe.png".decode("utf-8", "surrogateescape")
    (tmp_path / "x.tar").write_bytes(tarred({name: PNG, "new\nline.png": PNG}, tarfile.GNU_FORMAT))
    assert scan_archive(tmp_path / "x.tar").names == (name, "new\nline.png")
    for stored, shown in (
        ("caf\u00e9.png".encode(), "caf\u00e9.png"),
        (b"caf\x82.png", "caf\u00e9.png"),
        (b"a.png\0.png", "a.png\ufffd.png"),  # zipfile would end it at the NUL
    ):
        path = zipped(tmp_path / "x.zip", {"#" * len(stored): PNG})
        path.write_bytes(path.read_bytes().replace(b"#" * len(stored), stored))
        listing = scan_archive(path)
        assert listing.names == (shown,)
        assert listing.source.read(0) == listing.skipped.get(0, PNG)
        assert reasons(listing) == ({shown: "bad_path"} if b"\0" in stored else {})


@zip_and_tar
def test_folders_at_the_top_are_classes(tmp_path, kind):
    """Behind a dot, between backslashes as old Windows programs write, with and without an image."""
    cat = "cat\\./x\\2.png" if kind == "zip" else "cat/./x/2.png"
    path = packed(tmp_path, kind, {"./dog/1.png": PNG, cat: PNG, "owl/no.txt": b"", ".git/x.png": PNG})
    empty = ("./", "./ape/", ".hg/")
    if kind == "zip":
        with zipfile.ZipFile(path, "a") as archive:
            for name in empty:
                archive.writestr(name, b"")
    else:
        with tarfile.open(path, "a") as archive:
            for name in empty:
                info = tarfile.TarInfo(name.rstrip("/"))
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
    listing = scan_archive(path)
    assert listing.names == ("cat/x/2.png", "dog/1.png")
    assert class_folders(listing, allow_empty=True) == (("ape", "cat", "dog", "owl"), [1, 2])
    assert listing.source.read(1) == PNG


@zip_and_tar
def test_one_name_twice_is_refused(tmp_path, kind):
    """A label could be for either of two members of one name."""
    path = tmp_path / "twice"
    if kind == "zip":
        data = zipped(path, {"a.png": b"1", "b.png": b"2"}).read_bytes()
        path.write_bytes(data.replace(b"b.png", b"a.png"))
    else:
        one = tarred({"a.png": b"1"})
        path.write_bytes(one[:1024] + one)
    message = "expected every member to have a name of its own, got 'a.png' 2 times; pack the images again"
    with pytest.raises(DataError, match=f"^{path}: {message} under different names$"):
        scan_archive(path)


@every_kind
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_cut_archive_is_refused(tmp_path, kind, part):
    """A damaged archive is refused before any work, with its name and what to do."""
    path = packed(tmp_path, kind, {f"{n}.png": zlib.compress(bytes(n)) * 99 for n in range(20)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data.rstrip(b"\0")) * part)])
    family = "zip" if "zip" in kind else "tar"
    message = rf"expected a whole {family} file, got a damaged one \(.+\); copy or download it again"
    with pytest.raises(DataError, match=f"^{path}: {message}$"):
        scan_archive(path)


@given(st.data())
def test_a_damaged_archive_is_read_or_refused(tmp_path_factory, data):
    """Whatever bytes are changed or missing, an image is read or skipped, or the whole is refused."""
    folder = tmp_path_factory.mktemp("damaged")
    members = {f"{n}.png": bytes([n]) * 50 for n in range(5)}
    path = packed(folder, data.draw(st.sampled_from(KINDS)), members)
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        content[place] = value
    path.write_bytes(content[: len(content) - data.draw(st.integers(0, 99))])
    try:
        listing = scan_archive(path)
    except DataError:
        return
    for index in range(len(listing.names)):
        assert isinstance(listing.source.read(index), bytes | Skipped)


def test_what_is_no_archive_is_refused(tmp_path, monkeypatch):
    """Fault 24: the message says what can be read and what was found, or why it was not opened."""
    path = tmp_path / "x.zip"
    for content, start in ((b"", "b''"), (b"7z\xbc\xaf'\x1c\0\0", r"b\"7z")):
        path.write_bytes(content)
        message = rf"expected a zip or tar \(plain, gzip, bzip2 or xz\), got a file that starts {start}"
        with pytest.raises(DataError, match=message):
            scan_archive(path)
    with pytest.raises(DataError, match=r"^expected a zip or tar file, got '.*', which is no file; check"):
        scan_archive(tmp_path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # simulated, since root reads all
    with pytest.raises(DataError, match="expected a file that can be read, got: Permission denied; check"):
        scan_archive(path)


@zip_and_tar
def test_an_archive_that_changes_is_noticed(tmp_path, kind, monkeypatch):
    """Fault 29: after a change nothing is read at the old places; an error of the disk is a reason too."""
    path = packed(tmp_path, kind, {"a.png": PNG})
    source = scan_archive(path).source

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        patch.setattr(zipfile.ZipFile, "open", fail)
        assert source.read(0) == Skipped("unreadable", "archive: Input/output error")
    path.write_bytes(path.read_bytes() + b"\0")
    assert source.read(0) == Skipped("changed", "archive was changed while it was in use")
    path.unlink()
    assert source.read(0) == Skipped("changed", "archive: No such file or directory")


FIELDS = {"flags": (8, "H"), "method": (10, "H"), "packed": (20, "I"), "size": (24, "I"), "mode": (38, "I")}
"""Place and kind of some fields in the directory entry of a zip's member."""


def patched(path: Path, name: str, **values: int) -> Path:
    """Change fields of a member's directory entry."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(name.encode()) - 46
    for field, value in values.items():
        place, code = FIELDS[field]
        struct.pack_into("<" + code, data, entry + place, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("values", "reason", "detail"),
    [
        ({"flags": 1}, "unsupported", "encrypted"),
        ({"method": 12}, "unsupported", "compressed by method 12; only deflate can be read"),
        ({"size": LIMIT + 1}, "too_large", "67,108,865 bytes, the limit is 67,108,864"),
        ({"packed": LIMIT + 1}, "too_large", "67,108,865 bytes packed, the limit is 67,108,864"),
        ({"packed": 1000, "size": 2_000_000}, "too_large", "1,000 bytes claim to unpack to 2,000,000"),
        ({"mode": (stat.S_IFLNK | 0o777) << 16}, "not_regular", "a link or device in a zip file"),
    ],
)
def test_a_zip_member_that_is_not_read_is_skipped(tmp_path, values, reason, detail):
    """Encrypted, exotic, huge and special members are skipped rows; the others are read."""
    path = patched(zipped(tmp_path / "x.zip", {"a.png": PNG, "b.png": PNG}), "b.png", **values)
    listing = scan_archive(path)
    assert listing.skipped == {1: Skipped(reason, detail)}
    assert listing.source.read(0) == PNG
    assert listing.source.read(1) == listing.skipped[1]


every_method = pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])


@every_method
@pytest.mark.parametrize("size", [0, 10, 5000])
def test_the_declared_size_is_not_believed(tmp_path, size, method):
    """A member that holds more or less than its archive says is corrupt."""
    path = patched(zipped(tmp_path / "x.zip", {"a.png": bytes(1000)}, method), "a.png", size=size)
    assert scan_archive(path).source.read(0).reason == "corrupt"


def test_a_member_that_unpacks_without_end_takes_no_memory(tmp_path):
    """Fault 6: no more bytes are unpacked than the member declares, whatever it holds."""
    bomb = zipped(tmp_path / "x.zip", {"a.png": bytes(20_000_000)})
    source = scan_archive(patched(bomb, "a.png", size=100_000)).source
    tracemalloc.start()
    assert source.read(0).reason == "corrupt"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@every_method
def test_damage_inside_a_zip_is_a_skipped_image(tmp_path, method):
    """A wrong byte or header is found when its member is read; the neighbours are not affected."""
    path = zipped(tmp_path / "x.zip", {"a.png": PNG, "b.png": PNG, "c.png": PNG}, method)
    data = bytearray(path.read_bytes())
    first = data.index(b"a.png") + 5
    data[first + 20] ^= 0xFF
    data[data.index(b"PK\3\4", first)] = 0
    path.write_bytes(data)
    source = scan_archive(path).source
    assert [getattr(source.read(n), "reason", "read") for n in range(3)] == ["corrupt", "corrupt", "read"]


def test_kinds_are_told_apart_by_content(tmp_path):
    """A zip that unpacks itself has other bytes before it; a tar that ends with a zip is a tar."""
    path = zipped(tmp_path / "x", {"a.png": PNG}, zipfile.ZIP_STORED)
    inner = path.read_bytes()
    path.write_bytes(b"#!/bin/sh\n" * 100 + inner)
    assert scan_archive(path).source.read(0) == PNG
    path.write_bytes(tarred({"b.png": PNG, "inner.zip": inner}))
    assert scan_archive(path).names == ("b.png",)


def test_special_members_of_a_tar_are_skipped(tmp_path):
    """Fault 20: links, devices and large members are skipped; a hard link to a member reads that member."""
    special = [("hard.png", tarfile.LNKTYPE, "a.png"), ("lost.png", tarfile.LNKTYPE, "no.png"),
               ("soft.png", tarfile.SYMTYPE, "/etc/passwd"), ("fifo.png", tarfile.FIFOTYPE, ""),
               ("sparse.png", tarfile.GNUTYPE_SPARSE, "")]  # fmt: skip  # a table
    path = tmp_path / "x.tar"
    path.write_bytes(tarred({"a.png": PNG, "large.png": bytes(LIMIT + 1)}, tarfile.GNU_FORMAT))
    with tarfile.open(path, mode="a") as archive:
        for name, kind, link in special:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info)
    listing = scan_archive(path)
    expected = {"lost.png": "missing", "soft.png": "not_regular", "fifo.png": "not_regular"}
    assert reasons(listing) == {**expected, "sparse.png": "unsupported", "large.png": "too_large"}
    assert listing.source.read(listing.names.index("hard.png")) == PNG


def damaged_tars():
    """Bytes of tars that are damaged in ways of their own, by name."""
    whole = tarred({"a.png": PNG, "b.png": PNG, "c.png": PNG})
    header = bytearray(whole)
    header[header.index(b"b.png") + 3] ^= 1
    # Python's tarfile would take it for the end and lose all images behind it without a word.
    yield "header", bytes(header), r"no end mark at byte 1024"
    # One size would lead back to an earlier header for ever, the other is beyond what a file can have.
    for name, size in (("negative", b"\xff" * 11 + b"\0"), ("huge", b"\x80" + b"\xff" * 11)):
        first = bytearray(whole[:512])
        first[124:136], first[148:156] = size, b" " * 8
        first[148:156] = b"%06o\0 " % sum(first)
        yield name, bytes(first) + whole[512:], ".+"
    yield "gzip of text", gzip.compress(b"just text, of some length" * 99, mtime=0), ".+"
    middle = bytearray(bz2.compress(whole))
    middle[len(middle) // 2] ^= 255
    yield "bzip2", bytes(middle), ".+"


@pytest.mark.parametrize(("_name", "content", "why"), [*damaged_tars()])
def test_a_damaged_tar_is_refused(tmp_path, _name, content, why):
    """Its images would be other ones, or fewer."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=rf"expected a whole tar file, got a damaged one \({why}\)"):
        scan_archive(tmp_path / "x")


def test_a_compressed_tar_is_unpacked_into_a_file_without_a_name(tmp_path, monkeypatch):
    """Fault 48: it is stopped at a multiple of its size, and a full disk names the place and what to do."""
    path = packed(tmp_path, "tar.gz", {"a.png": PNG})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    source = scan_archive(path).source
    assert list((tmp_path / "tmp").iterdir()) == []
    assert source.read(0) == PNG
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path.open, Path("/dev/full"), "wb", buffering=0))
    message = r": expected disk space to unpack it in .*, got: No space left on device after 0 bytes; set TMP"
    with pytest.raises(ResourceError, match=message):
        scan_archive(path)
    monkeypatch.undo()
    monkeypatch.setattr("assay.data.sources._SMALL_TAR_BYTES", 1_000_000)
    path.write_bytes(lzma.compress(bytes(8_000_000)))
    with pytest.raises(DataError, match=r"unpacks to at most 1,000,000 bytes, got more; unpack it"):
        scan_archive(path)
