"""Runs that fine-tune: the saved model, its figures, resuming to the same bytes, and refusals."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("timm", reason="needs the train extra")

from networks import quick_probe, random_weights
from PIL import Image
from small_runs import quick_learning, read_record, read_rows, same_bytes, shards_done_here

from assay.cli.run import plan_text
from assay.correct.posterior import NO_FLOOR, by_halves
from assay.data.dataset import Dataset, ReadOptions
from assay.data.loader import load_together
from assay.data.read import read_dataset
from assay.data.resize import TargetSize
from assay.data.split import draw_holdout
from assay.errors import LabelError, UsageError
from assay.evaluate import wilson
from assay.pipeline import finetune
from assay.pipeline.dry_run import dry_run
from assay.pipeline.finetune import before_and_after, is_planned, load_student
from assay.pipeline.learn import Fitted
from assay.pipeline.options import RunOptions
from assay.pipeline.presets import PRESETS, Preset
from assay.pipeline.result import RunResult
from assay.pipeline.robustness import DAMAGE
from assay.pipeline.run import run
from assay.pipeline.run_files import read_facts
from assay.pipeline.sharded import run_sharded
from assay.predict.batch import predict_dataset
from assay.predict.model import read_model
from assay.predict.runtime import FLIP_TTA_BELOW, load_runtime
from assay.report import write_report
from assay.train.finetune import Phase

pytestmark = [pytest.mark.train, pytest.mark.slow]

NETWORK = "test_efficientnet"
SMALL = Preset(NETWORK, (Phase(32, 1),))


@dataclass(frozen=True)
class Fine:
    """A finished run at preset ``balanced``."""

    result: RunResult
    fitted: Fitted
    images: Path
    options: RunOptions
    lines: list[str]

    @property
    def out(self) -> Path:
        return self.result.path

    @property
    def dataset(self) -> Dataset:
        return read_dataset(self.images, self.options.read)


@pytest.fixture(autouse=True, scope="module")
def _small():
    """Two epochs of a small network on tiny images, after a short first head."""
    with quick_probe(), quick_learning(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "balanced", SMALL)
        patch.setattr("assay.embed.backbone.find_weights", lambda name, _=None: random_weights(name))
        patch.setattr("assay.pipeline.presets.MOST_TIMES", 2)
        patch.setattr("assay.train.loop.TIMED_STEPS", 1)  # no test is about how long it takes
        yield


@contextmanager
def recorded() -> Iterator[list[Fitted]]:
    """Inside, all that fine-tuning hands to the rest of a run is added to the list."""
    found, refine = [], finetune.refine

    def recording(*arguments, **named):
        result = refine(*arguments, **named)
        found.append(result[0])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "refine", recording)
        yield found


@pytest.fixture(scope="module")
def fine(small_data, options, tmp_path_factory):
    lines, options = [], replace(options, preset="balanced")
    with recorded() as fitted:
        result = run(small_data.images, tmp_path_factory.mktemp("fine") / "out", options, notify=lines.append)
    return Fine(result, fitted[0], small_data.images, options, lines)


def test_the_fine_tuned_network_is_the_model(fine):
    """At its last size; run.json has its schedule, and a report shows validation figures."""
    facts, record = read_facts(fine.out), read_record(fine.out)
    assert facts["model"] == {"architecture": NETWORK, "size": 32}
    assert facts["systems"]["assay"]["accuracy"]["estimate"] > 0.6
    assert load_runtime(fine.out).size == 32
    assert record["backbone"]["name"] == "tiny"
    plan = record["fine_tuning"]
    assert (plan["network"], plan["stages"]) == (NETWORK, [[32, 2]])
    written = write_report(fine.out, fine.out.parent / "report.html", images=fine.images)
    figures = json.loads(written.facts.read_text())["figures"]
    assert {row["system"] for row in figures} >= {"assay_validated", "labels_validated"}


def test_schedule_and_figures_are_reported(fine):
    """The schedule, validation accuracy after each epoch, and before and after; less is a warning."""
    assert any(line.startswith(f"fine-tuning {NETWORK} on ") for line in fine.lines)
    first, second = [line for line in fine.lines if line.startswith("epoch ")]
    assert first.startswith("epoch 1 of 2, 32 px: ")
    assert second.startswith("epoch 2 of 2, 32 px: ")
    assert second.endswith("of 10 validation images right")
    fitted = fine.fitted
    truth, validation = fitted.corrected.trusted, fitted.validation
    right = (fitted.unseen[validation].argmax(axis=1) == truth[validation]).mean()
    line = next(line for line in fine.lines if "before fine-tuning" in line)
    assert line.endswith(f"{100 * right:.1f} % after")
    worse = replace(fitted, unseen=1 - fitted.unseen)
    assert before_and_after(fitted, worse, validation, truth).startswith("warning: ")


def test_figures_come_from_images_kept_out_of_training(fine):
    """The model's from validation images, the labels' from calibration images, whose label it never saw."""
    validation, checked = fine.fitted.validation, fine.fitted.corrected.sample
    assert not np.intersect1d(validation, checked).size
    found = fine.result.evaluation
    assert found["assay_validated"].source == found["labels_validated"].source == "validation"
    assert (found["assay_validated"].n, found["labels_validated"].n) == (len(validation), len(checked))
    assert "assay_cross_validated" not in found
    apart = [row["file"] for row in read_rows(fine.out) if row["reason"] == "validation"]
    assert apart == [fine.dataset.names[row] for row in validation]


def test_the_model_uses_flip_tta_where_it_is_unsure(fine):
    """As its figures were measured."""
    model = read_model(fine.out)
    assert (model.features, model.flip_tta_below) == ("stages", FLIP_TTA_BELOW)
    runtime, dataset = load_runtime(fine.out), fine.dataset
    target = TargetSize(model.size, model.interpolation)
    images = load_together(dataset, target, np.arange(len(dataset))).images[0]
    plain, probs = runtime.without_tta(images), runtime.probabilities(images)
    unsure = plain.max(axis=1) < FLIP_TTA_BELOW
    assert 0 < unsure.mean() < 1
    assert (probs[~unsure] == plain[~unsure]).all()
    assert (probs[unsure] != plain[unsure]).any(axis=1).mean() > 0.9


def test_figures_are_those_of_the_saved_model(fine, tmp_path):
    """Though it trains in bfloat16, on resized images, one of which is damaged."""
    shutil.copytree(fine.images, tmp_path / "images")
    for file in (tmp_path / "images").iterdir():
        with Image.open(file) as image:
            image.resize((24, 20)).save(file)
    (tmp_path / "images" / "1.png").write_bytes(b"")  # without a trusted label
    with recorded() as fitted:
        result = run(tmp_path / "images", tmp_path / "out", replace(fine.options, dtype="bfloat16"))
    dataset, found = read_dataset(tmp_path / "images", fine.options.read), fitted[0]
    predicted = predict_dataset(load_runtime(tmp_path / "out"), dataset)
    labels = (tmp_path / "out" / "labels.csv").read_text().splitlines()[1:]
    assert labels[1].endswith(",skipped,empty_file,")
    held = np.array([row for row, line in enumerate(labels) if ",holdout," in line])
    for rows in (held, found.validation):
        assert predicted.probs[rows] == pytest.approx(found.probs_of(rows), abs=1e-4)
    right = predicted.probs[held].argmax(axis=1) == dataset.trusted[held]
    assert result.evaluation["assay"].accuracy.estimate == pytest.approx(right.mean())


def test_robustness_is_measured_on_validation_images(fine):
    """Each damage beside the images as they are, in evaluation.json and the model card."""
    found, fitted = read_facts(fine.out)["robustness"], fine.fitted
    truth = fitted.corrected.trusted[fitted.validation]
    # They calibrated the model: each half is calibrated by the other.
    right = by_halves(fitted.probs_of(fitted.validation), truth, NO_FLOOR).argmax(axis=1) == truth
    assert found["as they are"] == wilson(int(right.sum()), len(right)).to_json()
    assert {*found["damaged"]} == {*DAMAGE}
    for damaged in found["damaged"].values():
        change = damaged["estimate"] - found["as they are"]["estimate"]
        assert damaged["change"]["estimate"] == pytest.approx(change)
    assert "| JPEG, quality 30 | " in (fine.out / "model" / "README.md").read_text()


def test_an_interrupted_run_resumes_to_the_same_bytes(fine, tmp_path):
    """It continues after the last epoch that was kept, also after a refusal; then the checkpoint goes.

    A run that another version began at another size is planned and trained anew.
    """
    out, lines = tmp_path / "out", list[str]()

    def interrupted(line):
        lines.append(line)
        if line.startswith("epoch 2 "):
            raise KeyboardInterrupt  # before it is kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "balanced", SMALL.at(40))
        with pytest.raises(KeyboardInterrupt):
            run(fine.images, out, fine.options, notify=interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(fine.images, out, fine.options, notify=interrupted)
    assert "warning: checkpoint was written by another version; restarting fine-tuning" in lines
    epochs = [line.split(":")[0] for line in lines if line.startswith("epoch ")]
    assert epochs == [f"epoch {epoch} of 2, {size} px" for size in (40, 32) for epoch in (1, 2)]
    assert (out / "checkpoints" / "student.safetensors").exists()

    def refusing(*_):
        raise UsageError("planted")

    lines.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.pipeline.run.assemble_model", refusing)
        with pytest.raises(UsageError, match="planted"):
            run(fine.images, out, fine.options, notify=lines.append)
    run(fine.images, out, fine.options, notify=lines.append)
    assert [line.split(",")[0] for line in lines if line.startswith("epoch ")] == ["epoch 2 of 2"]
    assert same_bytes(out) == same_bytes(fine.out)
    assert not (out / "checkpoints").exists()


def test_a_run_of_another_version_is_planned_anew(fine):
    """At another size or with another network the schedule is another one."""
    record, student = read_record(fine.out), load_student(fine.options)
    assert is_planned(record, student)
    for other in ({"network": "tf_efficientnet_lite1"}, {"milliseconds": {"40": {}}}):
        assert not is_planned({"fine_tuning": record["fine_tuning"] | other}, student)


def test_the_holdout_is_not_trained_on(fine, tmp_path, monkeypatch):
    """With all its labels wrong, trusted and noisy, noise and model are the same to the byte."""
    split = draw_holdout(fine.dataset.trusted)
    # The draw is stratified by the labels that change.
    monkeypatch.setattr("assay.pipeline.options.draw_holdout", lambda *_, **__: split)
    data, wrong = tmp_path / "data", {"ash": "birch", "birch": "cedar", "cedar": "ash"}
    shutil.copytree(fine.images.parent, data)
    held = {fine.dataset.names[row] for row in split.holdout}
    for name in ("noisy.csv", "trusted.csv"):
        rows = [line.split(",") for line in (data / name).read_text().splitlines()]
        lines = [f"{image},{wrong[label] if image in held else label}\n" for image, label in rows]
        (data / name).write_text("".join(lines))
    read = ReadOptions(noisy=data / "noisy.csv", trusted=data / "trusted.csv")
    result = run(data / "images", tmp_path / "out", replace(fine.options, read=read))
    assert result.evaluation["assay"].accuracy.estimate < 0.4
    assert same_bytes(tmp_path / "out")[1:] == same_bytes(fine.out)[1:]


def test_too_little_time_leaves_the_model_of_fast(fine, tmp_path):
    """Where not one epoch fits, the run ends as preset fast would, with a warning."""
    lines: list[str] = []
    result = run(fine.images, tmp_path / "out", replace(fine.options, time_limit=0.001), notify=lines.append)
    assert any(f"no epoch of {NETWORK} fits into the time limit" in line for line in lines)
    assert result.facts["model"]["architecture"] == "tiny"
    assert "assay_cross_validated" in result.evaluation


def test_a_dry_run_shows_the_fine_tuning(fine, tmp_path):
    """One view of each image, the network, its size, epochs and time, without writing anything."""
    plan = dry_run(fine.images, tmp_path / "out", replace(fine.options, student_size=40))
    words = f"fine-tuning {NETWORK} on 240 images, epochs: 2 at 40 px"
    assert plan.fine_tuning.startswith(words)
    assert (plan.mirrored, plan.cache_bytes) == (False, 240 * 384 * 2)
    assert "Features: every image, " in plan_text(plan, "out")
    fast = dry_run(fine.images, tmp_path / "out", replace(fine.options, preset="fast"))
    assert (fast.fine_tuning, plan.seconds > fast.seconds) == ("", True)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_fine_tuned_is_refused(fine, tmp_path):
    """A network without weights, and too few trusted labels to measure by."""
    message = r"^--student: expected a network that can be fine-tuned, got 'tiny'$"
    with pytest.raises(UsageError, match=message):
        run(fine.images, tmp_path / "out", replace(fine.options, student="tiny"))
    few = tmp_path / "few.csv"
    few.write_text("\n".join((fine.images.parent / "trusted.csv").read_text().splitlines()[:20]) + "\n")
    options = replace(fine.options, read=replace(fine.options.read, trusted=few))
    with pytest.raises(LabelError, match=r"^expected 20 trusted images or more besides the holdout's"):
        run(fine.images, tmp_path / "few", options)
    assert not (tmp_path / "few").exists()


def test_a_run_in_shards_fine_tunes_on_its_sample_and_labels_the_others_by_the_network(fine, tmp_path):
    """In float32, from the image files, as ``predict`` does; images without a label are changed or unsure."""
    out = tmp_path / "out"
    with shards_done_here():
        run_sharded(fine.images, out, fine.options, shard_rows=100, sample=60)
    assert read_facts(out)["model"]["architecture"] == NETWORK
    labels = pl.read_parquet(out / "labels" / "*.parquet")
    assert labels.height == 240
    others = labels.filter(~pl.col("learned_from"))
    assert 60 < others.height < 120
    dataset = fine.dataset
    predicted = predict_dataset(load_runtime(out), dataset)
    row_of = {name: row for row, name in enumerate(dataset.names)}
    with np.load(out / "correction.npz") as correction:
        evidence, strength = correction["evidence"], float(correction["strength"])
    for file, label, confidence in others.select("file", "corrected_label", "confidence").iter_rows():
        row = row_of[file]
        likely = predicted.probs[row] * np.exp(strength * evidence[dataset.noisy[row]])
        assert dataset.classes[int(likely.argmax())] == label
        assert confidence == pytest.approx(likely.max() / likely.sum(), abs=2e-3)
