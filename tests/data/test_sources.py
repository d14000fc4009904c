"""Images of a folder, or named one by one: which are rows, which are counted, and reading them."""

import os
import socket
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from packing import PNG, reasons
from pictures import picture, saved

from assay.data.dataset import Skipped
from assay.data.decode import decode
from assay.data.files import Limits
from assay.data.read import read_listed
from assay.data.sources import ScanReport, one_image, scan_archive, scan_folder
from assay.errors import DataError


def fill(root: Path, *names: str, content: bytes = PNG) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_images_are_found_in_natural_order(tmp_path):
    """By the numbers in their names; each index reads its own file, from many threads too."""
    names = ("10.png", "2.png", "b/1.png", "b/c/d.png")
    for name in names:
        fill(tmp_path, name, content=name.encode())
    listing = scan_folder(tmp_path)
    assert listing.names == ("2.png", "10.png", "b/1.png", "b/c/d.png")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(listing.source.read, [*range(4)] * 50))
    assert found == [name.encode() for name in listing.names] * 50
    assert (listing.skipped, listing.notes, listing.folders) == ({}, (), ("b",))


def test_the_order_does_not_depend_on_the_disk(tmp_path, monkeypatch):
    """Fault 51: entries listed backwards give the same listing; files named like images are not opened."""
    fill(tmp_path, "a/1.png", "b/2.png", "c.png", ".h")
    wanted = scan_folder(tmp_path)
    scandir = os.scandir

    def backwards(path):
        return nullcontext(sorted(scandir(path), key=lambda entry: entry.name)[::-1])

    monkeypatch.setattr(os, "scandir", backwards)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("a file was opened"))
    assert scan_folder(tmp_path) == wanted


def test_images_are_accepted_by_content(tmp_path):
    """Fault 16: any case, no extension, an odd one; the extension of an image is a row whatever it holds."""
    fill(tmp_path, "a.JPG", "b.JpEg", "c", "d.dat", "e.2024")
    fill(tmp_path, "broken.png", "photo.heic", content=b"text")
    fill(tmp_path, "labels.csv", "notes.txt", "more.TXT", "Makefile", content=b"text")
    listing = scan_folder(tmp_path)
    assert listing.names == ("a.JPG", "b.JpEg", "broken.png", "c", "d.dat", "e.2024", "photo.heic")
    assert listing.skipped == {}
    assert listing.notes == (
        "ignored 1 file without an extension: no images",
        "ignored 1 file named *.csv: no images",
        "ignored 2 files named *.txt: no images",
    )


def test_photos_of_a_format_that_is_not_read_are_rows(tmp_path):
    """Fault 15: a phone's without an ending, a scanner's by its own; a PDF is no photo."""
    fill(tmp_path, "2.ppm", content=b"P6\n1 1\n255\nabc")
    fill(tmp_path, "photo", content=b"\0\0\0\x18ftypheic" + bytes(20))
    fill(tmp_path, "leaflet.pdf", content=b"%PDF-1.7")
    listing = scan_folder(tmp_path)
    assert listing.names == ("2.ppm", "photo")
    assert [decode(listing.source.read(row)).reason for row in range(2)] == ["unsupported_format"] * 2
    assert listing.notes == ("ignored 1 file named *.pdf: no images",)


def test_raw_files_of_cameras_are_skipped_by_name(tmp_path):
    """They begin as a TIFF does, and their first picture is a thumbnail: a row beside its JPEG."""
    fill(tmp_path, "DSC_1.JPG", "DSC_1.NEF", "x/IMG_2.dng", content=saved(picture(), "TIFF"))
    expected = {"DSC_1.NEF": "unsupported_format", "x/IMG_2.dng": "unsupported_format"}
    assert reasons(scan_folder(tmp_path)) == expected
    assert reasons(one_image(tmp_path / "DSC_1.NEF")) == {"DSC_1.NEF": "unsupported_format"}
    named = read_listed(f"{tmp_path}/DSC_1.JPG\n{tmp_path}/DSC_1.NEF\n".encode())
    assert [*named.skipped] == [1]


