"""Runs on features in place of images: the whole job, its model, and what other commands do with it."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import polars as pl
import pytest
from small_runs import CLASSES, quick_learning, read_record, read_rows, same_bytes

import assay
from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset
from assay.embed.images import embed_images
from assay.embed.tiny import TinyBackbone
from assay.errors import DataError, OtherRunError, UsageError
from assay.pipeline.audit import audit_dataset
from assay.pipeline.finished import open_run, stored_features
from assay.pipeline.options import RunOptions
from assay.pipeline.plan import plan_labels
from assay.pipeline.run import run
from assay.report import write_report
from assay.review.run import read_review_run


@pytest.fixture(scope="session")
def vectors(small_data, tmp_path_factory) -> np.ndarray:
    """Features (240, 384) of the small images, in the order of noisy.csv, as float16 can have them."""
    dataset = read_dataset(small_data.images, small_data.read)
    features = embed_images(dataset, TinyBackbone(), tmp_path_factory.mktemp("cache"), mirrored=False)
    return np.asarray(features.views[0], np.float16).astype(np.float32)


@pytest.fixture(scope="session")
def given(vectors, small_data, tmp_path_factory) -> RunOptions:
    """Those features in a file, with the labels of the images."""
    file = tmp_path_factory.mktemp("vectors") / "vectors.npy"
    np.save(file, vectors)
    return RunOptions(read=replace(small_data.read, features=file))


@pytest.fixture(scope="session")
def of_features(given, tmp_path_factory):
    """A run that is not to be changed."""
    with quick_learning():
        return run(None, tmp_path_factory.mktemp("given") / "out", given)


def test_features_are_enough_for_the_whole_job(of_features, given, small_data):
    """Corrected labels, figures against the same classifier on noisy labels, a record of where they were."""
    rows = read_rows(of_features.path)
    assert [row["file"] for row in rows] == [f"{i}.png" for i in range(240)]
    right = [row["corrected_label"] == CLASSES[i] for row, i in zip(rows, small_data.truth, strict=True)]
    assert np.mean(right) > 0.95
    found = of_features.evaluation
    assert {*found} == {"noisy_only", "assay", "assay_cross_validated", "labels_cross_validated"}
    assert found["assay"].accuracy.estimate > 0.9
    assert found["assay"].paired.n == found["noisy_only"].n
    record = read_record(of_features.path)
    assert (record["images"], record["features"]) == (None, str(given.read.features))
    assert record["backbone"]["name"] == "features"
    assert not {"backbone", "size", "dtype", "weights"} & {*record["settings"]}
    assert of_features.facts["model"] == {"architecture": "features", "size": 0, "width": 384}


def test_the_model_is_onnx_of_features(of_features, vectors):
    """Any runtime takes float32 (N, D) and gives what assay predicts; the card and config say so."""
    folder = of_features.path / "model"
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape[1]) == ("features", "tensor(float)", 384)
    (probs,) = session.run(["probabilities"], {"features": vectors})
    predicted = of_features.model.predict(vectors)
    assert np.allclose(probs, predicted.probs, atol=1e-5)
    card = (folder / "README.md").read_text()
    assert card.startswith("# Classifier of features: 3 classes\n\nA head on 384 given features.")
    assert "Image" not in card
    assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["input_size"] == [384]


@pytest.mark.parametrize("kind", ["array", "parquet", "float16"])
def test_the_same_numbers_give_the_same_bytes(of_features, vectors, small_data, kind, tmp_path):
    """From memory, from Parquet in another order, or from a file of float16."""
    features = vectors
    if kind == "parquet":
        features, order = tmp_path / "v.parquet", np.random.default_rng(0).permutation(240)
        names = [f"{row}.png" for row in order]
        pl.DataFrame({"file": names, "vector": vectors[order].tolist()}).write_parquet(features)
    elif kind == "float16":
        features = tmp_path / "half.npy"
        np.save(features, vectors.astype(np.float16))
    labels = {name: small_data.folder / f"{name}.csv" for name in ("noisy", "trusted")}
    result = assay.run(None, tmp_path / "out", features=features, **labels)
    assert same_bytes(result.path) == same_bytes(of_features.path)
    graphs = [(out / "model/model.onnx").read_bytes() for out in (result.path, of_features.path)]
    assert graphs[0] == graphs[1]


def test_a_killed_run_resumes_and_other_features_are_another_run(
    of_features, given, vectors, tmp_path, monkeypatch
):
    """Killed before it learns it ends in the same bytes; one changed number is refused."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("assay.pipeline.run.learn", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(None, out, given)
    said: list[str] = []
    run(None, out, given, notify=said.append)
    assert f"{out}: resuming run" in said
    assert same_bytes(out) == same_bytes(of_features.path)
    np.save(tmp_path / "other.npy", vectors + np.float32(1) * (np.arange(240) == 7)[:, None])
    other = replace(given, read=replace(given.read, features=tmp_path / "other.npy"))
    with pytest.raises(OtherRunError, match=r"holds a run with images whose files were changed since"):
        run(None, out, other)


