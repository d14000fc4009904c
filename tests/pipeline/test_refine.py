"""Runs that fine-tune: better than frozen features, resumed to the same bytes, and honest about it."""

import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm")

from networks import quick_probe
from PIL import Image
from small_runs import draw_data, quick_learning

from assay.correct.posterior import NO_FLOOR, by_halves
from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset
from assay.data.split import draw_holdout
from assay.data.squares import read_squares
from assay.errors import LabelError, UsageError
from assay.evaluate import wilson
from assay.pipeline.dry_run import dry_run
from assay.pipeline.finished import open_images, read_finished_run, stored_features
from assay.pipeline.options import RunOptions
from assay.pipeline.outputs import read_facts
from assay.pipeline.presets import PRESETS, Preset
from assay.pipeline.refine import beside_before
from assay.pipeline.result import RunResult
from assay.pipeline.robustness import DAMAGE
from assay.pipeline.run import run
from assay.predict.batch import predict_dataset
from assay.predict.flip_tta import FLIP_TTA_BELOW
from assay.predict.model import read_model
from assay.predict.runtime import load_runtime
from assay.report import write_report
from assay.train.finetune import Phase

pytestmark = [pytest.mark.train, pytest.mark.slow]

SMALL = Preset("tf_efficientnet_lite0", (Phase(32, 1),))
SAME = ("labels.csv", "noise.json", "model/model.safetensors")


@dataclass(frozen=True)
class Fine:
    """A finished run at preset ``balanced``."""

    result: RunResult
    images: Path
    options: RunOptions
    said: list[str]

    @property
    def out(self) -> Path:
        return self.result.path


@pytest.fixture(autouse=True, scope="module")
def _small():
    """Two epochs or so on tiny images, after a short beginning."""
    with quick_probe(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "balanced", SMALL)
        patch.setattr("assay.pipeline.presets.MOST_TIMES", 2)
        yield


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    place, said = tmp_path_factory.mktemp("fine"), []
    data = draw_data(place / "data")
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    options = RunOptions(read=read, backbone="tiny", cache=place / "features", preset="balanced")
    with quick_learning():
        result = run(data.images, place / "out", options, notify=said.append)
    return Fine(result, data.images, options, said)


def bytes_of(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in SAME]


def test_the_fine_tuned_network_is_the_model(fine):
    """It is saved, as the student at its last size, and its graph says what was measured."""
    facts = read_facts(fine.out)
    assert facts["model"] == {"architecture": "tf_efficientnet_lite0", "size": 32}
    assert facts["systems"]["assay"]["accuracy"]["estimate"] > 0.6
    runtime = load_runtime(fine.out)
    assert runtime.size == 32
    record = json.loads((fine.out / "run.json").read_text())
    assert record["backbone"]["name"] == "tiny"
    assert [*record["fine_tuning"]] == ["student"]
    assert record["fine_tuning"]["student"]["network"] == "tf_efficientnet_lite0"
    assert record["fine_tuning"]["student"]["stages"] == [[32, 2]]


def test_whether_it_was_worth_it_is_said(fine):
    """How right the frozen features and the fine-tuned network are of the same images; less is a warning."""
    said = next(line for line in fine.said if "before fine-tuning" in line)
    learned = fine.result.learned
    before = replace(learned, unseen=1 - learned.unseen)
    truth, validation = learned.corrected.trusted, learned.validation
    right = (learned.unseen[validation].argmax(axis=1) == truth[validation]).mean()
    assert f"{100 * right:.1f} % after" in said
    assert beside_before(before, learned, validation, truth).startswith("right of ")
    assert beside_before(learned, before, validation, truth).startswith("warning: right of ")


