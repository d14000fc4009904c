"""run: the whole job, from a folder of images to a folder of results.

The order is the package's listing: read, embed, estimate, fix, learn, measure, write. The trusted
labels of the holdout are read once, at the end, by ``measure``; run.json counts it.
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay._types import UNKNOWN, Backbone, Labels, Progress, silent
from assay.data.dataset import Dataset
from assay.data.read import read_dataset
from assay.data.split import Split, seal_holdout
from assay.embed.backbone import TimmBackbone, load_backbone
from assay.embed.images import embed_images
from assay.learn.model import Model
from assay.measure import Cost, Evaluation, Stopwatch, evaluate, folder_bytes, peak_memory_bytes
from assay.recipes.assay import Learned, learn
from assay.recipes.folder import RunFolder
from assay.recipes.histogram import Baseline, train_histogram
from assay.recipes.options import RunOptions
from assay.recipes.outputs import model_card, write_outputs
from assay.recipes.sealing import Sealed, close_seal


@dataclass(frozen=True)
class RunResult:
    """What a run found; the same is in its folder."""

    folder: Path
    dataset: Dataset
    learned: Learned
    model: Model
    evaluations: Mapping[str, Evaluation]
    """``assay`` and ``histogram`` on the holdout; ``assay_cross_validated`` and ``labels_cross_validated``
    on the trusted images of the fit part, out of fold."""
    cost: Cost
    warnings: tuple[str, ...]
    """What the user should know before relying on it."""


def run(
    images: Path | str,
    out: Path | str,
    options: RunOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> RunResult:
    """Learn from ``images`` and write all results to ``out``; the same call resumes a killed run.

    Raises
    ------
    DataError : input that cannot be trusted to mean what it says
    OtherRunError : ``out`` holds a run with other settings, and ``overwrite`` is not set
    BusyError : another run holds ``out``
    """
    options = options or RunOptions()
    folder, watch = RunFolder(Path(out)), Stopwatch()
    with watch.stage("read"):
        dataset = read_dataset(Path(images), options.read)
        split = seal_holdout(
            dataset.trusted, size=options.holdout, how=options.holdout_split, seed=options.seed
        )
    with folder.held():
        record = folder.open(options.settings(), dataset.fingerprint(), overwrite=overwrite)
        record |= {"status": "running", "command": sys.argv, "versions": versions()}
        folder.write(record)
        result, seal_opened = _run(dataset, split, options, folder, watch, progress)
        record["seal_opened"] += seal_opened
        record |= {
            "status": "done",
            "seconds": watch.seconds,
            "split": split.digest,
            "cost": result.cost.to_json(),
        }
        folder.write(record)
    return result


def _run(
    dataset: Dataset,
    split: Split,
    options: RunOptions,
    folder: RunFolder,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[RunResult, int]:
    with watch.stage("load"):
        backbone = load_backbone(
            options.backbone, options.cache, size=options.size, weights=options.weights, dtype=options.dtype
        )
    with watch.stage("embed"):
        features = embed_images(dataset, backbone, options.cache, workers=options.workers, progress=progress)
    dataset = dataset.with_skipped(features.skipped)
    with watch.stage("seal"):
        sealed = close_seal(dataset, split, features, options)
    with watch.stage("learn"):
        learned = learn(sealed.data, progress=progress)
    with watch.stage("baseline"):
        baseline = train_histogram(
            dataset, sealed.data.fold_of != UNKNOWN, options.cache, workers=options.workers, seed=options.seed
        )
    with watch.stage("measure"):
        evaluations = _evaluate(dataset, sealed, learned, baseline)
    model = _model(dataset, backbone, learned, evaluations, options)
    warnings = _warnings(dataset, learned, evaluations, sealed.leaked)
    with watch.stage("write"):
        model.save(folder.path / "model", model_card(model, learned, evaluations))
        cost = Cost(sum(watch.seconds.values()), peak_memory_bytes(), folder_bytes(folder.path / "model"))
        result = RunResult(folder.path, dataset, learned, model, evaluations, cost, warnings)
        write_outputs(result.folder, dataset, learned, evaluations, split.holdout, cost, warnings)
    return result, int(len(sealed.holdout) > 0)


def _evaluate(
    dataset: Dataset, sealed: Sealed, learned: Learned, baseline: Baseline
) -> dict[str, Evaluation]:
    """Cross-validated figures on the fit part; then, the one time the seal is opened, the holdout's."""
    names, fit = dataset.titles or dataset.classes, np.flatnonzero(learned.fixed.trusted != UNKNOWN)
    known = learned.fixed.trusted[fit]
    found = {
        "assay_cross_validated": evaluate(known, learned.out_of_fold[fit], names, source="cross-validation"),
        "labels_cross_validated": evaluate(
            known, learned.fixed.posterior[fit], names, source="cross-validation"
        ),
    }
    held = {"": np.setdiff1d(sealed.holdout, sealed.leaked)}
    if len(sealed.leaked):
        held["_leaks_included"] = sealed.holdout
    for suffix, rows in held.items():
        if len(rows):
            truth, plain = dataset.trusted[rows], sealed.data.features.views[0][rows]
            simple = baseline.model.probabilities(baseline.features[rows])
            found[f"histogram{suffix}"] = evaluate(truth, simple, names, source="holdout")
            found[f"assay{suffix}"] = evaluate(
                truth,
                learned.head.probabilities(plain),
                names,
                source="holdout",
                baseline_predicted=simple.argmax(axis=1),
            )
    return found


def _model(
    dataset: Dataset,
    backbone: Backbone,
    learned: Learned,
    evaluations: Mapping[str, Evaluation],
    options: RunOptions,
) -> Model:
    figures = {
        name: {"n": found.n, "accuracy": found.accuracy.to_json()} for name, found in evaluations.items()
    }
    facts = {
        "recipe": "assay",
        "effort": options.effort,
        "seed": options.seed,
        "figures": figures,
        "mirrored": True,
    }
    network: dict[str, Any] = {}
    if isinstance(backbone, TimmBackbone):
        tensors = {name: tensor.numpy() for name, tensor in backbone.network.state_dict().items()}
        network = {"mean": backbone.mean, "std": backbone.std, "backbone": tensors}
    return Model(
        backbone.name,
        backbone.size,
        dataset.classes,
        learned.head,
        titles=dataset.titles,
        facts=facts,
        **network,
    )


def _warnings(
    dataset: Dataset, learned: Learned, evaluations: Mapping[str, Evaluation], leaked: Labels
) -> tuple[str, ...]:
    found = [note for note in dataset.notes if note.startswith("warning")]
    found += [*learned.noise.notes, *learned.representative.warnings]
    if len(leaked):
        found.append(
            f"{len(leaked)} holdout images show a picture that was learned from: left out of the evaluation"
        )
    if "assay" in evaluations:
        paired = evaluations["assay"].paired
        if paired and paired.difference.low <= 0:
            found.append("on the holdout the model is not measurably better than the histogram baseline")
    return tuple(found)


def versions() -> dict[str, str]:
    """What the same bytes depend on, besides seed and machine."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("assay", "numpy", "scikit-learn", "torch", "timm", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
