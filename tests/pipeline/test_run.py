"""The whole job, from a folder of images to a folder of results."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from small_runs import CLASSES, write_labels

from assay.errors import DataError, LabelError, UsageError
from assay.noise import describe
from assay.pipeline.outputs import LABEL_COLUMNS, read_facts
from assay.pipeline.run import run
from assay.types import UNKNOWN


def rows_of(out, name="labels.csv") -> list[dict[str, str]]:
    with (out / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_labels_are_right_and_say_what_they_are(finished, small_data):
    """labels.csv has one row an image in input order, and what it fixes is right."""
    rows = rows_of(finished.out)
    assert tuple(rows[0]) == LABEL_COLUMNS
    assert [row["name"] for row in rows] == [f"{i}.png" for i in range(240)]
    assert [row["noisy"] for row in rows] == [CLASSES[i] for i in small_data.noisy]
    right = [row["corrected"] == CLASSES[i] for row, i in zip(rows, small_data.truth, strict=True)]
    assert np.mean(right) > 0.95


def test_the_holdout_is_marked_and_its_trusted_labels_are_not_shown(finished, small_data):
    """A fifth of the trusted images have the reason holdout, no trusted label, and an action of their own."""
    rows = rows_of(finished.out)
    held = {i for i, row in enumerate(rows) if row["reason"] == "holdout"}
    shown = {i for i, row in enumerate(rows) if row["trusted"]}
    assert len(held) == 24
    assert not held & shown
    assert held | shown == set(small_data.trusted_rows.tolist())
    assert all(rows[i]["action"] == "trusted" and rows[i]["confidence"] == "1.0" for i in shown)
    assert {rows[i]["action"] for i in held} <= {"kept", "changed", "unsure"}


def test_the_model_is_measured_beside_the_baseline(finished):
    """Both figures come from the same held-out images, and a paired test says that assay is better."""
    result = finished.result
    assert {name: found.n for name, found in result.evaluation.items()} == {
        "histogram": 24,
        "assay": 24,
        "assay_cross_validated": 96,
        "labels_cross_validated": 96,
    }
    ours, baseline = result.evaluation["assay"], result.evaluation["histogram"]
    assert ours.accuracy.estimate > 0.9
    assert baseline.accuracy.estimate < 0.6
    assert ours.paired.difference.estimate == pytest.approx(
        ours.accuracy.estimate - baseline.accuracy.estimate
    )
    assert result.better_than_baseline is True


def test_each_image_behind_the_figure_is_listed(finished):
    """holdout.csv has them in input order; counted, they are the accuracy."""
    held = rows_of(finished.out, "holdout.csv")
    assert [row["name"] for row in held] == [
        row["name"] for row in rows_of(finished.out) if row["reason"] == "holdout"
    ]
    right = [row["predicted"] == row["trusted"] for row in held if not row["reason"]]
    assert finished.result.evaluation["assay"].accuracy.estimate == np.mean(right)


def test_the_noise_is_found(finished, small_data):
    """noise.json holds the rate with an interval that contains the true one, and says it in words."""
    noise = json.loads((finished.out / "noise.json").read_text())
    truth = np.mean(small_data.noisy != small_data.truth)
    assert noise["rate"]["low"] < truth < noise["rate"]["high"]
    assert noise["n_pairs"] == 96
    assert noise["summary"] == describe(finished.result.noise)
    assert noise["representative"]["looks_alike"] is True


def test_the_record_says_how_to_do_it_again(finished, small_data):
    """run.json holds command, settings, data, versions, machine, backbone, split, seconds and outputs."""
    record = json.loads((finished.out / "run.json").read_text())
    assert record["status"] == "done"
    assert record["command"] == ["assay", "run", "…"]
    assert record["settings"] == finished.options.settings()
    assert (record["data"]["images"], record["data"]["trusted"]) == (240, 120)
    assert {len(record["data"][name]) for name in ("labels", "contents")} == {64}
    assert (record["split"]["fit"], record["split"]["holdout"]) == (96, 24)
    assert record["backbone"]["name"] == "tiny"
    assert {"python", "numpy", "torch"} <= set(record["versions"])
    assert record["machine"]["threads"] >= 1
    assert list(record["seconds"]) == sorted(
        ["read", "load", "embed", "seal", "learn", "baseline", "measure", "export", "damage", "write"]
    )
    assert (record["processes"], record["holdout_evaluations"]) == (1, 1)


def test_warnings_are_said_and_kept(finished):
    """What the user should know is said while it runs, returned, and in evaluation.json."""
    few = (
        "Only 96 images carry both labels: all figures are rough. "
        "200 to 500 trusted labels would settle them."
    )
    assert finished.result.warnings == (few,)
    assert finished.said == [f"warning: {few}"]
    assert read_facts(finished.out)["warnings"] == [few]


def test_the_facts_are_read_back(finished):
    """What the files say of a run is what its result says."""
    facts = read_facts(finished.out)
    assert facts["folder"] == str(finished.out)
    assert facts["noise"]["rate"] == finished.result.noise.rate.to_json()
    for name, found in finished.result.evaluation.items():
        assert facts["systems"][name] == found.to_json()
    assert facts["labels"]["counts"] == dict(finished.result.learned.corrected.counts)
    assert facts["better_than_baseline"] is True


def test_facts_of_no_run_are_refused(tmp_path):
    """A folder without results is named."""
    with pytest.raises(DataError, match=r"^.*: expected the folder of a finished run \(.*noise.json"):
        read_facts(tmp_path)


def test_without_a_holdout_everything_is_learned_from(small_data, options, tmp_path):
    """With --holdout 0 no seal is opened and the accuracy of the model is not measured, and that is said."""
    result = run(small_data.images, tmp_path / "out", replace(options, holdout=0))
    assert set(result.evaluation) == {"assay_cross_validated", "labels_cross_validated"}
    assert rows_of(tmp_path / "out", "holdout.csv") == []
    assert result.evaluation["assay_cross_validated"].n == 120
    assert result.better_than_baseline is None
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["split"]["holdout"], record["holdout_evaluations"]) == (0, 0)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "No image was held out: the accuracy of this model is not measured." in card


def test_a_holdout_that_leaves_nothing_to_learn_from_is_refused(small_data, options, tmp_path):
    """More images than can be held out are refused before anything is written."""
    message = r"expected --holdout from 0 to 118, so that two trusted images are left .*, got 119 of 120"
    with pytest.raises(UsageError, match=message):
        run(small_data.images, tmp_path / "out", replace(options, holdout=119))
    assert not (tmp_path / "out").exists()


def test_results_among_the_images_are_refused(small_data, options):
    """A folder below the images would be read as images the next time."""
    out = small_data.images / "results"
    message = rf"^{out}: expected a folder outside {small_data.images}, where results would count as images$"
    with pytest.raises(UsageError, match=message):
        run(small_data.images, out, options)
    assert not out.exists()


def test_a_run_that_was_refused_leaves_no_run(own_data, read_of, options, tmp_path):
    """After a refusal the corrected command finds the folder free."""
    one = own_data.trusted_rows[own_data.truth[own_data.trusted_rows] == 0]
    write_labels(own_data.folder / "trusted.csv", one, own_data.truth[one])
    wrong = replace(options, read=read_of(own_data))
    with pytest.raises(LabelError, match=r"two or more trusted labels .* got 0 and \d+ of 'ash'"):
        run(own_data.images, tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match=r"no-such-network"):
        run(own_data.images, tmp_path / "out", replace(options, backbone="no-such-network"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".lock"]


def test_class_names_for_people_are_used_in_figures_and_model(own_data, read_of, options, tmp_path):
    """Integer labels stay what they are in the files; reports speak of the names."""
    for name in ("noisy.csv", "trusted.csv"):
        file = own_data.folder / name
        text = file.read_text()
        for number, word in enumerate(CLASSES):
            text = text.replace(f",{word}", f",{number}")
        file.write_text(text)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    read = replace(read_of(own_data), classes=tmp_path / "classes.txt")
    result = run(own_data.images, tmp_path / "out", replace(options, read=read))
    assert {row["corrected"] for row in rows_of(tmp_path / "out")} == {"0", "1", "2"}
    assert [scores.name for scores in result.evaluation["assay"].report.classes] == list(CLASSES)
    assert (result.model.labels, result.model.titles) == (("0", "1", "2"), CLASSES)
    assert read_facts(tmp_path / "out")["noise"]["classes"] == list(CLASSES)
    assert result.noise.classes == CLASSES


def test_without_some_given_labels_the_images_are_labelled_all_the_same(own_data, read_of, options, tmp_path):
    """An image without a noisy label gets a fixed one, and the reason says that it had none."""
    rows = range(200)
    write_labels(own_data.folder / "noisy.csv", rows, own_data.noisy[:200])
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    late = [row for row in rows_of(tmp_path / "out") if int(row["name"].removesuffix(".png")) >= 200]
    assert len(late) == 40
    assert {row["noisy"] for row in late} == {""}
    assert {row["reason"] for row in late} == {"no given label", "holdout"}
    assert all(row["corrected"] in CLASSES for row in late)
    assert (result.dataset.noisy == UNKNOWN).sum() == 40


def test_trusted_labels_of_absent_images_are_not_held_out(own_data, read_of, options, tmp_path):
    """Sixty more that name no image change neither how many are sealed nor how many judge."""
    with (own_data.folder / "trusted.csv").open("a") as file:
        file.writelines(f"gone-{number}.png,{CLASSES[number % 3]}\n" for number in range(60))
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    assert len(result.dataset.skipped) == 60
    assert result.evaluation["assay"].n == 24
