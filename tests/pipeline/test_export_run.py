"""A finished run's model as one file, measured on the run's own trusted images."""

import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("torch")

from assay.correct.posterior import NO_FLOOR, by_halves
from assay.data.dataset import Dataset
from assay.data.loader import load_together
from assay.data.resize import TargetSize
from assay.errors import UsageError
from assay.pipeline.export_run import PRECISIONS, export_card, export_run
from assay.pipeline.finished import open_images, read_finished_run
from assay.predict.graph_check import read_metadata
from assay.predict.model import read_model
from assay.predict.predictor import load_model
from assay.predict.runtime import Runtime, load_runtime


@pytest.fixture
def run(finished):
    return read_finished_run(finished.out)


@pytest.fixture
def images(run, small_data):
    return open_images(run, small_data.images)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_alone_predicts(run, images, small_data, precision, tmp_path):
    """It knows its labels and its size, predicts what the model predicts, and holds its figures."""
    found = export_run(run, images, precision)
    file = tmp_path / "classifier.onnx"
    file.write_bytes(found.graph)
    expected, alone = (load_model(place).predict(small_data.images) for place in (run.folder, file))
    assert alone.labels == expected.labels
    assert np.abs(alone.probs - expected.probs).max() < 0.1
    figures = json.loads(read_metadata(found.graph)["figures"])
    assert figures["precision"] == precision
    assert not {"milliseconds_one", "milliseconds_batch", "bytes"} & {*figures}
    if precision == "float32":
        assert np.array_equal(alone.probs, expected.probs)


def test_figures_are_counted_on_trusted_images_outside_the_holdout(run, images, small_data):
    """As a loop counts them; no image of the holdout is read."""
    watched = Mock(wraps=images)
    found = export_run(run, watched, "int8")
    held = {row for row, reason in enumerate(run.reasons) if reason == "holdout"}
    assert held
    assert not held & {call.args[0] for call in watched.read.call_args_list}
    assert watched.read.called
    rows = [row for row in range(len(run)) if run.trusted[row] >= 0 and run.reasons[row] != "holdout"]
    probs_of = load_model(run.folder).predict(small_data.images).probs.argmax(axis=1)
    plain, half, small = found.figures
    assert (plain.precision, half.precision, small.precision) == ("float32", "float16", "int8")
    assert plain.bytes > half.bytes
    assert plain.n == small.n == len(rows)
    assert plain.accuracy[0] == pytest.approx(np.mean([probs_of[row] == run.trusted[row] for row in rows]))
    assert (plain.same_class, plain.largest_difference) == (1.0, 0.0)
    assert plain.bytes == len(read_model(run.folder).graph)
    assert min(plain.milliseconds_one, small.milliseconds_batch) > 0
    assert found.trained_on
    assert len(found.to_json()["attempts"]) == 3


def test_no_graph_predicts_an_image_twice(run, images, monkeypatch):
    """The gate of int8 and the figures need the same probabilities of a hundred images."""
    seen = []

    def counted(self, pixels):
        seen.append((self.digest, len(pixels)))
        return without_tta(self, pixels)

    without_tta = Runtime.without_tta
    monkeypatch.setattr(Runtime, "without_tta", counted)
    found = export_run(run, images, "int8")
    whole = [digest for digest, n in seen if n == found.figures[0].n]
    assert len(whole) == len({*whole}) >= 3


def test_validation_images_are_measured_by_halves(run, images, small_data, tmp_path):
    """Alone, where there are some: each half calibrated on float32's other one, so rounding is not hidden."""
    rows = [row for row in range(len(run)) if run.trusted[row] >= 0][:30]
    reasons = tuple("validation" if row in rows else reason for row, reason in enumerate(run.reasons))
    found = export_run(replace(run, reasons=reasons), images, "float16")
    (tmp_path / "half.onnx").write_bytes(found.graph)
    plain, half = (
        load_model(place).predict(small_data.images).probs[rows]
        for place in (run.folder, tmp_path / "half.onnx")
    )
    truth = run.trusted[rows]
    for figures, probs in zip(found.figures, (plain, half), strict=True):
        right = by_halves(plain, truth, NO_FLOOR, of=probs).argmax(axis=1) == truth
        assert (figures.n, figures.accuracy[0]) == (30, right.mean())
    assert not found.trained_on


def test_test_time_augmentation_is_reported(run, images, monkeypatch):
    """Its share of the images and what it is worth; the accuracies are those with it."""
    plain = read_model(run.folder)
    rows = np.flatnonzero((run.trusted >= 0) & (np.array(run.reasons) != "holdout"))
    dataset = Dataset(run.names, images, run.labels, run.noisy, run.trusted)
    resized_images = load_together(dataset, TargetSize(plain.size, plain.interpolation), rows).images[0]
    first = load_runtime(plain).probabilities(resized_images)
    model = replace(plain, flip_tta_below=float(np.median(first.max(axis=1))))
    once = export_run(run, images, "float32")
    monkeypatch.setattr("assay.pipeline.export_run.read_model", Mock(return_value=model))
    twice = export_run(run, images, "float32")
    assert (once.flip_tta_below, twice.flip_tta_below) == (0.0, model.flip_tta_below)
    (before,), (after,) = once.figures, twice.figures
    assert before.accuracy_without_tta == after.accuracy_without_tta == before.accuracy[0]
    assert before.flip_tta_share == 0
    assert after.flip_tta_share == (first.max(axis=1) < model.flip_tta_below).mean() > 0
    probs_of = load_runtime(model).probabilities(resized_images)
    assert after.accuracy[0] == (probs_of.argmax(axis=1) == run.trusted[rows]).mean()
    assert "mirrored" not in export_card("a.onnx", "", once)
    card = export_card("a.onnx", "", twice)
    assert f"predicted too: {100 * after.flip_tta_share:.0f} % of these images" in card
    assert "go without." in card  # the model was trained on these images: what is right is not its accuracy
    card = export_card("a.onnx", "", replace(twice, trained_on=False))
    assert f"go without: {100 * after.accuracy_without_tta:.1f} % are right" in card


def test_nothing_to_measure_on_is_refused(run, images):
    """No trusted image, or an unknown precision, ends with what was expected."""
    none = replace(run, trusted=np.full(len(run), -1))
    with pytest.raises(UsageError, match="expected a trusted image to measure the model on, got none"):
        export_run(none, images, "float32")
    with pytest.raises(UsageError, match="expected float32, float16, int8, got 'int4'"):
        export_run(run, images, "int4")
