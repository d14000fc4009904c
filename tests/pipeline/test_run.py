"""The whole job, from a folder of images to a folder of results."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pictures import saved
from small_datasets import InMemory, noise
from small_runs import CLASSES, quick_learning, read_record, read_rows

from assay.data import loader
from assay.data.dataset import Dataset, ReadOptions
from assay.data.decode import decode
from assay.data.resize import to_square
from assay.embed.images import embed_images
from assay.embed.tiny import TinyBackbone
from assay.errors import UsageError
from assay.noise import describe
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run
from assay.pipeline.run_files import LABEL_COLUMNS, OUTLIER_COLUMN, read_facts


def test_the_labels_are_right_and_say_what_they_are(finished, small_data):
    """labels.csv has one row an image in input order, and its corrected labels are right."""
    rows = read_rows(finished.out)
    assert tuple(rows[0]) == (*LABEL_COLUMNS, OUTLIER_COLUMN)
    assert [row["file"] for row in rows] == [f"{i}.png" for i in range(240)]
    assert [row["noisy_label"] for row in rows] == [CLASSES[i] for i in small_data.noisy]
    right = [row["corrected_label"] == CLASSES[i] for row, i in zip(rows, small_data.truth, strict=True)]
    assert np.mean(right) > 0.95


def test_the_holdout_is_marked_and_its_trusted_labels_are_not_shown(finished, small_data):
    """A fifth of the trusted images have the reason holdout, no trusted label, and an action of their own."""
    rows = read_rows(finished.out)
    held = {i for i, row in enumerate(rows) if row["reason"] == "holdout"}
    shown = {i for i, row in enumerate(rows) if row["trusted_label"]}
    assert len(held) == 24
    assert not held & shown
    assert held | shown == set(small_data.trusted_rows.tolist())
    assert all(rows[i]["action"] == "trusted" and rows[i]["confidence"] == "1.0" for i in shown)
    assert {rows[i]["action"] for i in held} <= {"kept", "changed", "unsure"}


def test_the_model_is_measured_beside_the_baseline(finished):
    """Both figures come from the images that holdout.csv lists, and a paired test compares them."""
    found = finished.result.evaluation
    assert {name: one.n for name, one in found.items()} == {
        "histogram": 24,
        "assay": 24,
        "assay_cross_validated": 96,
        "labels_cross_validated": 96,
    }
    ours, baseline = found["assay"], found["histogram"]
    assert ours.accuracy.estimate > 0.9
    assert baseline.accuracy.estimate < 0.6
    gain = ours.accuracy.estimate - baseline.accuracy.estimate
    assert ours.paired.difference.estimate == pytest.approx(gain)
    assert finished.result.better_than_baseline is True
    held = read_rows(finished.out, "holdout.csv")
    assert [row["file"] for row in held] == [
        row["file"] for row in read_rows(finished.out) if row["reason"] == "holdout"
    ]
    right = [row["predicted_label"] == row["trusted_label"] for row in held if not row["reason"]]
    assert ours.accuracy.estimate == np.mean(right)


def test_the_noise_is_found(finished, small_data):
    """noise.json holds the rate with an interval that contains the true one, and a summary in words."""
    noise = json.loads((finished.out / "noise.json").read_text())
    assert noise["rate"]["low"] < np.mean(small_data.noisy != small_data.truth) < noise["rate"]["high"]
    assert noise["n_pairs"] == 96
    assert noise["summary"] == describe(finished.result.noise)
    assert noise["representative"]["looks_alike"] is True


def test_the_record_says_how_to_do_it_again(finished, small_data):
    """run.json holds command, settings, data, versions, machine, backbone, split, seconds and outputs."""
    record = read_record(finished.out)
    assert record["status"] == "done"
    assert record["command"] == ["assay", "run", "…"]
    assert record["images"] == str(small_data.images)
    assert record["settings"] == finished.options.settings()
    assert (record["data"]["images"], record["data"]["trusted"]) == (240, 120)
    assert {len(record["data"][name]) for name in ("labels", "contents")} == {64}
    assert (record["split"]["fit"], record["split"]["holdout"]) == (96, 24)
    assert record["backbone"]["name"] == "tiny"
    assert {"python", "numpy", "torch"} <= set(record["versions"])
    assert record["machine"]["threads"] >= 1
    stages = "baseline embed evaluate export learn load read robustness split write"
    assert " ".join(record["seconds"]) == stages
    assert (record["processes"], record["holdout_evaluations"]) == (1, 1)


def test_warnings_are_notified_and_kept(finished):
    """What the user should know appears while it runs, in the result and in evaluation.json."""
    rough = "Only 96 images carry both labels: all figures are rough."
    few = f"{rough} 200 to 500 trusted labels would settle them."
    # The holdout of 24 has classes too small to measure; the headline is of 96 images, which has none.
    assert finished.result.evaluation["assay"].too_small
    assert finished.result.warnings == (few,)
    assert finished.said == [f"warning: {few}"]
    assert read_facts(finished.out)["warnings"] == [few]


def test_prediction_sets_are_counted_on_the_holdout(finished, small_data):
    """The coverage in evaluation.json is that of the saved model's sets on the held-out images."""
    held = [int(row["file"].removesuffix(".png")) for row in read_rows(finished.out, "holdout.csv")]
    predictor = finished.result.model
    predicted = predictor.predict([small_data.images / f"{row}.png" for row in held])
    found = {one["asked"]: one for one in read_facts(finished.out)["coverage"]}
    assert {0.5, 0.9, 0.95} <= {*found}
    for asked, one in found.items():
        sets = predicted.sets(predictor.runtime.thresholds[f"{asked:g}"])
        right = [CLASSES[small_data.truth[row]] in labels for row, labels in zip(held, sets, strict=True)]
        assert one["estimate"] == pytest.approx(np.mean(right))
        assert one["labels"] == pytest.approx(np.mean([len(labels) for labels in sets]))
    assert "| 95 % | " in (finished.out / "model" / "README.md").read_text()


