"""assay check: new images against a finished run."""

import json
import re
import shutil
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from small_runs import CLASSES, draw_data, draw_image, quick_learning, write_labels
from written import rows_of

from assay.cli.app import run_app
from assay.pipeline import check as checking
from assay.pipeline.check import LEVEL, TESTS, Usual, count_wrong_labels
from assay.pipeline.finished import read_finished_run

N = 300
"""New images."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on 1,200 images, 120 of them held out, and its cache."""
    place = tmp_path_factory.mktemp("checked")
    data = draw_data(place / "data", 1200)
    with quick_learning():
        assert run_app(data.command(place / "out", "--quiet", "--cache", str(place / "cache"))) == 0
    return place


@pytest.fixture
def batch(tmp_path):
    """New images of the same kind, with right labels."""
    data = draw_data(tmp_path / "new", N, seed=1)
    write_labels(data.folder / "labels.csv", range(N), data.truth)
    return data


@pytest.fixture
def check(assay, trained, batch):
    """Check them, with their labels."""

    def give(*more):
        words = [trained / "out", batch.images, "--labels", batch.folder / "labels.csv", "-q", *more]
        return assay("check", *words, "--cache", trained / "cache")

    return give


def facts(found):
    assert found.code == 0
    return json.loads(found.out)


def test_a_batch_of_the_same_kind_has_nothing_to_report(check, trained, tmp_path):
    """The table says what was compared, and that no test differs; all findings are in the file."""
    found = check("-o", tmp_path / "findings.csv", "--max-wrong", "0")
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0] == "300 images checked, 0 skipped."
    assert "0 of 4 tests report a difference; of a batch like the run none does, 19 times in 20." in lines
    (wrong,) = [line for line in lines if line.startswith("wrong labels")]
    assert re.search(r" 0\.\d % \(0\.0 to \d\.\d\); \d of 300 contradicted, \d ", wrong)
    assert lines[-1] == f"All findings: {tmp_path / 'findings.csv'}"
    report = facts(check("--json"))
    assert (report["reported"], report["images"]) == ([], N)
    assert len(rows_of(tmp_path / "findings.csv")) == sum(report["counts"].values()) < 10
    assert not (trained / "out" / "findings.csv").exists()


def test_wrong_labels_are_counted_and_named(check, batch):
    """The share has an interval, each contradicted label the class that it should be; a gate can hold it."""
    wrong = np.arange(0, N, 6)
    labels = batch.truth.copy()
    labels[wrong] = (labels[wrong] + 1) % 3
    write_labels(batch.folder / "labels.csv", range(N), labels)
    report = facts(check("--json", "--max-wrong", "0.4"))
    assert "wrong_labels" in report["reported"]
    share = report["wrong_labels"]["share"]
    assert 0 < share["low"] < 1 / 6 < share["high"] < 0.3
    named = [one for one in report["findings"] if one["kind"] == "wrong_label"]
    right = [int(one["file"].removesuffix(".png")) in wrong for one in named]
    assert np.mean(right) > 0.9
    for one in named[:5]:
        assert one["label"] == CLASSES[batch.truth[int(one["file"].removesuffix(".png"))]]
    assert check("--max-wrong", "0.05").code == 5


def test_outliers_are_found_by_their_looks(check, batch):
    """Pictures of another kind, whatever their labels."""
    generator = np.random.default_rng(0)
    for row in range(15):
        pixels = generator.integers(0, 2, (32, 32, 3), np.uint8) * 255
        Image.fromarray(pixels).save(batch.images / f"{row}.png")
    report = facts(check("--json"))
    assert "outliers" in report["reported"]
    found = {one["file"] for one in report["findings"] if one["kind"] == "outliers"}
    assert {f"{row}.png" for row in range(15)} <= found
    assert len(found) < 20


def test_other_shares_of_classes_are_reported(check, batch):
    """With the class whose share differs most."""
    for row in np.flatnonzero(batch.truth == 2):
        Image.fromarray(draw_image(0, np.random.default_rng(int(row)))).save(batch.images / f"{row}.png")
    write_labels(batch.folder / "labels.csv", range(N), np.where(batch.truth == 2, 0, batch.truth))
    report = facts(check("--json"))
    assert "class_drift" in report["reported"]
    assert "wrong_labels" not in report["reported"]
    assert report["class_drift"]["largest"].startswith("ash: 6")


def test_another_camera_is_reported(check, batch):
    """Images that a classifier tells from the run's, here brighter ones."""
    for row in range(N):
        with Image.open(batch.images / f"{row}.png") as image:
            brighter = np.asarray(image).astype(int) + 15
        Image.fromarray(brighter.clip(0, 255).astype(np.uint8)).save(batch.images / f"{row}.png")
    assert "feature_drift" in facts(check("--json"))["reported"]


def test_copies_are_found_in_the_run_and_in_the_batch(check, trained, batch):
    """Byte for byte, and the same picture in another file."""
    old = trained / "data" / "images"
    shutil.copy(old / "7.png", batch.images / "0.png")
    shutil.copy(batch.images / "1.png", batch.images / "2.png")
    with Image.open(old / "8.png") as image:
        image.save(batch.images / "3.png", compress_level=1)
    found = facts(check("--json"))["findings"]
    named = {(one["kind"], one["file"], *one["others"][:1]) for one in found}
    assert ("duplicates", "0.png", "7.png") in named
    assert ("near_duplicates", "3.png", "8.png") in named
    assert ("duplicates_in_batch", "1.png", "2.png") in named


