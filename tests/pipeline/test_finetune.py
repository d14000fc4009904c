"""Runs that fine-tune: the saved model, its figures, resuming to the same bytes, and refusals."""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm", reason="needs the train extra")

from networks import quick_probe
from PIL import Image
from small_runs import draw_data, quick_learning

from assay.correct.posterior import NO_FLOOR, Calibration, by_halves
from assay.data.dataset import Dataset, ReadOptions
from assay.data.loader import ImageBatch, load_together
from assay.data.read import read_dataset
from assay.data.resize import TargetSize
from assay.data.split import draw_holdout
from assay.embed.images import Features
from assay.embed.tiny import TinyBackbone
from assay.errors import LabelError, UsageError
from assay.evaluate import wilson
from assay.noise import estimate_noise
from assay.pipeline import finetune
from assay.pipeline.dry_run import dry_run
from assay.pipeline.finetune import FlipTTA, before_and_after, is_planned, load_student
from assay.pipeline.finetune_split import split_for_finetuning
from assay.pipeline.learn import Labelled, Learned
from assay.pipeline.options import RunOptions
from assay.pipeline.outputs import read_facts
from assay.pipeline.presets import PRESETS, Preset
from assay.pipeline.result import RunResult
from assay.pipeline.robustness import DAMAGE
from assay.pipeline.run import run
from assay.predict.batch import predict_dataset
from assay.predict.flip_tta import FLIP_TTA_BELOW, flip_tta
from assay.predict.layers import Layers
from assay.predict.model import read_model
from assay.predict.runtime import load_runtime
from assay.report import write_report
from assay.train.finetune import FineTuned, Phase
from assay.types import UNKNOWN

pytestmark = [pytest.mark.train, pytest.mark.slow]

SMALL = Preset("tf_efficientnet_lite0", (Phase(32, 1),))
SAME = ("labels.csv", "noise.json", "model/model.safetensors")


@dataclass(frozen=True)
class Fine:
    """A finished run at preset ``balanced``."""

    result: RunResult
    learned: Learned
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
    """Two epochs on tiny images, after a short first head."""
    with quick_probe(), quick_learning(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "balanced", SMALL)
        patch.setattr("assay.pipeline.presets.MOST_TIMES", 2)
        yield


@contextmanager
def recorded() -> Iterator[list[Learned]]:
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
def fine(tmp_path_factory):
    place, lines = tmp_path_factory.mktemp("fine"), []
    data = draw_data(place / "data")
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    options = RunOptions(read=read, backbone="tiny", cache=place / "features", preset="balanced")
    with recorded() as learned:
        result = run(data.images, place / "out", options, notify=lines.append)
    return Fine(result, learned[0], data.images, options, lines)


def bytes_of(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in SAME]


def test_the_fine_tuned_network_is_the_model(fine):
    """At its last size; run.json has its schedule."""
    facts, record = read_facts(fine.out), json.loads((fine.out / "run.json").read_text())
    assert facts["model"] == {"architecture": "tf_efficientnet_lite0", "size": 32}
    assert facts["systems"]["assay"]["accuracy"]["estimate"] > 0.6
    assert load_runtime(fine.out).size == 32
    assert record["backbone"]["name"] == "tiny"
    plan = record["fine_tuning"]
    assert (plan["network"], plan["stages"]) == ("tf_efficientnet_lite0", [[32, 2]])


def test_schedule_and_figures_are_reported(fine):
    """The schedule before, validation accuracy after each epoch, and before and after; less is a warning."""
    assert any(line.startswith("fine-tuning tf_efficientnet_lite0 on ") for line in fine.lines)
    first, second = [line for line in fine.lines if line.startswith("epoch ")]
    assert first.startswith("epoch 1 of 2, 32 px: ")
    assert first.endswith("% of corrected labels")
    assert second.endswith("of 10 validation images right")
    learned = fine.learned
    truth, validation = learned.corrected.trusted, learned.validation
    right = (learned.unseen[validation].argmax(axis=1) == truth[validation]).mean()
    line = next(line for line in fine.lines if "before fine-tuning" in line)
    assert line.endswith(f"{100 * right:.1f} % after")
    worse = replace(learned, unseen=1 - learned.unseen)
    assert before_and_after(worse, learned, validation, truth).endswith("after")
    assert before_and_after(learned, worse, validation, truth).startswith("warning: ")


