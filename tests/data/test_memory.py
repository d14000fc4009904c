"""Images and labels in memory."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from assay.data.dataset import Skipped
from assay.data.memory import MemorySource
from assay.errors import DataError, LabelError, TableError
from assay.pipeline.api import read_dataset
from assay.types import UNKNOWN

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
CMYK = Image.new("CMYK", (5, 4), (0, 100, 200, 0))


def unpacked(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_bytes_paths_and_hugging_faces_dicts_are_read(tmp_path):
    """Bytes as they are, files by their path, pixels without loss; other kinds of colour become RGB."""
    data = MemorySource([PIXELS[0]]).read(0)
    (tmp_path / "a.png").write_bytes(data)
    path = tmp_path / "a.png"
    many = [data, path, {"bytes": data, "path": None}, {"bytes": None, "path": path}]
    source = MemorySource([*many, None, tmp_path / "b.png", CMYK, Image.fromarray(PIXELS[0])])
    assert [source.read(row) for row in range(4)] == [data] * 4
    assert source.read(4) == Skipped("missing_image", "no image in memory")
    assert source.read(5).reason == "missing"
    assert (unpacked(source.read(6)) == np.asarray(CMYK.convert("RGB"))).all()
    assert (unpacked(source.read(7)) == PIXELS[0]).all()
    assert (unpacked(data) == PIXELS[0]).all()


def test_a_damaged_file_that_pillow_opened_is_skipped(tmp_path):
    """Pillow reads its pixels only when they are packed."""
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:1500])
    with Image.open(tmp_path / "a.jpg") as cut:
        assert MemorySource([cut]).read(0).reason == "corrupt"


LABELS = {
    "list": ["b", "a", None, "b"],
    "numpy": np.array(["b", "a", "", "b"]),
    "pandas": pd.Series(["b", "a", None, "b"]),
    "polars": pl.Series(["b", "a", None, "b"]),
    "masked": np.ma.masked_array(["b", "a", "a", "b"], [False, False, True, False]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_any_column_are_text(labels):
    """Lists, arrays and columns of data frames; what is missing there is unknown."""
    data = read_dataset(PIXELS, noisy=["a", "b", "a", "b"], trusted=labels)
    assert (data.classes, data.noisy.tolist()) == (("a", "b"), [0, 1, 0, 1])
    assert data.trusted.tolist() == [1, 0, UNKNOWN, 1]


@pytest.mark.parametrize(
    "labels", [[10, 2, -1, 10], np.array([10, 2, np.nan, 10]), pd.Series([10, 2, None, 10], dtype="Int64")]
)
def test_numbers_are_classes_in_their_order(labels):
    """-1 and gaps are unknown; a gap makes floats of integers, which stay the same classes."""
    data = read_dataset(PIXELS, noisy=[2, 10, 2, 10], trusted=labels)
    assert (data.classes, data.trusted.tolist()) == (("2", "10"), [1, 0, UNKNOWN, 1])


def hugging_face(**columns):
    """A small data set of the real library, with one column of images."""
    datasets = pytest.importorskip("datasets")
    pictures = [Image.fromarray(pixels) for pixels in PIXELS]
    names = datasets.ClassLabel(names=["cat", "dog"])
    kinds = {"picture": datasets.Image(), "label": names, "checked": names}
    columns = {"picture": pictures, "label": [0, 1, 1, None], "checked": [1, None, 0, None], **columns}
    found = datasets.Dataset.from_dict({name: columns[name] for name in kinds})
    return found.cast(datasets.Features(kinds))


def test_a_hugging_face_data_set_is_read_by_its_columns():
    """The column of images is found, labels are named by their feature, and match such names."""
    data = read_dataset(hugging_face(), noisy="label", trusted="checked")
    assert (data.classes, data.noisy.tolist()) == (("cat", "dog"), [0, 1, 1, UNKNOWN])
    assert data.trusted.tolist() == [1, UNKNOWN, 0, UNKNOWN]
    assert data.names == ("0", "1", "2", "3")
    assert (unpacked(data.read(3)) == PIXELS[3]).all()
    by_name = read_dataset(hugging_face(), trusted=["dog", None, None, None])  # the column "label" is noisy
    named = read_dataset(hugging_face(), noisy="label", trusted={"0": "dog", "3": "cat"})
    assert named.trusted.tolist() == [1, UNKNOWN, UNKNOWN, 0]
    assert (by_name.noisy.tolist(), by_name.trusted.tolist()) == (data.noisy.tolist(), [1, -1, -1, -1])
    with pytest.raises(DataError, match=r"^noisy: expected one of the columns 'label', 'checked', or"):
        read_dataset(hugging_face(), noisy="lable")
    with pytest.raises(DataError, match=r"one column of images or paths, got none among 'label', 'checked'"):
        read_dataset(hugging_face().remove_columns("picture"), noisy="label")
    with pytest.raises(DataError, match=r"expected one data set, got the splits 'train', 'test'"):
        read_dataset({"train": hugging_face(), "test": hugging_face()}, noisy="label")


FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "mapping": dict}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_a_frame_has_paths_and_labels(make, tmp_path, monkeypatch):
    """Columns are named, relative paths begin in the working folder, a missing path is a skipped row."""
    monkeypatch.chdir(tmp_path)
    for name, pixels in zip("abc", PIXELS, strict=False):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    columns = {
        "file": ["a.png", str(tmp_path / "b.png"), None, "c.png"],
        "tag": ["cat", "dog", "dog", "cat"],
        "checked": ["dog", None, None, "cat"],
        "patient": [7, 7, 8, None],
    }
    data = read_dataset(make(columns), noisy="tag", trusted="checked", groups="patient")
    assert data.names == ("a.png", str(tmp_path / "b.png"), "row 3", "c.png")
    assert (data.noisy.tolist(), data.trusted.tolist()) == ([0, 1, 1, 0], [1, -1, -1, 0])
    assert data.groups.tolist()[:2] == [0, 0]
    assert len(set(data.groups.tolist())) == 3
    assert (unpacked(data.read(3)) == PIXELS[2]).all()
    assert data.skipped[2].reason == "missing_image"
    with pytest.raises(TableError, match=r"images row 2: expected a name of its own, got 'a.png'"):
        read_dataset(make({"file": ["a.png", "a.png"], "label": ["x", "y"]}))


def test_a_frame_may_hold_the_images_themselves():
    """A column of names beside them names the rows; embeddings in another column are no labels."""
    frame = pd.DataFrame(
        {
            "image": [Image.fromarray(pixels) for pixels in PIXELS],
            "file": list("wxyz"),
            "label": ["cat", "dog", "cat", float("nan")],
            "vector": [np.zeros(3)] * 4,
        }
    )
    data = read_dataset(frame, groups=["p", "q", "p", "q"], trusted={"file": ["y"], "label": ["dog"]})
    assert (data.names, data.noisy.tolist()) == (tuple("wxyz"), [0, 1, 0, UNKNOWN])
    assert data.groups.tolist() == [0, 1, 0, 1]
    assert data.trusted.tolist() == [UNKNOWN, UNKNOWN, 1, UNKNOWN]
    for photos in ([Path("a.png"), None], ["a.jpeg", "b.jpeg"]):  # found by what they are
        assert read_dataset({"photo": photos, "label": ["x", "y"]}).names[0] == str(photos[0])
    frame = {"file": ["1.png", "2.png"], "tag": ["cat", "dog"], "checked": [None, "cta"]}
    with pytest.raises(LabelError, match=r"^checked row 2: 'cta' is not a class of tag; did you mean 'cat'"):
        read_dataset(frame, noisy="tag", trusted="checked")
    with pytest.raises(DataError, match=r"one column of images or paths, got 2 among 'a', 'b'; name"):
        read_dataset(pd.DataFrame({"a": [b"1"], "b": [b"2"]}))


@pytest.mark.parametrize(
    ("noisy", "trusted", "error", "message"),
    [
        (["a", "b"], None, DataError, r"^noisy: expected one for each of 4 images, got 2$"),
        (list("aaaa"), None, LabelError, r"^noisy: expected labels of two classes or more, got only 'a'$"),
        (
            ["cat", "dog"] * 2,
            ["cat", None, "cta", None],
            LabelError,
            r"^trusted row 3: 'cta' is not a class of noisy; did you mean 'cat'\? Correct it",
        ),
    ],
)
def test_labels_that_cannot_be_are_refused(noisy, trusted, error, message):
    """Another number of labels, one class, a trusted label of no class; floats are no pixels."""
    with pytest.raises(error, match=message):
        read_dataset(PIXELS, noisy=noisy, trusted=trusted)

    with pytest.raises(
        DataError, match=r"^images: expected uint8 arrays \(H, W, 3\) or \(H, W\), got float64 \(4, 5\)"
    ):
        MemorySource([np.zeros((4, 5))]).read(0)
    with pytest.raises(DataError, match=r"^images: expected at least one, got none$"):
        read_dataset([])
