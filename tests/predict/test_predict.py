"""assay.load_model: one model for arrays, pictures, files, folders and archives; one row an image."""

import io
import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_runs import CLASSES

import assay
from assay.data.read import read_images
from assay.data.resize import to_square
from assay.embed.tiny import TinyBackbone
from assay.errors import DataError, UsageError
from assay.predict import predictor as module
from assay.predict.batch import (
    COLUMNS,
    COVERAGES,
    Options,
    Predictions,
    conformal_thresholds,
    predict_together,
    prediction_sets,
    threshold_for,
)
from assay.predict.runtime import load_runtime

NAMES = [f"{row}.png" for row in range(5, 11)] + ["100.png", "cut.png", "empty.png", "gone.png", "page.jpg"]

TRUTH = (2, 0, 1, 1, 0, 2)


@pytest.fixture
def predictor(model, tmp_path):
    """The model, from its folder."""
    model.save(tmp_path / "model")
    return assay.load_model(tmp_path / "model")


@pytest.fixture
def paths(new_images):
    """The six good images."""
    return [new_images / name for name in NAMES[:6]]


def test_each_image_has_its_row_in_order(predictor, model, new_images):
    """Good images have their class, also one of one colour; others the reason why they have none."""
    found = predictor.predict(new_images)
    name, label, probability, status = found.columns()
    assert COLUMNS == ("file", "label", "probability", "status")
    assert name == list(found.names) == NAMES
    assert label[:6] == [CLASSES[i] for i in TRUTH]
    assert label[7:] == probability[7:] == [None] * 4
    assert status == ["ok"] * 7 + ["truncated", "empty_file", "missing", "not_an_image"]
    assert all(0.5 < p <= 1 for p in probability[:6])
    assert found.n_skipped == 4
    assert found.probs[6].sum() == pytest.approx(1, abs=1e-5)
    assert (found.probs[7:] == 0).all()
    pixels = np.stack([np.asarray(Image.open(new_images / name)) for name in NAMES[:6]])
    expected = model.probabilities(TinyBackbone().embed(pixels))
    assert found.probs[:6] == pytest.approx(expected, abs=1e-6)


def test_results_have_a_short_text_and_a_table(predictor, new_images):
    """As a person reads them in a terminal or a notebook; names are escaped."""
    found = predictor.predict(new_images)
    assert repr(found) == "Predictions(11 images, 3 classes, 4 skipped)"
    assert repr(predictor).startswith("Predictor(3 classes, 32 px, ")
    assert found._repr_html_().count("<tr>") == 11  # a head and ten of the rows
    odd = Predictions(("<b>",), np.ones((1, 1), np.float32), ("x",), ("ok",))
    assert "<td>&lt;b&gt;</td>" in odd._repr_html_()


def test_every_form_of_an_image_gets_the_same_prediction(predictor, paths, new_images):
    """Path, text, bytes, Pillow's, array; in a list or alone; as many rows as images, in order."""
    expected = predictor.predict(new_images)
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
        assert found.predicted == tuple(CLASSES[i] for i in TRUTH), name
        assert found.probs == pytest.approx(expected.probs[:6], abs=1e-6), name
        assert (predictor.predict(images[1]).probs == found.probs[1:2]).all(), name
    assert predictor.predict(paths).names == tuple(map(str, paths))
    assert predictor.predict(pictures).names == tuple("012345")
    assert (predictor.labels, predictor.size) == (CLASSES, 32)


def test_a_zip_gives_the_rows_of_its_folder(predictor, new_images, tmp_path):
    """Packed images are read in place."""
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        for file in sorted(new_images.iterdir()):
            if file.exists():
                archive.write(file, file.name)
    packed, plain = predictor.predict(tmp_path / "new.zip"), predictor.predict(new_images)
    rows = [row for row, name in enumerate(NAMES) if name != "gone.png"]
    assert list(packed.names) == [NAMES[row] for row in rows]
    assert (packed.probs == plain.probs[rows]).all()
    assert list(packed.statuses) == [plain.statuses[row] for row in rows]


def test_batches_and_threads_change_nothing(predictor, new_images, monkeypatch):
    """Chunks of two images, read by three threads, give the rows of one chunk, and progress is reported."""
    expected = predictor.predict(new_images)
    monkeypatch.setattr("assay.data.loader.BATCH", 2)
    steps = []
    found = predictor.predict(new_images, workers=3, progress=lambda *step: steps.append(step))
    assert found.probs == pytest.approx(expected.probs, abs=1e-5)
    assert (found.names, found.statuses) == (expected.names, expected.statuses)
    assert (steps[0], steps[-1]) == (("predict", 2, 11), ("predict", 11, 11))


def test_several_models_predict_together(model, new_images):
    """Each as if it were alone, whatever size and filter it takes; progress counts the passes."""
    runtimes = {
        name: load_runtime(replace(model, interpolation=interpolation, labels=labels))
        for name, interpolation, labels in (
            ("a", "bicubic", CLASSES),
            ("b", "nearest", CLASSES),
            ("c", "bicubic", ("x", "y", "z")),
        )
    }
    dataset, steps = read_images(new_images), []
    found = predict_together(runtimes, dataset, progress=lambda *step: steps.append(step))
    assert list(found) == ["a", "b", "c"]
    for name, runtime in runtimes.items():
        alone = predict_together({name: runtime}, dataset)[name]
        assert (found[name].probs == alone.probs).all()
        assert (found[name].labels, found[name].statuses) == (runtime.labels, alone.statuses)
        assert found[name].image_warnings == alone.image_warnings
    assert steps == [("predict", 11, 22), ("predict", 22, 22)]


