import os
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import picture, saved

from assay.data.archives import scan_archive
from assay.data.dataset import Skipped
from assay.data.folders import class_folders, one_image, scan_folder
from assay.data.images import decode
from assay.data.limits import Limits
from assay.errors import DataError, LabelError

PNG = saved(picture(4, 4))


def fill(root: Path, *names: str, content: bytes = PNG) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_images_are_found_in_natural_order(tmp_path):
    """All images below the root, by the numbers in their names, and each index reads its own file."""
    names = ("10.png", "2.png", "b/1.png", "b/c/d.png")
    for name in names:
        fill(tmp_path, name, content=name.encode())
    listing = scan_folder(tmp_path)
    assert listing.names == ("2.png", "10.png", "b/1.png", "b/c/d.png")
    assert [listing.source.read(index) for index in range(4)] == [name.encode() for name in listing.names]
    assert (listing.skipped, listing.notes) == ({}, ())


def test_the_order_does_not_depend_on_the_disk(tmp_path, monkeypatch):
    """Entries that the system lists backwards give the same listing."""
    fill(tmp_path, "a/1.png", "a/x", "b/2.png", "c.png", ".h", "t.txt")
    wanted = scan_folder(tmp_path)
    monkeypatch.setattr(
        "assay.data.folders._list",
        lambda root, below, _: sorted(os.scandir(root / below), key=lambda e: e.name)[::-1],
    )
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


def test_files_named_like_images_are_not_opened(tmp_path, monkeypatch):
    """A scan of many images reads no file."""
    fill(tmp_path, "a.png", "b/c.jpg", content=b"")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("a file was opened"))
    assert scan_folder(tmp_path).names == ("a.png", "b/c.jpg")


def test_hidden_entries_are_counted(tmp_path):
    """Fault 28: what systems leave behind is ignored with all that is in it, and counted."""
    fill(
        tmp_path, "a.png", "._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/x/a.png", "x/Thumbs.db", "x/b.png"
    )
    listing = scan_folder(tmp_path)
    assert listing.names == ("a.png", "x/b.png")
    assert listing.notes == ("ignored 4 hidden entries",)


def test_what_is_no_file_is_a_skipped_row(tmp_path):
    """Fault 23: FIFO, folder and device under the name of an image are rows, and nothing hangs."""
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "fifo")
    fill(tmp_path, "folder.jpg/inner.png", "z.png")
    (tmp_path / "device.jpg").symlink_to(os.devnull)
    listing = scan_folder(tmp_path)
    assert listing.names == ("device.jpg", "fifo.jpg", "folder.jpg", "z.png")
    assert {index: skipped.reason for index, skipped in listing.skipped.items()} == {
        0: "outside_root", 1: "not_regular", 2: "not_regular",
    }  # fmt: skip  # index and reason in one line
    assert [getattr(listing.source.read(index), "reason", "read") for index in range(4)] == [
        "outside_root", "not_regular", "not_regular", "read",
    ]  # fmt: skip  # the same in one line