def test_figures_come_from_images_kept_out_of_training(fine):
    """The model's from validation images, the labels' from calibration images, whose label it never saw."""
    validation, checked = fine.learned.validation, fine.learned.corrected.sample
    assert not np.intersect1d(validation, checked).size
    found = fine.result.evaluation
    assert found["assay_validated"].source == found["labels_validated"].source == "validation"
    assert (found["assay_validated"].n, found["labels_validated"].n) == (len(validation), len(checked))
    assert "assay_cross_validated" not in found
    with (fine.out / "labels.csv").open(encoding="utf-8") as opened:
        apart = [row["file"] for row in csv.DictReader(opened) if row["reason"] == "validation"]
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
    """Though it trains in bfloat16, on resized images: for their files the saved model predicts the same."""
    shutil.copytree(fine.images, tmp_path / "images")
    for file in (tmp_path / "images").iterdir():
        with Image.open(file) as image:
            image.resize((24, 20)).save(file)
    with recorded() as learned:
        result = run(tmp_path / "images", tmp_path / "out", replace(fine.options, dtype="bfloat16"))
    dataset, found = read_dataset(tmp_path / "images", fine.options.read), learned[0]
    predicted = predict_dataset(load_runtime(tmp_path / "out"), dataset)
    labels = (tmp_path / "out" / "labels.csv").read_text().splitlines()[1:]
    held = np.array([row for row, line in enumerate(labels) if line.endswith(",holdout")])
    for rows in (held, found.validation):
        assert predicted.probs[rows] == pytest.approx(found.says(rows), abs=1e-4)
    right = predicted.probs[held].argmax(axis=1) == dataset.trusted[held]
    assert result.evaluation["assay"].accuracy.estimate == pytest.approx(right.mean())


def test_robustness_is_measured_on_validation_images(fine):
    """Each damage beside the images as they are, in evaluation.json and the model card."""
    found, learned = read_facts(fine.out)["robustness"], fine.learned
    truth = learned.corrected.trusted[learned.validation]
    # They calibrated the model: each half is calibrated by the other.
    right = by_halves(learned.says(learned.validation), truth, NO_FLOOR).argmax(axis=1) == truth
    assert found["as they are"] == wilson(int(right.sum()), len(right)).to_json()
    assert {*found["damaged"]} == {*DAMAGE}
    for damaged in found["damaged"].values():
        change = damaged["estimate"] - found["as they are"]["estimate"]
        assert damaged["change"]["estimate"] == pytest.approx(change)
    assert "| JPEG, quality 30 | " in (fine.out / "model" / "README.md").read_text()


def interrupted(fine, out, options, at="epoch 2 "):
    """A run that is killed after that epoch, before it is kept."""

    def killing(line):
        if line.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fine.images, out, options, notify=killing)


def test_an_interrupted_run_resumes_to_the_same_bytes(fine, tmp_path):
    """It goes on after the last epoch that was kept; in the end there is no checkpoint."""
    interrupted(fine, tmp_path / "out", fine.options)
    assert (tmp_path / "out" / "checkpoints" / "student.safetensors").exists()
    lines: list[str] = []
    run(fine.images, tmp_path / "out", fine.options, notify=lines.append)
    assert [line.split(",")[0] for line in lines if line.startswith("epoch ")] == ["epoch 2 of 2"]
    assert bytes_of(tmp_path / "out") == bytes_of(fine.out)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_run_of_another_version_is_planned_anew(fine, tmp_path, monkeypatch):
    """At another size or with another network the schedule and training begin again, to today's bytes."""
    record, student = json.loads((fine.out / "run.json").read_text()), load_student(fine.options)
    assert is_planned(record, student)
    for other in ({"network": "tf_efficientnet_lite1"}, {"milliseconds": {"40": {}}}):
        assert not is_planned({"fine_tuning": record["fine_tuning"] | other}, student)
    with monkeypatch.context() as patch:
        patch.setitem(PRESETS, "balanced", SMALL.at(40))
        interrupted(fine, tmp_path / "out", fine.options)
    lines: list[str] = []
    run(fine.images, tmp_path / "out", fine.options, notify=lines.append)
    assert "warning: checkpoint was written by another version; restarting fine-tuning" in lines
    assert bytes_of(tmp_path / "out") == bytes_of(fine.out)


def test_what_is_refused_after_training_keeps_the_training(fine, tmp_path, monkeypatch):
    """The same command goes on with the last epoch, and ends as if nothing had been in its way."""

    def refusing(*_):
        raise UsageError("planted")

    with monkeypatch.context() as patch:
        patch.setattr("assay.pipeline.run.assemble_model", refusing)
        with pytest.raises(UsageError, match="planted"):
            run(fine.images, tmp_path / "out", fine.options)
    lines: list[str] = []
    run(fine.images, tmp_path / "out", fine.options, notify=lines.append)
    assert not [line for line in lines if line.startswith("epoch ")]
    assert bytes_of(tmp_path / "out") == bytes_of(fine.out)


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
    assert bytes_of(tmp_path / "out")[1:] == bytes_of(fine.out)[1:]


def test_too_little_time_leaves_the_model_of_fast(fine, tmp_path):
    """Where not one epoch fits, the run ends as preset fast would, with a warning."""
    lines: list[str] = []
    result = run(fine.images, tmp_path / "out", replace(fine.options, time_limit=0.001), notify=lines.append)
    assert any("no epoch of tf_efficientnet_lite0 fits into the time limit" in line for line in lines)
    assert result.facts["model"]["architecture"] == "tiny"
    assert "assay_cross_validated" in result.evaluation


