import io
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from packing import KINDS, PNG, packed, reasons, tarred, zipped

from assay.data.archives import scan_archive
from assay.data.dataset import Skipped
from assay.data.folders import class_folders
from assay.errors import DataError

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_members_are_read_in_natural_order(tmp_path, kind):
    """Each kind, told by its content, lists its images and reads each where it lies."""
    names = ["b/10.png", "b/2.png", "1.jpg", "deep/er/x.gif", "empty.png"]
    members = {name: name.encode() * 1000 * (name != "empty.png") for name in names}
    listing = scan_archive(packed(tmp_path, kind, members))
    assert listing.names == ("1.jpg", "b/2.png", "b/10.png", "deep/er/x.gif", "empty.png")
    assert [listing.source.read(index) for index in range(5)] == [members[name] for name in listing.names]
    assert (listing.skipped, listing.notes) == ({}, ())


@every_kind
def test_only_images_are_rows(tmp_path, kind):
    """Hidden members and other files are counted; a name without an image's ending is judged by content."""
    members = {"a.PNG": PNG, "b": PNG, "c": b"text", "d.csv": b"x", "e.png?w=9": PNG, "__MACOSX/._a.png": PNG,
               ".x/y.png": PNG, "f/Thumbs.db": b"", "photo.heic": b"x", "raw.ARW": PNG}  # fmt: skip  # pairs
    listing = scan_archive(packed(tmp_path, kind, members))
    assert listing.names == ("a.PNG", "b", "e.png?w=9", "photo.heic", "raw.ARW")
    assert [(row, why.reason) for row, why in listing.skipped.items()] == [(4, "unsupported_format")]
    assert listing.notes == (
        "ignored 3 hidden entries",
        "ignored 1 file without an extension: no images",
        "ignored 1 file named *.csv: no images",
    )


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_hostile_names_are_skipped_rows(tmp_path, kind):
    """Fault 21: a name that leads elsewhere is a row, is never read and nothing is extracted."""
    names = ["../up.png", "a/../../b.png", "/etc/x.png", "C:\\x.png", "..\\..\\y.png", "ok.png"]
    place = tmp_path / "deep" / "er"
    place.mkdir(parents=True)
    listing = scan_archive(packed(place, kind, dict.fromkeys(names, PNG)))
    assert len(listing.names) == 6
    assert set(reasons(listing).values()) == {"bad_path"}
    assert len(listing.skipped) == 5
    assert [listing.source.read(index) for index in range(6)] == [
        listing.skipped.get(index, PNG) for index in range(6)
    ]
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "er", "archive"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_name_breaks_the_files_that_hold_it(tmp_path, kind):
    """A NUL in a name stands in no name of the listing: tables with one are refused when read."""
    listing = scan_archive(packed(tmp_path, kind, {"a\0b.png": PNG, "ok.png": PNG}))
    assert not [name for name in listing.names if "\0" in name]
    assert listing.source.read(listing.names.index("ok.png")) == PNG


@every_kind
def test_folders_at_the_top_are_classes(tmp_path, kind):
    """Class folders work in an archive, and one without images is known."""
    listing = scan_archive(packed(tmp_path, kind, {"dog/1.png": PNG, "cat/x/2.png": PNG, "owl/no.txt": b""}))
    assert class_folders(listing, allow_empty=True) == (("cat", "dog", "owl"), [0, 1])


def test_an_empty_folder_of_an_archive_is_known(tmp_path):
    """A folder that an archive lists alone is a class without images; hidden ones are not."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.mkdir("cat")
        archive.mkdir(".git")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("./", "./cat", ".git"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    for name in ("x.zip", "x.tar"):
        assert scan_archive(tmp_path / name).source.top_folders == ("cat",)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_one_name_twice_is_refused(tmp_path, kind):
    """Two members of one name are refused: a label could be for either."""
    path = tmp_path / "twice"
    if kind == "zip":
        path.write_bytes(
            zipped(path, {"a.png": b"1", "b.png": b"2"}).read_bytes().replace(b"b.png", b"a.png")
        )
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


@pytest.mark.parametrize(("content", "start"), [(b"", "b''"), (b"7z\xbc\xaf'\x1c\0\0", r"b\"7z")])
def test_what_is_no_archive_is_refused(tmp_path, content, start):
    """The message says what can be read and what the file begins with."""
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(
        DataError,
        match=rf"expected a zip or tar \(plain, gzip, bzip2 or xz\), got a file that starts {start}",
    ):
        scan_archive(tmp_path / "x.zip")
    with pytest.raises(
        DataError, match=r"^expected a zip or tar file, got '.*', which is no file; check the path$"
    ):
        scan_archive(tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_changes_is_noticed(tmp_path, kind):
    """Fault 29: after a change nothing is read at the old places."""
    path = packed(tmp_path, kind, {"a.png": PNG})
    source = scan_archive(path).source
    path.write_bytes(path.read_bytes() + b"\0")
    assert source.read(0) == Skipped("changed", "archive was changed while it was in use")
    path.unlink()
    assert source.read(0) == Skipped("changed", "archive: No such file or directory")


@every_kind
def test_reading_is_safe_in_threads(tmp_path, kind):
    """Any order, eight threads: each image gets its own bytes."""
    members = {f"{n}.png": str(n).encode() * 500 for n in range(60)}
    listing = scan_archive(packed(tmp_path, kind, members))
    order = [n * 37 % 60 for n in range(600)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(listing.source.read, order))
    assert found == [members[listing.names[n]] for n in order]