@pytest.fixture
def linked(tmp_path):
    """A root with links to all sorts of places."""
    root = fill(tmp_path / "root", "a.png", "sub/b.png")
    fill(tmp_path / "other", "far.png")
    links = {"in.png": "a.png", "out.png": "../other/far.png", "loop.png": "loop.png", "gone.png": "no.png"}
    links |= {"named": "a.png", "away": "../other", "up": "..", "sub2": "sub", "lost": "no"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


def test_links_are_followed_inside_only(linked):
    """Fault 20: inside is read, outside, loops and dangling ones are skipped rows, folders are counted."""
    listing = scan_folder(linked)
    assert listing.names == ("a.png", "gone.png", "in.png", "loop.png", "named", "out.png", "sub/b.png")
    assert {listing.names[index]: skipped.reason for index, skipped in listing.skipped.items()} == {
        "gone.png": "missing", "loop.png": "symlink_loop", "out.png": "outside_root",
    }  # fmt: skip  # name and reason in one line
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
    assert sum(name.endswith("b.png") for name in listing.names) == 1
    usable = set(range(len(listing.names))) - set(listing.skipped)
    assert {listing.source.read(index) for index in usable} == {PNG}


NAMES = [
    "with space.png",
    "new\nline.png",
    "quo'te\".png",
    "smile\U0001f600.png",
    "\u202eltr.png",
    "-lead.png",
    "x" * 251 + ".png",
    "bad\udcff\udcfe.png",
    "sub dir/\udc80",
    "semi;comma,.png",
    "back\\slash.png",
]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")
@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_kept(tmp_path, name):
    """Fault 25: odd names come back exactly and can be read."""
    fill(tmp_path, name)
    listing = scan_folder(tmp_path)
    assert listing.names == (name,)
    assert listing.source.read(0) == PNG
    assert os.fsencode(listing.names[0]) in {os.fsencode(name)}


def test_a_name_that_looks_hostile_is_a_skipped_row(tmp_path):
    """A file that is called like a way out is a row and is never opened."""
    fill(tmp_path, "C:x.png", "x\\..\\up.png")
    listing = scan_folder(tmp_path)
    assert {skipped.reason for skipped in listing.skipped.values()} == {"bad_path"}
    assert len(listing.skipped) == len(listing.names) == 2


def test_names_that_differ_in_case_are_noted(tmp_path):
    """Fault 27: both are rows, and the user is told."""
    fill(tmp_path, "A.png", "a.png", "b.png")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system does not tell the names apart")
    listing = scan_folder(tmp_path)
    assert listing.names == ("A.png", "a.png", "b.png")
    assert listing.notes == ("warning: names that differ only in case: 'A.png', 'a.png'",)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    """Fault 24: a folder without rights is noted; a root without rights is refused."""
    fill(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith(closed):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    closed = "/a"
    listing = scan_folder(tmp_path)
    assert (listing.names, listing.notes) == (
        ("b/2.png",),
        ("warning: could not list 'a/': the images there are missing",),
    )
    closed = tmp_path.name
    with pytest.raises(
        DataError, match=r"^cannot list the folder '.*': Permission denied; check its rights$"
    ):
        scan_folder(tmp_path)


@pytest.mark.parametrize("name", ["file", "nowhere"])
def test_a_root_that_is_no_folder_is_refused(tmp_path, name):
    """The message names what was given."""
    fill(tmp_path, "file")
    with pytest.raises(
        DataError, match=rf"^expected a folder of images, got '.*{name}', which is no folder; check"
    ):
        scan_folder(tmp_path / name)


def test_reading_is_safe_in_threads(tmp_path):
    """Eight threads read the right bytes."""
    for number in range(50):
        fill(tmp_path, f"{number}.png", content=str(number).encode() * 100)
    source, wrong = scan_folder(tmp_path).source, []

    def read_all():
        wrong.extend(n for n in range(50) if source.read(n) != str(n).encode() * 100)

    threads = [threading.Thread(target=read_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_class_folders_are_sorted(tmp_path):
    """The class of an image is the first folder of its name; classes are in plain order."""
    listing = scan_folder(
        fill(tmp_path, "cat/1.png", "Dog/x/2.png", "cat/3.png", "ant10/4.png", "ant9/5.png")
    )
    classes, labels = class_folders(listing, allow_empty=False)
    assert classes == ("Dog", "ant10", "ant9", "cat")
    assert [classes[label] for label in labels] == [name.split("/")[0] for name in listing.names]


def test_an_empty_class_is_refused_unless_allowed(tmp_path):
    """A folder without images is an error, or a class without images; hidden folders are neither."""
    listing = scan_folder(fill(tmp_path, "cat/1.png", "dog/readme.txt", ".git/x", content=b"text"))
    message = (
        "expected images in every class folder, got none in 'dog'; "
        "remove the folder, or pass --allow-empty-classes"
    )
    with pytest.raises(LabelError, match=f"^{message}$"):
        class_folders(listing, allow_empty=False)
    assert class_folders(listing, allow_empty=True) == (("cat", "dog"), [0])


def test_a_source_need_not_know_its_folders(tmp_path):
    """Classes come from the names alone where the source knows no folders."""

    class Bare:
        def read(self, index):
            return Skipped("missing", str(index))

    fill(tmp_path, "dog/readme.txt", content=b"text")
    listing = scan_folder(fill(tmp_path, "cat/1.png"))
    assert class_folders(replace(listing, source=Bare()), allow_empty=False)[0] == ("cat",)


def test_of_a_folder_and_a_link_to_it_the_folder_is_visited(tmp_path):
    """Whichever of them a file system names first."""
    root = fill(tmp_path / "root", "kitten/a.png")
    (root / "cat").symlink_to("kitten")
    assert scan_folder(root, follow_symlinks=True).names == ("kitten/a.png",)


def test_photos_of_a_format_that_is_not_read_are_rows(tmp_path):
    """A phone's without an ending, a scanner's by its own: each is skipped later, with its format's name."""
    fill(tmp_path, "2.ppm", content=b"P6\n1 1\n255\nabc")
    fill(tmp_path, "photo", content=b"\0\0\0\x18ftypheic" + bytes(20))
    fill(tmp_path, "leaflet.pdf", content=b"%PDF-1.7")
    listing = scan_folder(tmp_path)
    assert listing.names == ("2.ppm", "photo")
    assert [decode(listing.source.read(row)).reason for row in range(2)] == ["unsupported_format"] * 2
    assert listing.notes == ("ignored 1 file named *.pdf: no images",)


def test_a_file_of_more_bytes_than_the_limit_is_skipped(tmp_path):
    """In a folder, alone, and in an archive."""
    fill(tmp_path, "1.png", content=saved(picture()))
    (tmp_path / "x.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.write(tmp_path / "1.png", "1.png")
    few = Limits(max_bytes=9)
    assert scan_folder(tmp_path, limits=few).source.read(0).reason == "too_large"
    assert one_image(tmp_path / "1.png", few).source.read(0).reason == "too_large"
    assert scan_archive(tmp_path / "x.zip", few).source.read(0).reason == "too_large"
    assert isinstance(scan_folder(tmp_path).source.read(0), bytes)