def test_hidden_entries_are_counted(tmp_path):
    """Fault 28: what systems leave behind is ignored with all that is in it, and counted."""
    hidden = (".ipynb_checkpoints/a.png", "__MACOSX/x/a.png", "x/Thumbs.db", "x/desktop.ini", "._a.png")
    fill(tmp_path, "a.png", "x/b.png", "x/x__MACOSX.png", *hidden)
    listing = scan_folder(tmp_path)
    assert listing.names == ("a.png", "x/b.png", "x/x__MACOSX.png")
    assert listing.notes == ("ignored 5 hidden entries",)


def test_what_is_no_file_is_a_skipped_row(tmp_path, monkeypatch):
    """Fault 23: FIFO, socket, folder and device under the name of an image are rows, and nothing hangs."""
    fill(tmp_path, "folder.jpg/inner.png", "z.png")
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device.jpg").symlink_to(os.devnull)
    monkeypatch.chdir(tmp_path)  # the name of a socket may have some hundred bytes only
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        for follow, why in ((False, "outside_root"), (True, "not_regular")):
            listing = scan_folder(tmp_path, follow_symlinks=follow)
            others = dict.fromkeys(("fifo.jpg", "folder.jpg", "socket.jpg"), "not_regular")
            assert listing.names == ("device.jpg", *others, "z.png")
            assert reasons(listing) == {"device.jpg": why, **others}
            found = [getattr(listing.source.read(index), "reason", "read") for index in range(5)]
            assert found == [why, *others.values(), "read"]
    assert one_image(tmp_path / "fifo") is None