def test_predictions_have_an_outlier_score(assay, trained, batch, tmp_path):
    """As the last column; noise is above 1, and most images of the kind are below."""
    noise = np.random.default_rng(0).integers(0, 2, (32, 32, 3), np.uint8) * 255
    Image.fromarray(noise).save(batch.images / "0.png")
    (batch.images / "1.png").write_bytes(b"no image")
    assert assay("predict", trained / "out", batch.images, "-o", tmp_path / "p.csv", "-q").code == 0
    rows = rows_of(tmp_path / "p.csv")
    assert [*rows[0]] == ["file", "label", "probability", "status", "outlier_score"]
    assert (float(rows[0]["outlier_score"]) > 1, rows[1]["outlier_score"]) == (True, "")
    assert sum(float(row["outlier_score"]) > 1 for row in rows[2:]) < 6


def test_a_batch_without_labels_is_checked_for_the_rest(assay, trained, batch):
    """A gate on labels needs them."""
    words = ("check", trained / "out", batch.images, "-q", "--cache", trained / "cache")
    report = facts(assay(*words, "--json"))
    assert (report["wrong_labels"], report["reported"]) == (None, [])
    found = assay(*words, "--max-wrong", "0.1")
    assert (found.code, "--max-wrong: expected --labels FILE" in found.err) == (2, True)


def test_a_run_with_few_held_out_images_tests_little(assay, finished, small_data):
    """It says so, and has no gate."""
    words = ("check", finished, small_data.images, "--labels", small_data.folder / "trusted.csv", "-q")
    found = assay(*words)
    assert found.code == 0
    assert "the run has fewer than 100 held-out images." in found.out
    assert "240  0.png = 0.png" in found.out
    found = assay(*words, "--max-wrong", "0.1")
    assert (found.code, "expected a run with 100 held-out images or more" in found.err) == (2, True)


def test_the_backbone_is_asked_for_as_the_run_did(monkeypatch, finished, tmp_path):
    """Its features depend on the plan that was timed for that question, not on the answer's number format."""
    load = Mock(return_value=Mock(digest="one"))
    monkeypatch.setattr(checking, "load_backbone", load)
    record = {"name": "net", "size": 160, "digest": "one", "plan": {"dtype": "float32"}}
    run = replace(read_finished_run(finished), record={"backbone": record, "settings": {"dtype": "auto"}})
    checking._backbone_of(run, None, tmp_path)
    assert load.call_args.kwargs["dtype"] == "auto"


def test_wrong_input_is_refused(refused, trained, batch, tmp_path):
    """Labels of no class, two places, none, features for a run on images, an output among the images."""
    words = ("check", trained / "out", batch.images, "--cache", trained / "cache")
    write_labels(batch.folder / "labels.csv", range(N), batch.truth)
    text = (batch.folder / "labels.csv").read_text()
    (batch.folder / "labels.csv").write_text(text.replace("ash", "asch"))
    labels = ("--labels", batch.folder / "labels.csv")
    refused(3, "the label 'asch' is not a class of the model; did you mean 'ash'?", *words, *labels)
    refused(2, "expected IMAGES or --features FILE, got neither", "check", trained / "out")
    np.save(tmp_path / "vectors.npy", np.zeros((5, 3), np.float32))
    vectors = ("--features", tmp_path / "vectors.npy", "--cache", trained / "cache")
    refused(2, "expected IMAGES, as ", "check", trained / "out", *vectors)
    refused(2, "belongs to the run or model", *words, "-o", trained / "out" / "labels.csv")


@pytest.mark.parametrize("wrong", [0.0, 0.05])
def test_the_share_of_wrong_labels_lies_in_its_interval(wrong):
    """As often as stated, at 500 held-out and 1,000 new images; right labels are hardly ever reported."""
    generator, k, held, alarms = np.random.default_rng(0), 10, 0, 0

    def predict(truth):
        """A model that is right in 93 % of the images, and in 98 % of the 90 % where it is sure."""
        sure = generator.random(len(truth)) < 0.9
        errs = generator.random(len(truth)) < np.where(sure, 0.02, 0.5)
        other = (truth + generator.integers(1, k, len(truth))) % k
        return np.where(errs, other, truth), np.where(sure, 0.95, 0.5)

    for _ in range(200):
        truth = generator.integers(0, k, 500)
        usual = Usual(np.arange(500), truth, *predict(truth))
        truth = generator.integers(0, k, 1000)
        predicted, top = predict(truth)
        other = (truth + generator.integers(1, k, 1000)) % k
        labels = np.where(generator.random(1000) < wrong, other, truth)
        found = count_wrong_labels(usual, labels, predicted, top, k, 0.8)
        held += found.share.low <= wrong <= found.share.high
        alarms += found.p_value < LEVEL / len(TESTS)
    assert held >= 180
    assert alarms <= 6 if wrong == 0 else alarms >= 150
