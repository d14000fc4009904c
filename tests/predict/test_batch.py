"""New images to rows: one for each image, in order, with a status."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_runs import CLASSES

from assay.data.images import decode
from assay.data.resize import to_square
from assay.embed.tiny import TinyBackbone
from assay.errors import DataError, ModelError
from assay.predict.batch import COLUMNS, Options, Predictions, predict


def test_each_image_has_its_row_in_order(model, new_images, names, tmp_path):
    """Good images have their class, others the reason why they have none; the order is the natural one."""
    found = predict(model, new_images)
    assert list(found.names) == names
    name, label, probability, status = found.columns()
    assert COLUMNS == ("name", "label", "probability", "status")
    assert name == names
    assert label[:6] == [CLASSES[i] for i in (2, 0, 1, 1, 0, 2)]
    assert label[7:] == [None] * 4
    assert status == ["ok"] * 7 + ["truncated", "empty_file", "missing", "not_an_image"]
    assert all(0.5 < p <= 1 for p in probability[:6])
    assert probability[7:] == [None] * 4
    assert found.n_skipped == 4


def test_probabilities_are_the_models(model, new_images):
    """Row by row, what the head says of the image's features; zeros where there is no image."""
    found = predict(model, new_images)
    for row, name in enumerate(found.names[:6]):
        pixels = decode((new_images / name).read_bytes()).pixels
        expected = model.probabilities(TinyBackbone().embed(pixels[None]))[0]
        assert found.probs[row] == pytest.approx(expected, abs=1e-6)
    assert (found.probs[7:] == 0).all()


def test_probabilities_are_written_with_four_decimals():
    """What is stored as float32 does not show the digits that it lacks."""
    probs = np.array([[0.1234567, 0.8765433], [0, 0]], dtype=np.float32)
    found = Predictions(("a", "b"), probs, ("x", "y"), ("ok", "truncated"))
    assert found.columns()[2] == [0.8765, None]


def test_an_image_of_one_colour_has_finite_probabilities(model, new_images):
    """Constant pixels are an image like any other."""
    found = predict(model, new_images)
    assert found.statuses[6] == "ok"
    assert found.probs[6].sum() == pytest.approx(1, abs=1e-5)


def test_a_zip_gives_the_rows_of_its_folder(model, new_images, tmp_path):
    """Packed images are read in place."""
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        for file in sorted(new_images.iterdir()):
            if file.exists():
                archive.write(file, file.name)
    packed, plain = predict(model, tmp_path / "new.zip"), predict(model, new_images)
    rows = [i for i, name in enumerate(plain.names) if name != "gone.png"]
    assert list(packed.names) == [plain.names[i] for i in rows]
    assert (packed.probs == plain.probs[rows]).all()
    assert list(packed.statuses) == [plain.statuses[i] for i in rows]


def test_a_saved_model_predicts_as_it_did(model, new_images, tmp_path):
    """Given as a folder, as text or as itself, a model gives the same numbers."""
    model.save(tmp_path / "run" / "model")
    expected = predict(model, new_images).probs
    for place in (tmp_path / "run" / "model", tmp_path / "run", str(tmp_path / "run")):
        assert (predict(place, new_images).probs == expected).all()


def test_batches_and_threads_change_nothing(model, new_images, monkeypatch):
    """Chunks of two images, read by three threads, give the rows of one chunk."""
    expected = predict(model, new_images)
    monkeypatch.setattr("assay.embed.chunks.CHUNK", 2)
    steps = []
    found = predict(model, new_images, workers=3, progress=lambda *step: steps.append(step))
    assert found.probs == pytest.approx(expected.probs, abs=1e-5)
    assert found.statuses == expected.statuses
    assert steps[0] == ("predict", 2, 11)
    assert steps[-1] == ("predict", 11, 11)


def test_small_images_become_squares_as_the_model_asks(model, tmp_path):
    """A model of the nearest pixel sees no colour that was not there, and answers accordingly."""
    (tmp_path / "new").mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (9, 13, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new" / "a.png")
    for interpolation in ("bicubic", "nearest"):
        found = predict(replace(model, interpolation=interpolation), tmp_path / "new").probs
        square = to_square(pixels, 32, interpolation)
        expected = model.probabilities(TinyBackbone().embed(square[None]))
        assert found == pytest.approx(expected, abs=1e-6)


def test_no_image_is_refused(model, tmp_path):
    """An empty folder and a place that is not there are named."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^expected images in .*empty, got none$"):
        predict(model, tmp_path / "empty")
    with pytest.raises(DataError, match=r"^no such folder or file of images: .*nowhere$"):
        predict(model, tmp_path / "nowhere")


def test_a_file_is_no_model(tmp_path, new_images):
    """A pickle is refused and never opened; nor is a folder without a manifest a model."""
    canary = tmp_path / "canary"
    code = f"cos\nsystem\n(S'touch {canary}'\ntR."
    (tmp_path / "model.pkl").write_text(code)
    with pytest.raises(
        ModelError, match=r"expected a model folder with manifest.json, got a file; model files"
    ):
        predict(tmp_path / "model.pkl", new_images)
    assert not canary.exists()
    with pytest.raises(ModelError, match=r"found no manifest.json; was the run finished\?"):
        predict(new_images, new_images)


@pytest.mark.usefixtures("without_shape_checks")
def test_rows_of_other_number_are_refused():
    """Names, probabilities and statuses belong together."""
    with pytest.raises(ValueError, match=r"expected one length for all"):
        Predictions(("a",), np.zeros((2, 3)), CLASSES, ("ok",))


def test_sets_are_written_so_that_they_can_be_told_apart():
    """A bar or a backslash in a label has a backslash before it."""
    probs = np.array([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]], dtype=np.float32)
    found = Predictions(("a", "b"), probs, ("x|y", "back\\slash", "z"), ("ok", "ok"))
    assert found.sets(0.3) == [("x|y", "back\\slash"), ("z",)]
    assert found.columns(Options(set_threshold=0.3))[-1] == [r"x\|y|back\\slash", "z"]
    assert Options().columns == COLUMNS
    assert Options(set_threshold=0.3).columns == (*COLUMNS, "set")


def test_an_image_below_the_confidence_has_no_label():
    """It keeps its probability, and its status tells it from one that could not be used."""
    probs = np.array([[0.5, 0.5], [0.2, 0.8], [0, 0]], dtype=np.float32)
    found = Predictions(("a", "b", "c"), probs, ("x", "y"), ("ok", "ok", "truncated"))
    _, label, probability, status = found.columns(Options(min_confidence=0.6))
    assert label == [None, "y", None]
    assert probability == [0.5, 0.8, None]
    assert status == ["unsure", "ok", "truncated"]
    assert found.n_skipped == 1
