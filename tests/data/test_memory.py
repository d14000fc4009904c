"""Images and labels in memory."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from assay.data.dataset import Skipped
from assay.data.memory import MemorySource, dataset_of
from assay.errors import DataError, LabelError
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
    data = dataset_of(PIXELS, ["a", "b", "a", "b"], labels)
    assert (data.classes, data.noisy.tolist()) == (("a", "b"), [0, 1, 0, 1])
    assert data.trusted.tolist() == [1, 0, UNKNOWN, 1]


@pytest.mark.parametrize(
    "labels", [[10, 2, -1, 10], np.array([10, 2, np.nan, 10]), pd.Series([10, 2, None, 10], dtype="Int64")]
)
def test_numbers_are_classes_in_their_order(labels):
    """-1 and gaps are unknown; a gap makes floats of integers, which stay the same classes."""
    data = dataset_of(PIXELS, [2, 10, 2, 10], labels)
    assert (data.classes, data.trusted.tolist()) == (("2", "10"), [1, 0, UNKNOWN, 1])


class HuggingFace:
    """A data set with the parts of Hugging Face's that are used."""

    column_names = ("picture", "label", "checked")

    def __init__(self) -> None:
        image, names = type("Image", (), {})(), SimpleNamespace(names=["cat", "dog"])
        self.features = {"picture": image, "label": names, "checked": names}
        self.columns = {"picture": list(PIXELS), "label": [0, 1, 1, -1], "checked": [1, None, 0, -1]}

    def __getitem__(self, name: str) -> list:
        return self.columns[name]


def test_a_hugging_face_data_set_is_read_by_its_columns():
    """The column of images is found, labels are named by their feature."""
    data = dataset_of(HuggingFace(), "label", "checked")
    assert (data.classes, data.noisy.tolist()) == (("cat", "dog"), [0, 1, 1, UNKNOWN])
    assert data.trusted.tolist() == [1, UNKNOWN, 0, UNKNOWN]
    assert (unpacked(data.read(3)) == PIXELS[3]).all()
    with pytest.raises(
        DataError, match=r"^expected a column 'lable', got \['picture', 'label', 'checked'\]$"
    ):
        dataset_of(HuggingFace(), "lable", None)
    bare = HuggingFace()
    bare.features["picture"] = SimpleNamespace()
    with pytest.raises(DataError, match=r"expected one column of images, got 0 among \['picture', "):
        dataset_of(bare, "label", None)


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
        dataset_of(PIXELS, noisy, trusted)

    with pytest.raises(
        DataError, match=r"^images: expected uint8 RGB arrays \(H, W, 3\), got float64 \(4, 5\)"
    ):
        MemorySource([np.zeros((4, 5))]).read(0)