def _interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def of_bad_rows(given, vectors, small_data, tmp_path_factory):
    """A run on features with bad rows and equal ones, that knows the place of its images."""
    rows, folder = vectors.copy(), tmp_path_factory.mktemp("bad")
    rows[3, 0], rows[4, 5], rows[5:17] = np.nan, np.inf, 0
    names = [f"{row}.png" for row in range(240)]
    file = folder / "v.parquet"
    pl.DataFrame({"file": names[:-1], "vector": rows[:-1].tolist()}).write_parquet(file)
    with quick_learning():
        return run(small_data.images, folder / "out", replace(given, read=replace(given.read, features=file)))


def test_bad_rows_are_skipped_with_their_reason(of_bad_rows, tmp_path):
    """NaN, infinity, and a label without a vector, stay rows of labels.csv; nothing else changes for them."""
    rows = read_rows(of_bad_rows.path)
    found = {row["file"]: row["reason"] for row in rows if row["action"] == "skipped"}
    assert found == {"3.png": "not_finite", "4.png": "not_finite", "239.png": "missing_features"}
    opened = open_run(of_bad_rows.path, command="audit", features=True)
    dataset, _ = stored_features(opened, opened.images, tmp_path)
    assert {*dataset.skipped} == {3, 4, 239}


def test_equal_rows_may_have_different_trusted_labels(of_bad_rows, small_data):
    """Two texts without a known word have equal vectors; for images that would be a contradiction."""
    assert len(np.unique(small_data.truth[6:17:2])) > 1
    assert of_bad_rows.evaluation["assay_cross_validated"].n > 80


def test_audit_and_plan_need_the_features_alone(of_features, given, vectors, tmp_path):
    """They are read where they were, or at the place that is named; other ones are refused."""
    out = of_features.path
    opened = open_run(out, command="audit", features=True)
    dataset, features = stored_features(opened, opened.images, tmp_path)
    assert np.array_equal(features.views[0], vectors)
    audited = audit_dataset(dataset, features, holdout=opened.held_out)
    assert len(dataset) == 240
    assert audited.found.look_pairs
    plan = plan_labels(opened, tmp_path, more=[50], label=10)
    assert len(plan.random) == 10
    moved = tmp_path / "moved.npy"
    np.save(moved, vectors)
    assert np.array_equal(
        open_run(out, moved, command="audit", features=True).dataset(opened.images).vectors, vectors
    )
    np.save(moved, vectors * 2)
    changed = open_run(out, moved, command="audit", features=True)
    with pytest.raises(
        DataError, match=r"expected the features that .* was made from, got files that were changed"
    ):
        stored_features(changed, changed.images, tmp_path)


def test_features_that_are_gone_are_named(of_features, tmp_path):
    """An array in memory was never in a file; a file may have been moved."""
    copy = tmp_path / "out"
    copy.mkdir()
    for file in ("labels.csv", "model/labels.json", "run.json"):
        (copy / file).parent.mkdir(exist_ok=True)
        (copy / file).write_bytes((of_features.path / file).read_bytes())
    for place, message in (
        (None, r"were an array in memory; name their file: assay plan .*out FILE$"),
        ("/gone/v.npy", r"are no longer at /gone/v.npy; name their file"),
    ):
        record = read_record(copy) | {"features": place}
        (copy / "run.json").write_text(json.dumps(record))
        with pytest.raises(UsageError, match=message):
            open_run(copy, command="plan", features=True)