@pytest.fixture
def linked(tmp_path):
    """A root with links to all sorts of places."""
    root = fill(tmp_path / "root", "a.png", "sub/b.png")
    fill(tmp_path / "other", "far.png")
    links = {"in.png": "a.png", "out.png": "../other/far.png", "loop.png": "loop.png", "gone.png": "no.png"}
    links |= {"named": "a.png", "away": "../other", "up": "..", "a sub": "sub", "lost": "no"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


def test_links_are_followed_inside_only(linked):
    """Fault 20: inside is read, outside, loops and dangling ones are skipped rows, folders are counted."""
    listing = scan_folder(linked)
    assert listing.names == ("a.png", "gone.png", "in.png", "loop.png", "named", "out.png", "sub/b.png")
    expected = {"gone.png": "missing", "loop.png": "symlink_loop", "out.png": "outside_root"}
    assert reasons(listing) == expected
    assert listing.source.read(2) == listing.source.read(4) == PNG
    assert listing.notes == (
        "did not follow 1 link: missing",
        "did not follow 1 link: not_regular",
        "did not follow 2 links: outside_root (links that leave the folder: --follow-symlinks)",
    )


def test_links_may_be_followed_out(linked):
    """On demand links to folders and out of the root are followed, each folder once."""
    listing = scan_folder(linked, follow_symlinks=True)
    assert "out.png" in listing.names
    assert sum(name.endswith("far.png") for name in listing.names) == 1
    assert [name for name in listing.names if name.endswith("b.png")] == ["sub/b.png"]
    usable = set(range(len(listing.names))) - set(listing.skipped)
    assert {listing.source.read(index) for index in usable} == {PNG}


NAMES = ["with space.png", "new\nline.png", "quo'te\".png", "smile\U0001f600.png", "\u202eltr.png",
         "-lead.png", "x" * 251 + ".png", "bad\udcff\udcfe.png", "sub dir/\udc80", "semi;comma,.png",
         "back\\slash.png", "a..b/c..png", "ab:c/d.png"]  # fmt: skip  # a list of words


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")
def test_any_name_is_kept(tmp_path):
    """Faults 21, 25: odd names come back exactly and are read; one that looks like a way out is skipped."""
    hostile = ["C:x.png", "x\\..\\up.png"]
    listing = scan_folder(fill(tmp_path, *NAMES, *hostile))
    assert set(listing.names) == {*NAMES, *hostile}
    assert reasons(listing) == dict.fromkeys(hostile, "bad_path")
    usable = set(range(len(listing.names))) - set(listing.skipped)
    assert {listing.source.read(index) for index in usable} == {PNG}


def test_names_that_differ_in_case_are_noted(tmp_path):
    """Fault 27: both are rows, and a warning names them."""
    fill(tmp_path, "A.png", "a.png", "b.png")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system does not tell the names apart")
    listing = scan_folder(tmp_path)
    assert listing.names == ("A.png", "a.png", "b.png")
    assert listing.notes == ("warning: names that differ only in case: 'A.png', 'a.png'",)


def test_a_folder_that_cannot_be_listed_is_noted(tmp_path, monkeypatch):
    """Fault 24: a folder without rights is noted; a root without rights, or that is no folder, is refused."""
    fill(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith(closed):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    closed = "/a"
    listing = scan_folder(tmp_path)
    assert listing.names == ("b/2.png",)
    assert listing.notes == ("warning: could not list 'a/': the images there are missing",)
    closed = tmp_path.name
    message = r"^cannot list the folder '.*': {}; check the path and its rights$"
    with pytest.raises(DataError, match=message.format("Permission denied")):
        scan_folder(tmp_path)
    with pytest.raises(DataError, match=message.format("Not a directory")):
        scan_folder(tmp_path / "b" / "2.png")


def test_a_file_of_more_bytes_than_the_limit_is_skipped(tmp_path):
    """In a folder, alone, and in an archive."""
    fill(tmp_path, "1.png", content=saved(picture()))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.write(tmp_path / "1.png", "1.png")
    few = Limits(max_bytes=9)
    assert scan_folder(tmp_path, limits=few).source.read(0).reason == "too_large"
    assert one_image(tmp_path / "1.png", few).source.read(0).reason == "too_large"
    assert scan_archive(tmp_path / "x.zip", few).source.read(0).reason == "too_large"
    assert isinstance(scan_folder(tmp_path).source.read(0), bytes)


def test_notes_count_everything():
    """One line for each kind of thing, in a fixed order, with no more than three names and ten endings."""
    report = ScanReport(hidden=1200, unlisted=["a/", "b/", "c/", "d/", "e/"])
    report.ignored.update([".txt"] * 5 + [".csv", ""] * 2)
    report.links.update(["outside_root", "outside_root", "missing"])
    for name in ("B.png", "b.png", "a.png", "A.png"):
        report.add(name)
    assert report.notes() == (
        "ignored 1,200 hidden entries",
        "ignored 2 files without an extension: no images",
        "ignored 2 files named *.csv: no images",
        "ignored 5 files named *.txt: no images",
        "did not follow 1 link: missing",
        "did not follow 2 links: outside_root (links that leave the folder: --follow-symlinks)",
        "warning: could not list 'a/', 'b/', 'c/' and 2 more: the images there are missing",
        "warning: names that differ only in case: 'A.png', 'a.png', and 1 more groups of such names",
    )
    report.ignored.update(f".{number:03d}" for number in range(100))  # as medical pictures have
    assert "ignored 93 files of other endings: no images" in report.notes()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Paths to files, a link, a folder, a pipe and nothing."""
    for name, content in (("a.png", b"a"), ("two words.png", b"b"), ("line\nbreak.png", b"c")):
        fill(tmp_path, name, content=content)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    return ["a.png", str(tmp_path / "two words.png"), "link.png", "./a.png", "folder", "pipe", "gone.png"]


def test_each_listed_path_is_a_row_in_order(files):
    """Relative or absolute; twice is two rows; what cannot be read has its reason; none is refused."""
    dataset = read_listed(("\n".join(files) + "\n").encode())
    assert list(dataset.names) == files
    found = [dataset.source.read(row) for row in range(len(files))]
    assert found[:4] == [b"a", b"b", b"a", b"a"]
    assert [one.reason for one in found[4:] if isinstance(one, Skipped)] == [
        "not_regular", "not_regular", "missing",
    ]  # fmt: skip  # the reasons in one line
    dataset = read_listed(b"line\nbreak.png\0a.png\0")  # as find -print0 writes them
    assert dataset.names == ("line\nbreak.png", "a.png")
    assert dataset.source.read(0) == b"c"
    for nothing in (b"", b"\n\n", b"\0"):
        with pytest.raises(DataError, match="expected paths of images on stdin, one a line, got none"):
            read_listed(nothing)
