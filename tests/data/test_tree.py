"""A new folder of images: safe names, no two alike, whole or not at all."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import assay
from assay.data.dataset import Skipped
from assay.data.memory import MemorySource
from assay.data.sources import is_hidden, scan_folder
from assay.data.tree import ImageTree, file_of, new_folder, safe_name
from assay.errors import UsageError

PNG = b"\x89PNG\r\n\x1a\n and more"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("gute Katze é", "gute Katze é"),
        ("a/b", "a%2Fb"),
        ("50 %", "50 %25"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("end. ", "end.%20"),
        ("CON", "%43ON"),
        ("nul.txt", "%6Eul.txt"),
        ("__MACOSX", "%5F_MACOSX"),
        ("a\nb\0", "a%0Ab%00"),
        ("\udcff", "%FF"),
        ("", "%00"),
    ],
)
def test_any_label_is_the_name_of_a_folder(text, name):
    """What a system would refuse, hide or take for a path is percent-encoded."""
    assert safe_name(text) == name


@given(st.text(max_size=40))
def test_names_can_be_read_back_and_created(tmp_path_factory, text):
    """Whatever the text is."""
    name = safe_name(text)
    assert (unquote(name) if text else "") == text
    assert not is_hidden(name)
    (tmp_path_factory.mktemp("names") / name).mkdir()


def test_a_long_name_is_cut_and_stays_its_own():
    """Its ending stays, and what was cut off tells two of them apart."""
    one, other = safe_name("é" * 300 + ".png"), safe_name("é" * 301 + ".png")
    assert one != other
    assert len(one.encode()) <= 255
    assert one.endswith(".png")


def test_no_two_images_have_one_name(tmp_path):
    """Fault 27: the whole path, then a number, where upper and lower case may be one; labels likewise."""
    names = ("a/x.png", "b/x.png", "B/X.png", "b%2Fx.png", "none")
    tree = ImageTree(tmp_path, MemorySource([PNG] * 5))
    files = [tree.add(index, name, "Cat") for index, name in enumerate(names)]
    assert files == ["Cat/x.png", "Cat/b%2Fx.png", "Cat/2~B%2FX.png", "Cat/b%252Fx.png", "Cat/none.png"]
    assert tree.add(0, "a/x.png", "cat") == "2~cat/x.png"
    assert [file.read_bytes() for file in tmp_path.rglob("*.png")] == [PNG] * 6


def test_links_lead_to_the_files(tmp_path):
    """Nothing is copied; images that are no files of their own are refused with what to do."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "x.png").write_bytes(PNG)
    (tmp_path / "out").mkdir()
    listing = scan_folder(tmp_path / "in")
    tree = ImageTree(tmp_path / "out", listing.source, link=True)
    assert tree.add(0, "a/x.png", "cat") == "cat/x.png"
    assert Path(tmp_path / "out/cat/x.png").readlink() == tmp_path / "in/a/x.png"


def test_a_missing_image_is_no_file(tmp_path):
    """The reason comes back, and no folder is made for it."""
    found = ImageTree(tmp_path, MemorySource([None])).add(0, "x.png", "cat")
    assert isinstance(found, Skipped)
    assert not any(tmp_path.iterdir())


def test_the_folder_appears_whole_or_not_at_all(tmp_path):
    """After an exception nothing is left; a folder in use, a file or a link is refused."""
    target = tmp_path / "out"
    with pytest.raises(FileNotFoundError), new_folder(target) as folder:
        (folder / "x").rename(folder / "no" / "x")
    assert not any(tmp_path.iterdir())
    target.mkdir()
    with new_folder(target) as folder:
        (folder / "x").touch()
    assert [file.name for file in target.iterdir()] == ["x"]
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for taken in (target, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(UsageError, match="expected a new or an empty folder"), new_folder(taken):
            pass


def test_the_file_of_an_image_that_was_listed_by_its_path(tmp_path):
    """A list of paths has no folder; an image in memory has no file."""
    for name in ("x.png", "y.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    dataset = assay.read_dataset([tmp_path / "x.png", tmp_path / "y.png"], noisy=["cat", "dog"])
    assert file_of(dataset.source, 0) == tmp_path / "x.png"
    with pytest.raises(UsageError, match="got images in memory"):
        file_of(MemorySource([PNG]), 0)