def test_without_a_holdout_everything_is_trained_on(without_holdout):
    """With --holdout 0 the accuracy of the model is not measured, and its card says so."""
    result, out = without_holdout, without_holdout.path
    assert set(result.evaluation) == {"assay_cross_validated", "labels_cross_validated"}
    assert read_rows(out, "holdout.csv") == []
    assert result.evaluation["assay_cross_validated"].n == 120
    assert result.better_than_baseline is None
    assert "assay: not measured. No image was held out." in repr(result)
    record = read_record(out)
    assert (record["split"]["holdout"], record["holdout_evaluations"]) == (0, 0)
    card = (out / "model" / "README.md").read_text()
    assert "No image was held out: the accuracy of this model is not measured." in card


def test_results_among_the_images_are_refused(small_data, options):
    """A folder below the images would be read as images the next time."""
    out = small_data.images / "results"
    message = rf"^{out}: expected a folder outside {small_data.images}, where results would count as images$"
    with pytest.raises(UsageError, match=message):
        run(small_data.images, out, options)
    assert not out.exists()


def test_a_run_that_was_refused_leaves_no_run(small_data, options, tmp_path):
    """After a refusal the corrected command finds the folder free."""
    with pytest.raises(UsageError, match=r"no-such-network"):
        run(small_data.images, tmp_path / "out", replace(options, backbone="no-such-network"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".lock"]
    message = r"expected --holdout from 0 to 118, so that two trusted images are left .*, got 119 of 120"
    with pytest.raises(UsageError, match=message):
        run(small_data.images, tmp_path / "new", replace(options, holdout=119))
    assert not (tmp_path / "new").exists()


@pytest.fixture
def decoded(monkeypatch) -> list[bytes]:
    """The files that were decoded."""
    files: list[bytes] = []

    def noted(data, **options):
        files.append(data)
        return decode(data, **options)

    monkeypatch.setattr(loader, "decode", noted)
    return files


def test_a_run_decodes_each_image_once(small_data, options, tmp_path, decoded):
    """The baseline sees them while the network does; 128 are read again to compare the exported graph."""
    run(small_data.images, tmp_path / "out", replace(options, cache=tmp_path / "cache"))
    assert len(decoded) == 240 + 128
    assert read_record(tmp_path / "out")["features_computed"] == 240


@pytest.mark.parametrize(("side", "passes"), [(32, 1), (20, 1), (48, 2)])
def test_images_to_fine_tune_on_are_decoded_in_passing(tmp_path, decoded, monkeypatch, side, passes):
    """But where they are larger than what the network of the features sees: they would be too coarse."""
    files, labels = [*(saved(noise(seed, side, side)) for seed in range(39)), b"no image"], np.arange(40) % 2
    dataset = Dataset(tuple(f"{row}.png" for row in range(40)), InMemory(files), ("a", "b"), labels, labels)
    kept = []

    def embed(*arguments, **named):
        decoded.clear()  # some were decoded to find out how large they are
        return embed_images(*arguments, **named)

    def killed(*_, resized_images, **__):
        kept.append(resized_images.copy())
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.pipeline.run.load_networks", lambda *_: (TinyBackbone(), {64: TinyBackbone()}))
    monkeypatch.setattr("assay.pipeline.run.embed_images", embed)
    monkeypatch.setattr("assay.pipeline.run.fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run(dataset, tmp_path / "out", RunOptions(preset="balanced", cache=tmp_path / "cache"))
    # A second pass leaves out what the first could not use.
    assert sorted(decoded) == sorted([*files, *(files[:39] * (passes - 1))])
    expected = [to_square(decode(file).pixels, side) for file in files[:39]]
    assert np.array_equal(kept[0], [*expected, np.zeros((side, side, 3))])


@pytest.fixture(scope="module")
def gappy(small_data, options, tmp_path_factory):
    """A run on integer labels with names; 40 images have no noisy label, 60 trusted labels no image."""
    place = tmp_path_factory.mktemp("gappy")
    numbered = [f"{row}.png,{label}\n" for row, label in enumerate(small_data.noisy[:200])]
    (place / "noisy.csv").write_text("file,label\n" + "".join(numbered))
    trusted = [f"{row}.png,{small_data.truth[row]}\n" for row in small_data.trusted_rows]
    trusted += [f"gone-{number}.png,{number % 3}\n" for number in range(60)]
    (place / "trusted.csv").write_text("file,label\n" + "".join(trusted))
    (place / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    read = ReadOptions(
        noisy=place / "noisy.csv", trusted=place / "trusted.csv", classes=place / "classes.txt"
    )
    with quick_learning():
        return run(small_data.images, place / "out", replace(options, read=read))


def test_class_names_are_used_in_figures_and_model(gappy):
    """Integer labels stay what they are in the files; reports use the names."""
    assert {row["corrected_label"] for row in read_rows(gappy.path)} == {"0", "1", "2", ""}
    assert [scores.name for scores in gappy.evaluation["assay"].report.classes] == list(CLASSES)
    labels = json.loads((gappy.path / "model" / "labels.json").read_text())
    assert (labels["labels"], labels["titles"]) == (["0", "1", "2"], list(CLASSES))
    assert gappy.noise.classes == CLASSES


def test_images_without_a_noisy_label_are_labelled_too(gappy):
    """They get a corrected label and say that they had none; absent images are not held out (fault 30)."""
    rows = {row["file"]: row for row in read_rows(gappy.path)}
    late = [rows[f"{number}.png"] for number in range(200, 240)]
    assert {row["noisy_label"] for row in late} == {""}
    assert {row["reason"] for row in late} == {"no noisy label", "holdout"}
    assert all(row["corrected_label"] in ("0", "1", "2") for row in late)
    assert (gappy.facts["skipped"], gappy.evaluation["assay"].n) == (60, 24)
