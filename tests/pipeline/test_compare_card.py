"""README.md of a recipe's model, and its figures in config.json."""

import json

import pytest
from planted import quick
from small_compare import save_models

from assay.notebook.compare_card import comparison_card, write_figures
from assay.notebook.compare_judge import NOT_MEASURED
from assay.notebook.compare_twin import CARRIED
from assay.predict.model import read_model
from assay.predict.predictor import load_model

ROW = {
    "accuracy": 0.45625,
    "accuracy_low": 0.434,
    "accuracy_high": 0.4782,
    "n": 2000,
    "macro_f1": 0.4466,
    "source": "holdout",
}

CARD = """\
# CNN 1: image classifier, 3 classes

Recipe `cnn-1` of a comparison. Network `tiny` at 32 px.

## Measured

Accuracy 0.4562 (0.4340 to 0.4782, 95 % interval, n = 2,000), macro F1 0.4466; holdout.

## Limits

The figures hold for images like the trusted ones. Compression and blur were not measured.
A class that is not among the labels is never predicted: such an image gets one of these labels, often
with little confidence.
"""


@pytest.fixture
def place(small_data, tmp_path):
    """The model of CNN 1, quick."""
    out = save_models(small_data, tmp_path / "out", tmp_path / "cache", {"cnn-1": quick})
    return out / "models" / "cnn-1"


def test_the_card_is_this(place):
    """What it is, what was measured, where it ends."""
    assert comparison_card(read_model(place), ROW) == CARD


def test_the_card_says_where_figures_are_missing_or_anothers(place):
    """A model that was not measured has its partial twin's figures, marked, or none."""
    model = read_model(place)
    none = "No held-out image could judge it: the accuracy of this model is not measured."
    assert "Not measured yet: the comparison" in comparison_card(model, None)
    assert none in comparison_card(model, NOT_MEASURED)
    carried = comparison_card(model, ROW | {"source": CARRIED})
    assert "macro F1 0.4466; holdout of the partial model. This very model learned from the held" in carried


def test_figures_are_put_into_a_model_that_stays_the_same(place, small_data):
    """Config and card say them, the manifest knows both, and it predicts what it did."""
    weights = (place / "model.safetensors").read_bytes()
    before = load_model(place).predict(small_data.images)
    assert none_yet(place)
    write_figures(place, read_model(place), ROW | {"other": 1})
    assert read_model(place).facts["figures"] == {"cnn-1": ROW}
    assert json.loads((place / "config.json").read_text())["assay"]["system"] == "cnn-1"
    assert (place / "README.md").read_text() == CARD
    assert (place / "model.safetensors").read_bytes() == weights
    assert (load_model(place).predict(small_data.images).probs == before.probs).all()


def test_figures_that_are_there_already_are_not_written_again(place):
    """A folder that is not touched cannot be left half written."""
    write_figures(place, read_model(place), ROW)
    before = {file: file.stat().st_mtime_ns for file in place.iterdir()}
    write_figures(place, read_model(place), ROW)
    assert {file: file.stat().st_mtime_ns for file in place.iterdir()} == before


def none_yet(place):
    return "not measured" in (place / "README.md").read_text()
