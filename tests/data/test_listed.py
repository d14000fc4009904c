"""Images that are named one by one, and raw files of cameras, wherever they are named."""

import os

import pytest
from pictures import picture, saved

from assay.data.dataset import Skipped
from assay.data.folders import one_image, scan_folder
from assay.data.listed import read_listed
from assay.errors import DataError


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two files, a link to one of them, a folder, a pipe, a name with a line break; the paths to them."""
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "two words.png").write_bytes(b"b")
    (tmp_path / "line\nbreak.png").write_bytes(b"c")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    return ["a.png", str(tmp_path / "two words.png"), "link.png", "./a.png", "folder", "pipe", "gone.png"]


def test_each_line_is_a_row_in_order(files):
    """Relative or absolute; twice is two rows; what cannot be read is a row with its reason."""
    dataset = read_listed(("\n".join(files) + "\n").encode())
    assert list(dataset.names) == files
    found = [dataset.source.read(row) for row in range(len(files))]
    assert found[:4] == [b"a", b"b", b"a", b"a"]
    assert [one.reason for one in found[4:] if isinstance(one, Skipped)] == [
        "not_regular",
        "not_regular",
        "missing",
    ]


def test_nul_separates_names_with_line_breaks(files):
    """As find -print0 writes them."""
    dataset = read_listed(b"line\nbreak.png\0a.png\0")
    assert dataset.names == ("line\nbreak.png", "a.png")
    assert dataset.source.read(0) == b"c"


@pytest.mark.parametrize("listing", [b"", b"\n\n", b"\0"])
def test_no_path_is_refused(listing):
    """With what was expected."""
    with pytest.raises(DataError, match="expected paths of images on stdin, one a line, got none"):
        read_listed(listing)


def test_raw_files_of_cameras_are_skipped_by_name(tmp_path):
    """They begin as a TIFF does, and their first picture is a thumbnail: a row beside its JPEG."""
    (tmp_path / "x").mkdir()
    for name in ("DSC_1.JPG", "DSC_1.NEF", "x/IMG_2.dng"):
        (tmp_path / name).write_bytes(saved(picture(), "TIFF"))
    listing = scan_folder(tmp_path)
    assert listing.names == ("DSC_1.JPG", "DSC_1.NEF", "x/IMG_2.dng")
    reasons = [(row, why.reason) for row, why in listing.skipped.items()]
    assert reasons == [(1, "unsupported_format"), (2, "unsupported_format")]
    assert one_image(tmp_path / "DSC_1.NEF").skipped[0].reason == "unsupported_format"
    named = read_listed(f"{tmp_path}/DSC_1.JPG\n{tmp_path}/DSC_1.NEF\n".encode())
    assert [*named.skipped] == [1]