def test_report_and_review_show_images_if_there_are_any(of_features, small_data, tmp_path):
    """With the place of the images they show them; without it the report has none and the review says so."""
    without = write_report(of_features.path, tmp_path / "without.html")
    assert "so none is shown" in without.notes[0]
    text = without.page.read_text()
    assert "noisy-label baseline" in text
    assert "points more than the same classifier on noisy labels alone" in text
    assert " px" not in text.split("</style>")[1]
    shown = write_report(of_features.path, tmp_path / "with.html", images=small_data.images)
    assert "data:image/webp" in shown.page.read_text()
    with pytest.raises(
        UsageError, match=r"made from features without images, which assay review shows; name"
    ):
        read_review_run(of_features.path)
    assert isinstance(read_review_run(of_features.path, small_data.images).images.read(0), bytes)


def test_a_run_may_know_its_images(of_bad_rows, small_data):
    """IMAGES beside --features are where the report and the review look first."""
    assert read_record(of_bad_rows.path)["images"] == str(small_data.images)
    assert isinstance(read_review_run(of_bad_rows.path).images.read(0), bytes)


def test_a_model_of_features_predicts_and_is_evaluated(of_features, vectors, small_data, tmp_path):
    """Arrays and files, with a reason for each bad row; another length is refused."""
    rows = vectors.copy()
    rows[1, 0] = np.nan
    found = of_features.model.predict(rows)
    assert found.statuses[:3] == ("ok", "not_finite", "ok")
    assert found.names[:2] == ("1", "2")
    np.save(tmp_path / "v.npy", vectors)
    assert np.array_equal(of_features.model.predict(tmp_path / "v.npy").probs[2:], found.probs[2:])
    lines = "".join(f"{CLASSES[label]}\n" for label in small_data.truth)
    (tmp_path / "truth.csv").write_text(lines)
    measured = of_features.model.evaluate(vectors, tmp_path / "truth.csv")
    assert measured.accuracy.estimate > 0.95
    with pytest.raises(DataError, match=r"expected features of 384 numbers, .* got rows of 5; compute them"):
        of_features.model.predict(np.ones((2, 5)))
    assert repr(of_features.model).startswith("Predictor(3 classes, features of 384 numbers, ")


def test_images_and_features_are_not_confused(of_features, finished, small_data, given):
    """A model takes what it was trained on."""
    with pytest.raises(UsageError, match=r"^expected what the model was trained on, 32 px, got features$"):
        finished.result.model.evaluate(None, ReadOptions(features=given.read.features))
    from assay.data.read import read_images
    from assay.predict.batch import predict_dataset

    with pytest.raises(UsageError, match=r"trained on, features of 384 numbers, got images$"):
        predict_dataset(of_features.model.runtime, read_images(small_data.images))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"preset": "best"}, r"--preset: expected fast with --features, got best: it fine-tunes a network"),
        ({"backbone": "tiny", "size": 96}, r"^--backbone, --size: expected images to embed, got --features$"),
    ],
)
def test_options_of_a_network_are_refused(given, choice, message):
    """An option that had no effect would mislead."""
    with pytest.raises(UsageError, match=message):
        replace(given, **choice)


@pytest.mark.parametrize(
    ("separation", "wrong", "better"), [(3.0, 0.0, None), (1.2, 0.45, True), (0.0, 0.4, False)]
)
def test_as_good_as_the_baseline_is_no_failure(given, small_data, separation, wrong, better, tmp_path):
    """Without noise there is nothing to gain; with much there is; features that say nothing are a failure."""
    generator = np.random.default_rng(1)
    truth = np.arange(1500) % 3
    rows = separation * np.eye(3, 16)[truth] + generator.normal(size=(1500, 16)) / 2
    # All wrong labels of two classes fall on the third: a classifier that believes them learns that.
    noisy = np.where(generator.random(1500) < wrong * (truth > 0), 0, truth)
    names = np.array(CLASSES, dtype=object)
    checked = np.where(np.arange(1500) % 2, names[truth], None)
    result = assay.run(None, tmp_path / "out", features=rows, noisy=[*names[noisy]], trusted=[*checked])
    assert result.better_than_baseline is better
    warned = {warning.rpartition("than ")[2] for warning in result.warnings}
    assert ("the noisy-label baseline" in warned) is (better is not True)
    assert ("one class for all images" in warned) is (better is False)