def test_small_images_are_resized_as_the_model_asks(model, tmp_path):
    """A model of the nearest pixel sees no colour that was not there, and predicts accordingly."""
    pixels = np.random.default_rng(3).integers(0, 256, (9, 13, 3), np.uint8)
    (tmp_path / "new").mkdir()
    Image.fromarray(pixels).save(tmp_path / "new" / "a.png")
    for interpolation in ("bicubic", "nearest"):
        found = assay.load_model(replace(model, interpolation=interpolation)).predict(tmp_path / "new").probs
        resized = to_square(pixels, 32, interpolation)
        assert found == pytest.approx(model.probabilities(TinyBackbone().embed(resized[None])), abs=1e-6)


def test_a_bad_picture_is_a_row_with_its_reason(predictor, paths, new_images):
    """Whether a path, bytes, or opened by Pillow, which reads a file only when its pixels are needed."""
    found = predictor.predict([paths[0], new_images / "empty.png", b"<html>", new_images / "nowhere.png"])
    assert found.statuses == ("ok", "empty_file", "not_an_image", "missing")
    assert found.predicted == (CLASSES[2], None, None, None)
    assert found.confidence[0] > 0.5
    assert found.confidence[1:].tolist() == [0, 0, 0]
    whole = paths[0].read_bytes()
    cut = Image.open(io.BytesIO(whole[: len(whole) // 2]))
    found = predictor.predict([cut, Image.new("RGB", (0, 5)), Image.new("HSV", (5, 5)), Image.open(paths[0])])
    assert found.statuses == ("truncated", "corrupt", "unsupported_format", "ok")
    assert predictor.predict([]).predicted == ()


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


def test_many_pictures_are_predicted_a_few_at_a_time(predictor, paths, new_images, monkeypatch):
    """In order, bad ones among them: no more than ``AT_ONCE`` are held decoded."""
    many = [*paths[:3], new_images / "empty.png", *paths[3:]]
    whole, steps = predictor.predict(many), []
    monkeypatch.setattr(module, "AT_ONCE", 2)
    parts = predictor.predict(many, progress=lambda *step: steps.append(step))
    assert (parts.statuses, parts.names) == (whole.statuses, whole.names)
    assert parts.probs == pytest.approx(whole.probs, abs=1e-6)
    assert [done for _, done, _ in steps] == [2, 4, 6, 7]


def test_a_place_without_images_is_refused(predictor, new_images, tmp_path):
    """An empty folder, or one that is not there; a file that is not there is a missing picture."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^expected images in .*empty, got none$"):
        predictor.predict(tmp_path / "empty")
    with pytest.raises(DataError, match=r"no such folder or file of images: .*/new_imags"):
        predictor.predict(str(new_images.parent / "new_imags"))
    assert predictor.predict(new_images / "nine.png").statuses == ("missing",)


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
    """It keeps its probability, written with four decimals, and its status tells it from one without."""
    probs = np.array([[0.5, 0.5], [0.1234567, 0.8765433], [0, 0]], dtype=np.float32)
    found = Predictions(("a", "b", "c"), probs, ("x", "y"), ("ok", "ok", "truncated"))
    _, label, probability, status = found.columns(Options(min_confidence=0.6))
    assert label == [None, "y", None]
    assert probability == [0.5, 0.8765, None]
    assert status == ["unsure", "ok", "truncated"]
    assert found.n_skipped == 1


def drawn_probs(n, seed, k=4):
    """Probabilities, and classes that are drawn from others: the model is wrong about how sure it is."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(k, 0.4), n)
    softer = probs**0.5 / (probs**0.5).sum(axis=1, keepdims=True)
    return probs, np.array([generator.choice(k, p=row) for row in softer])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_new_images_are_covered_as_often_as_was_asked(coverage):
    """In the mean over many calibrations, at least that share and hardly more."""
    shares = []
    for seed in range(40):
        probs, truth = drawn_probs(400, seed)
        least = threshold_for(coverage, conformal_thresholds(probs[:200], truth[:200]))
        sets = prediction_sets(probs[200:], least)
        shares.append(sets[np.arange(200), truth[200:]].mean())
    assert coverage - 0.01 < np.mean(shares) < coverage + 0.03


@given(st.integers(1, 60), st.integers(0, 5))
def test_thresholds_are_order_statistics(n, seed):
    """The threshold is what the true class had in the image of that rank; too high a coverage has none."""
    probs, truth = drawn_probs(n, seed)
    found = conformal_thresholds(probs, truth)
    for coverage in COVERAGES:
        rank = math.ceil((n + 1) * coverage)
        if rank > n:
            assert f"{coverage:g}" not in found
            continue
        least = found[f"{coverage:g}"]
        of_true = probs[np.arange(n), truth]
        assert (of_true >= least).sum() >= rank
        assert (of_true > least).sum() < rank
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_set_holds_the_likeliest_class_and_all_that_are_probable_enough():
    """Even where none is probable enough."""
    probs = np.array([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33]])
    assert prediction_sets(probs, 0.3).tolist() == [[True, True, False], [True, True, True]]
    assert prediction_sets(probs, 0.6).tolist() == [[True, False, False], [True, False, False]]


def test_the_next_larger_coverage_is_taken():
    """A share that is not kept has the threshold of the next; what is beyond all, or nothing, is refused."""
    kept = {"0.9": 0.2, "0.95": 0.1}
    assert [threshold_for(share, kept) for share in (0.5, 0.9, 0.91, 0.95)] == [0.2, 0.2, 0.1, 0.1]
    for share in (0.96, 1.0, 0.0, -1.0):
        with pytest.raises(UsageError, match=r"--coverage: expected more than 0 and at most 0\.95, .* got"):
            threshold_for(share, kept)
    with pytest.raises(UsageError, match="expected a model with thresholds"):
        threshold_for(0.9, {})
