"""assay.load_model: one model for arrays, pictures, files and places."""

import io

import numpy as np
import pytest
from PIL import Image
from small_runs import CLASSES

import assay
from assay.errors import DataError
from assay.predict import predictor as module
from assay.predict.batch import predict


@pytest.fixture
def predictor(model, tmp_path):
    """The model, from its folder."""
    model.save(tmp_path / "model")
    return assay.load_model(tmp_path / "model")


@pytest.fixture
def paths(new_images):
    """The six good images."""
    return [new_images / f"{row}.png" for row in range(5, 11)]


def test_every_form_of_an_image_gets_the_same_answer(model, predictor, paths, new_images):
    """Path, text, bytes, Pillow's, array; in a list or alone; as many rows as images, in order."""
    expected = predict(model, new_images)
    pictures = [Image.open(path) for path in paths]
    forms = {
        "paths": paths,
        "text": [str(path) for path in paths],
        "bytes": [path.read_bytes() for path in paths],
        "pillow": pictures,
        "arrays": [np.asarray(picture) for picture in pictures],
        "batch": np.stack([np.asarray(picture) for picture in pictures]),
    }
    for name, images in forms.items():
        found = predictor.predict(images)
        assert found.predicted == tuple(CLASSES[i] for i in (2, 0, 1, 1, 0, 2)), name
        assert found.probs == pytest.approx(expected.probs[:6], abs=1e-6), name
        alone = predictor.predict(images[1])
        assert (alone.probs == found.probs[1:2]).all(), name
    assert predictor.predict(paths).names == tuple(map(str, paths))
    assert predictor.predict(pictures).names == tuple("012345")
    assert (predictor.labels, predictor.size) == (CLASSES, 32)


def test_a_bad_image_is_a_row_with_its_reason(predictor, paths, new_images):
    """What is missing, empty or no image has no label; the others are answered."""
    found = predictor.predict([paths[0], new_images / "empty.png", b"<html>", new_images / "nowhere.png"])
    assert found.statuses == ("ok", "empty_file", "not_an_image", "missing")
    assert found.predicted == (CLASSES[2], None, None, None)
    assert found.confidence[0] > 0.5
    assert found.confidence[1:].tolist() == [0, 0, 0]
    assert predictor.predict([]).predicted == ()


def test_a_bad_picture_is_a_row_with_its_reason(predictor, paths):
    """Pillow reads an opened file only when its pixels are asked for."""
    whole = paths[0].read_bytes()
    cut = Image.open(io.BytesIO(whole[: len(whole) // 2]))
    found = predictor.predict([cut, Image.new("RGB", (0, 5)), Image.new("HSV", (5, 5)), Image.open(paths[0])])
    assert found.statuses == ("truncated", "corrupt", "unsupported_format", "ok")


def test_pictures_stand_upright_on_white(predictor, paths):
    """A turned photo is turned back, as in a file; what is transparent is white."""
    turned = Image.open(paths[0]).rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6
    held = io.BytesIO()
    turned.save(held, "PNG", exif=exif)
    for picture in (held.getvalue(), Image.open(held)):
        assert (predictor.predict(picture).probs == predictor.predict(paths[0]).probs).all()
    clear = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    white = np.full((32, 32, 3), 255, np.uint8)
    assert (predictor.predict(clear).probs == predictor.predict(white).probs).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_are_no_images_are_refused(predictor, array):
    """With what was expected and what came."""
    with pytest.raises(ValueError, match=r"expected uint8 RGB arrays \(H, W, 3\) .*, got \w+ \("):
        predictor.predict(array)


def test_many_pictures_are_answered_a_few_at_a_time(predictor, paths, new_images, monkeypatch):
    """In order, bad ones among them: no more than ``AT_ONCE`` are held decoded."""
    many = [*paths[:3], new_images / "empty.png", *paths[3:]]
    whole, asked, seen = predictor.predict(many), [], []
    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(predictor, "runtime", Counting(predictor.runtime, asked))
    parts = predictor.predict(many, progress=lambda *told: seen.append(told))
    assert (parts.statuses, parts.names) == (whole.statuses, whole.names)
    assert parts.probs == pytest.approx(whole.probs, abs=1e-6)
    assert asked == [2, 1, 2, 1]
    assert [done for _, done, _ in seen] == [2, 4, 6, 7]


class Counting:
    """A runtime that notes of how many images it was asked."""

    def __init__(self, runtime, asked):
        self.runtime, self.asked = runtime, asked

    def probabilities(self, images):
        """Of the runtime."""
        self.asked.append(len(images))
        return self.runtime.probabilities(images)

    def __getattr__(self, name):
        return getattr(self.runtime, name)


def test_a_folder_that_is_not_there_is_refused(predictor, new_images):
    """A slip of the pen is no picture that is missing; a file that is not there is one."""
    with pytest.raises(DataError, match=r"no such folder or file of images: .*/new_imags"):
        predictor.predict(str(new_images.parent / "new_imags"))
    assert predictor.predict(new_images / "nine.png").statuses == ("missing",)
