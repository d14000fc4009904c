"""--features on the command line: run, predict, evaluate, noise; and commands that refuse such a run."""

import csv
import io

import numpy as np
import pytest
from small_runs import draw_data, quick_learning

from assay.cli.app import run_app


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """v.npy, labels and a finished run ``out``."""
    folder = tmp_path_factory.mktemp("features")
    data = draw_data(folder / "data")
    centres = np.random.default_rng(1).normal(size=(3, 8)) * 3
    np.save(folder / "v.npy", centres[data.truth] + np.random.default_rng(2).normal(size=(240, 8)))
    with quick_learning():
        assert (
            run_app(
                ["run", "--features", str(folder / "v.npy"), *data.labels, "-o", str(folder / "out"), "-q"]
            )
            == 0
        )
    return folder


def labels(place) -> list[str]:
    return ["--noisy", str(place / "data/noisy.csv"), "--trusted", str(place / "data/trusted.csv")]


def test_a_run_prints_what_it_measured(assay, place):
    """The baseline is named, and the model is described by its features."""
    found = assay("run", "--features", place / "v.npy", *labels(place), "-o", place / "out")
    assert found.code == 0
    assert "noisy-label baseline" in found.out
    assert "Features of 8 numbers, " in found.out
    plan = assay("run", "--features", place / "v.npy", *labels(place), "-o", place / "new", "--dry-run")
    assert "Features: as they are given." in plan.out
    assert "reads 0.0 kB and needs 0.0 kB of cache" in plan.out


def test_new_rows_are_predicted(assay, place, here):
    """One line a row, named by its number; the same command resumes; a NaN is a skipped row."""
    rows = np.load(place / "v.npy")
    rows[1, 0] = np.nan
    np.save("new.npy", rows)
    found = assay("predict", place / "out", "--features", "new.npy", "--strict")
    written = list(csv.DictReader(io.StringIO(found.out)))
    assert [row["status"] for row in written[:3]] == ["ok", "not_finite", "ok"]
    assert [row["file"] for row in written[:2]] == ["1", "2"]
    assert found.code == 4
    assert "1 of 240 images were skipped, see their status: 1 not_finite (NaN or infinity" in found.err
    assert assay("predict", place / "out", "--features", "new.npy", "-o", "p.csv").code == 0
    assert (here / "p.csv").read_text() == found.out


def test_a_model_is_evaluated_on_features(assay, place):
    """Labels by name or by line; features of the run itself bring a warning."""
    found = assay(
        "evaluate", place / "out", "--features", place / "v.npy", "--labels", place / "data/noisy.csv"
    )
    assert found.code == 0
    assert "n = 240" in found.out
    assert f"{place / 'v.npy'} are the features of the run {place / 'out'}, which trained on" in found.err


def test_noise_takes_features_for_their_names(assay, place):
    """Only the labels count, so no image is needed."""
    found = assay("noise", "--features", place / "v.npy", *labels(place))
    assert found.code == 0
    assert "of the labels are wrong" in found.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("predict", "{}/out"), "expected IMAGES or --features FILE, got neither; a model takes one of them"),
        (("predict", "{}/out", "{}/data", "--features", "{}/v.npy"), "got both; a model takes one of them"),
        (("evaluate", "{}/out", "--labels", "x.csv"), "expected IMAGES or --features FILE, got neither"),
        (("predict", "{}/out", "{}/data/images"), "trained on, features of 8 numbers, got images"),
        (("export", "{}/out", "-o", "x.onnx"), "expected the run of images, got one of features"),
        (("serve", "{}/out"), "expected a model of images, got one of features"),
        (("review", "{}/out"), "was made from features without images"),
        (("run", "-o", "o", "--trusted", "x.csv"), "expected IMAGES or --features FILE, got neither"),
    ],
)
def test_what_cannot_be_done_is_said(assay, place, words, message):
    """Each with exit code 2, what was expected and what to do."""
    found = assay(*(word.format(place) for word in words))
    assert found.code == 2
    assert message in found.err