def test_the_plan_and_the_figures_are_said(fine):
    """Before it begins, what will be done; after each epoch, how right it is of images it never saw."""
    assert any(line.startswith("fine-tuning tf_efficientnet_lite0 on ") for line in fine.said)
    epochs = [line for line in fine.said if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert epochs[0].startswith("epoch 1 of 2, 32 px: ")
    assert epochs[0].endswith("% of the fixed labels")
    assert epochs[-1].endswith("right of 10 images not learned from")


def test_figures_come_from_images_kept_aside(fine):
    """The model's from those that it never saw, the labels' from those whose trusted label it never saw."""
    learned = fine.result.learned
    validation, checked = learned.validation, learned.corrected.sample
    assert not np.intersect1d(validation, checked).size
    found = fine.result.evaluation
    assert found["assay_validated"].source == found["labels_validated"].source == "validation"
    assert found["assay_validated"].n == len(validation)
    assert found["labels_validated"].n == len(checked)
    assert "assay_cross_validated" not in found
    assert (learned.corrected.trusted[checked] >= 0).all()
    text = (fine.out / "model" / "README.md").read_text()
    assert "on images kept aside" in text
    with (fine.out / "labels.csv").open(encoding="utf-8") as opened:
        apart = [row["name"] for row in csv.DictReader(opened) if row["reason"] == "validation"]
    assert apart == [fine.result.dataset.names[row] for row in validation]


def test_the_model_looks_again_where_it_is_unsure(fine):
    """As its figures were measured; the network is one that looks once."""
    model = read_model(fine.out)
    assert (model.features, model.flip_tta_below) == ("stages", FLIP_TTA_BELOW)
    runtime, dataset = load_runtime(fine.out), fine.result.dataset
    squares = read_squares(dataset, np.arange(len(dataset)), model.size, model.interpolation).images
    first, says = runtime.without_tta(squares), runtime.probabilities(squares)
    unsure = first.max(axis=1) < FLIP_TTA_BELOW
    assert 0 < unsure.mean() < 1
    assert (says[~unsure] == first[~unsure]).all()
    assert (says[unsure] != first[unsure]).any(axis=1).mean() > 0.9
    assert f"less than {FLIP_TTA_BELOW:g}, assay asks" in (fine.out / "model" / "README.md").read_text()


def test_figures_are_those_of_the_saved_model(fine, tmp_path):
    """Though it learns in bfloat16, from squares of images that are none: of these the file says the same."""
    shutil.copytree(fine.images, tmp_path / "images")
    for file in (tmp_path / "images").iterdir():
        with Image.open(file) as image:
            image.resize((24, 20)).save(file)
    result = run(tmp_path / "images", tmp_path / "out", replace(fine.options, dtype="bfloat16"))
    predicted = predict_dataset(load_runtime(tmp_path / "out"), result.dataset)
    labels = (tmp_path / "out" / "labels.csv").read_text().splitlines()[1:]
    held = [row for row, line in enumerate(labels) if line.endswith(",holdout")]
    for rows in (held, result.learned.validation):
        assert predicted.probs[rows] == pytest.approx(result.learned.says(rows), abs=1e-4)
    right = predicted.probs[held].argmax(axis=1) == result.dataset.trusted[held]
    assert result.evaluation["assay"].accuracy.estimate == pytest.approx(right.mean())


def test_damaged_images_are_measured(fine):
    """Those that were watched: each damage beside the images as they are, in evaluation.json and the card."""
    found, learned = read_facts(fine.out)["robustness"], fine.result.learned
    assert found["n"] == len(learned.validation)
    truth = learned.corrected.trusted[learned.validation]
    # They calibrated the model: each half is judged as the other would have it.
    right = by_halves(learned.says(learned.validation), truth, NO_FLOOR).argmax(axis=1) == truth
    assert found["as they are"] == wilson(int(right.sum()), len(right)).to_json()
    assert {*found["damaged"]} == {*DAMAGE}
    for damaged in found["damaged"].values():
        change = damaged["estimate"] - found["as they are"]["estimate"]
        assert damaged["change"]["estimate"] == pytest.approx(change)
    text = (fine.out / "model" / "README.md").read_text()
    assert "| JPEG, quality 30 | " in text
    assert "MB: uint8 pixels (N, 32, 32, 3) in" in text


def test_one_look_at_each_image_is_enough(fine):
    """No mirrors are embedded, and what works from stored features asks for none."""
    run = read_finished_run(fine.out)
    _, features = stored_features(run, open_images(run, fine.images), fine.options.cache)
    assert len(features.views) == 1


def test_a_killed_run_goes_on_to_the_same_bytes(fine, tmp_path):
    """It goes on after the last epoch that was kept; in the end there is no checkpoint."""
    heard: list[str] = []

    def killing(line):
        heard.append(line)
        if line.startswith("epoch 2 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fine.images, tmp_path / "out", fine.options, notify=killing)
    kept = tmp_path / "out" / "checkpoints" / "student.safetensors"
    assert kept.exists()
    heard.clear()
    run(fine.images, tmp_path / "out", fine.options, notify=heard.append)
    epochs = [line.split(",")[0] for line in heard if line.startswith("epoch ")]
    assert epochs == ["epoch 2 of 2"]
    assert bytes_of(tmp_path / "out") == bytes_of(fine.out)
    assert not kept.parent.exists()


def test_the_holdout_teaches_nothing(fine, tmp_path, monkeypatch):
    """With all its labels wrong, trusted and given, noise and model are the same to the byte."""
    split = draw_holdout(read_dataset(fine.images, fine.options.read).trusted)
    # The labels that it is stratified by change.
    monkeypatch.setattr("assay.pipeline.options.draw_holdout", lambda *_, **__: split)
    data, wrong = tmp_path / "data", {"ash": "birch", "birch": "cedar", "cedar": "ash"}
    shutil.copytree(fine.images.parent, data)
    held = {fine.result.dataset.names[row] for row in split.holdout}
    for name in ("noisy.csv", "trusted.csv"):
        rows = [line.split(",") for line in (data / name).read_text().splitlines()]
        lines = [f"{image},{wrong[label] if image in held else label}\n" for image, label in rows]
        (data / name).write_text("".join(lines))
    read = ReadOptions(noisy=data / "noisy.csv", trusted=data / "trusted.csv")
    result = run(data / "images", tmp_path / "out", replace(fine.options, read=read))
    assert result.evaluation["assay"].accuracy.estimate < 0.4
    names = ("noise.json", "model/model.safetensors")
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == [
        (fine.out / name).read_bytes() for name in names
    ]


def test_a_time_limit_leaves_what_fast_found(fine, tmp_path):
    """Where not one epoch fits, the run ends as effort fast would, and says so."""
    said: list[str] = []
    options = replace(fine.options, time_limit=0.001)
    result = run(fine.images, tmp_path / "out", options, notify=said.append)
    assert any("no epoch of tf_efficientnet_lite0 fits into the time limit" in line for line in said)
    assert result.model.architecture == "tiny"
    assert "assay_cross_validated" in result.evaluation


def test_a_plan_tells_of_fine_tuning(fine, tmp_path):
    """Its network, epochs and time, without writing anything."""
    plan = dry_run(fine.images, tmp_path / "out", fine.options)
    assert plan.fine_tuning.startswith("fine-tuning tf_efficientnet_lite0 on 240 images, epochs: 2 at 32 px")
    fast = dry_run(fine.images, tmp_path / "out", replace(fine.options, preset="fast"))
    assert (fast.fine_tuning, plan.seconds > fast.seconds) == ("", True)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_fine_tuned_is_refused(fine, tmp_path):
    """A network without weights, and too few trusted labels to judge by."""
    with pytest.raises(
        UsageError, match=r"^--student: expected a network that can be fine-tuned, got 'tiny'$"
    ):
        run(fine.images, tmp_path / "out", replace(fine.options, student="tiny"))
    few = tmp_path / "few.csv"
    few.write_text("\n".join((fine.images.parent / "trusted.csv").read_text().splitlines()[:20]) + "\n")
    options = replace(fine.options, read=replace(fine.options.read, trusted=few))
    with pytest.raises(LabelError, match=r"^expected 20 trusted images or more besides the holdout's"):
        run(fine.images, tmp_path / "few", options)
    assert not (tmp_path / "few").exists()


def test_its_report_can_be_written(fine, tmp_path):
    """With the figures of the images kept aside in the place of cross-validated ones."""
    written = write_report(fine.out, tmp_path / "report.html", images=fine.images)
    facts = json.loads(written.facts.read_text())
    assert {row["system"] for row in facts["figures"]} >= {"assay_validated", "labels_validated"}
    assert "fixed labels, on images kept aside" in written.page.read_text()


def test_a_teacher_goes_first(fine, tmp_path):
    """It corrects the labels that the student learns, whose model it is; a kill in between costs nothing."""
    options = replace(fine.options, teacher="tf_efficientnet_lite1")
    said: list[str] = []

    def killing(line):
        said.append(line)
        if len([one for one in said if one.startswith("epoch 1 ")]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fine.images, tmp_path / "out", options, notify=killing)
    assert [line.split()[1] for line in said if line.startswith("fine-tuning ")] == [
        "tf_efficientnet_lite1",
        "tf_efficientnet_lite0",
    ]
    resumed: list[str] = []
    result = run(fine.images, tmp_path / "out", options, notify=resumed.append)
    assert [line.split(",")[0] for line in resumed if line.startswith("epoch ")] == [
        "epoch 1 of 2",
        "epoch 2 of 2",
    ]
    assert result.model.architecture == "tf_efficientnet_lite0"
    assert bytes_of(tmp_path / "out") != bytes_of(fine.out)
    assert not (tmp_path / "out" / "checkpoints").exists()