def test_a_dry_run_shows_the_fine_tuning(fine, tmp_path):
    """Its network, size, epochs and time, without writing anything."""
    plan = dry_run(fine.images, tmp_path / "out", fine.options)
    assert plan.fine_tuning.startswith("fine-tuning tf_efficientnet_lite0 on 240 images, epochs: 2 at 32 px")
    chosen = replace(fine.options, student_size=40, student="tf_efficientnet_lite1")
    words = dry_run(fine.images, tmp_path / "out", chosen).fine_tuning
    assert words.startswith("fine-tuning tf_efficientnet_lite1 on 240 images, epochs: 2 at 40 px")
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


def test_its_report_can_be_written(fine, tmp_path):
    """With validation figures in the place of cross-validated ones."""
    written = write_report(fine.out, tmp_path / "report.html", images=fine.images)
    facts = json.loads(written.facts.read_text())
    assert {row["system"] for row in facts["figures"]} >= {"assay_validated", "labels_validated"}


class Counting(TinyBackbone):
    """Counts the images that it embeds; exact in a copy of its own."""

    embedded: list[int]

    def embed(self, images):
        self.embedded.append(len(images))
        return super().embed(images)

    def exact(self):
        return self


@pytest.mark.usefixtures("without_shape_checks")  # tiny stands for a network of timm
def test_each_image_and_mirror_is_predicted_once():
    """Mirrors only where the first prediction is unsure, after calibration; skipped images are uniform."""
    n, rng = 30, np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
    images[:, :, :16] //= rng.integers(1, 4, (n, 1, 1, 1), np.uint8)
    backbone, usable = Counting(), np.arange(n) % 5 != 3
    object.__setattr__(backbone, "embedded", [])  # frozen
    ones = np.ones(backbone.width, np.float32)
    weight = rng.normal(0, 0.5, (backbone.width, 2)).astype(np.float32)
    tuned = FineTuned(backbone, Layers(0 * ones, ones, (weight, np.zeros(2, np.float32))))
    plain, mirrored = (
        tuned.head.probabilities(TinyBackbone().embed(np.ascontiguousarray(shown)))
        for shown in (images, images[:, :, ::-1])
    )

    def see(target, rows):
        yield ImageBatch(rows, rows, (images[rows],), {}, {}, {}, 0.0)

    predictions = FlipTTA(tuned, images, see, np.arange(n) < 20, usable)
    unsure = usable & (plain.max(axis=1) < FLIP_TTA_BELOW)
    assert 0 < unsure.sum() < usable.sum()
    some = np.array([22, 1, 3, 1, 0])
    first = predictions.predict(some)
    found = predictions.predict()
    wanted = flip_tta(plain, lambda rows: mirrored[rows], FLIP_TTA_BELOW)
    assert found[usable] == pytest.approx(wanted[usable], abs=1e-6)
    assert (found[~usable] == 0.5).all()
    assert (first == found[some]).all()
    softer = Calibration(0.5, np.array([0.1, -0.1]), NO_FLOOR)
    calibrated = flip_tta(softer.apply(plain), lambda rows: softer.apply(mirrored[rows]), FLIP_TTA_BELOW)
    assert predictions.predict(calibration=softer)[usable] == pytest.approx(calibrated[usable], abs=1e-6)
    again = usable & ((softer.apply(plain).max(axis=1) < FLIP_TTA_BELOW) | unsure)
    assert sum(backbone.embedded) == usable.sum() + again.sum()


def test_the_transition_comes_from_images_that_measure_nothing():
    """Whatever the pairs of calibration and validation images are."""
    n, rng = 600, np.random.default_rng(0)
    truth = rng.integers(0, 4, n)
    noisy = np.where(rng.random(n) < 0.3, (truth + 1) % 4, truth)

    def evidence(noisy):
        trusted, fold_of = np.where(np.arange(n) < 400, truth, UNKNOWN), np.arange(n) % 5
        features = Features((np.zeros((n, 1), dtype=np.float32),), (None,) * n, {}, {}, 0)
        data = Labelled(features, noisy, trusted, fold_of != UNKNOWN, fold_of, tuple("abcd"), 0, 0.8)
        learned = object.__new__(Learned)  # only its noise is used
        object.__setattr__(learned, "noise", estimate_noise(noisy, trusted, 4))
        return finetune._Evidence(data, learned, split_for_finetuning(data, []))

    before = evidence(noisy)
    for measured in (before.split.calibration_rows, before.split.validation):
        other = noisy.copy()
        other[measured] = (other[measured] + 2) % 4
        assert (evidence(other).transition == before.transition).all()
    assert (evidence((noisy + 1) % 4).transition != before.transition).any()
