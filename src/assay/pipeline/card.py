"""The saved model of a run, and its model card: what it is, its figures, its limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from assay.correct.result import CorrectedLabels
from assay.data.dataset import Dataset
from assay.data.loader import load_together, spread
from assay.data.resize import TargetSize
from assay.embed.backbone import TimmBackbone
from assay.evaluate import Evaluation, format_report
from assay.export.export import with_graph
from assay.noise import describe
from assay.pipeline.learn import Fitted
from assay.pipeline.measure import TITLES, Coverage, coverage_lines, set_thresholds, why_not_measured
from assay.pipeline.options import RunOptions
from assay.pipeline.robustness import Robustness
from assay.predict.model import Model
from assay.types import UNKNOWN, Backbone

COMPARED = 128
"""Images that the graph is compared with the model on."""


def limits(*, measured: bool) -> str:
    """The limits of the figures; ``measured``: whether damaged images were predicted."""
    unmeasured = "Another camera was" if measured else "Compression and blur were"
    return f"""
## Limits

The figures hold for images like the trusted ones. {unmeasured} not measured.
A class that is not among the labels is never predicted: such an image gets one of these labels, often
with little confidence.
"""


def assemble_model(
    dataset: Dataset,
    backbone: Backbone,
    fitted: Fitted,
    evaluations: Mapping[str, Evaluation],
    options: RunOptions,
    fit: Int[np.ndarray, "M"],
) -> Model:
    """The backbone with the head, the graph of both, and the figures that belong to it.

    Parameters
    ----------
    fit : training rows; on some of them the graph is compared with backbone and head

    Raises
    ------
    GateError : the graph does not predict what backbone and head predict
    """
    before = ", before the refit" if options.refit else ""
    figures = {
        name: {"n": found.n, "accuracy": found.accuracy.to_json(), "source": f"{found.source}{before}"}
        for name, found in evaluations.items()
    }
    network: dict[str, Any] = {}
    if isinstance(backbone, TimmBackbone):
        network = {
            "mean": backbone.mean,
            "std": backbone.std,
            "backbone": backbone.tensors(),
            "features": backbone.features,
        }
    model = Model(
        backbone.name,
        backbone.size,
        dataset.classes,
        fitted.head,
        titles=dataset.titles,
        facts={
            "system": "assay",
            "preset": options.preset,
            "seed": options.seed,
            "figures": figures,
            "conformal": set_thresholds(fitted),
            **({"refit": True} if options.refit else {}),
        },
        interpolation=backbone.interpolation,
        flip_tta_below=fitted.flip_tta_below,
        **network,
    )
    return export(model, backbone, dataset, fit)


def export(model: Model, backbone: Backbone, dataset: Dataset, rows: Int[np.ndarray, "M"]) -> Model:
    """The model with the graph of its backbone and head, compared on images among ``rows``."""
    trunk = backbone.trunk() if isinstance(backbone, TimmBackbone) else None
    target = TargetSize(model.size, model.interpolation)
    return with_graph(model, trunk, load_together(dataset, target, spread(rows, COMPARED)).images[0])


def model_card(
    model: Model,
    fitted: Fitted,
    evaluations: Mapping[str, Evaluation],
    robustness: Robustness | None = None,
    coverage: Sequence[Coverage] = (),
    *,
    n_held_out: int = 0,
) -> str:
    """README.md of a model."""
    lines = [
        f"# Image classifier: {len(model.labels)} classes",
        "",
        f"Backbone `{model.architecture}` at {model.size} px, a head on its features. "
        f"{describe(fitted.noise)}",
        "",
        *_data(fitted.corrected),
        *_use(model),
        "",
        "## Measured",
        "",
        *(_line(TITLES[name], evaluations[name]) for name in TITLES if name in evaluations),
        "",
        *_report(model, evaluations, n_held_out),
        *coverage_lines(coverage),
        *(["", "On damaged validation images:", "", *robustness.lines()] if robustness else []),
        limits(measured=robustness is not None),
    ]
    return "\n".join(lines)


def _data(corrected: CorrectedLabels) -> list[str]:
    n = int((corrected.noisy != UNKNOWN).sum())
    decided = 0 if corrected.decided is None else int(corrected.decided.sum())
    trusted = int((corrected.trusted != UNKNOWN).sum()) - decided
    return [
        f"Data: {len(corrected.noisy):,} images, {n:,} with a noisy label, {trusted:,} with a trusted label",
        f"outside the holdout{f', {decided:,} decided by a person' if decided else ''}.",
        "",
    ]


def _use(model: Model) -> list[str]:
    size = model.size
    return [
        f"`model.onnx` has {len(model.graph) / 1e6:.1f} MB: uint8 pixels (N, {size}, {size}, 3) in,",
        "probabilities out, for `assay predict`, `assay serve` or any ONNX runtime; `assay export` makes it",
        "smaller.",
        *([_flip_tta(model.flip_tta_below)] if model.flip_tta_below else []),
    ]


def _flip_tta(below: float) -> str:
    return (
        f"Where its likeliest class has less than {below:g}, assay predicts the mirrored image too and\n"
        "takes the geometric mean. Other programs can do so around the graph (`flip_tta` in its\n"
        "metadata), or go without."
    )


def _line(title: str, found: Evaluation) -> str:
    accuracy = found.accuracy
    return (
        f"- {title}: accuracy {accuracy.estimate:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f}, "
        f"{accuracy.level:.0%} interval, n = {found.n:,}, {found.source})"
    )


def _report(model: Model, evaluations: Mapping[str, Evaluation], n_held_out: int) -> list[str]:
    if "assay" not in evaluations:
        why = why_not_measured(evaluations, n_held_out)
        return [f"{why}: the accuracy of this model is not measured."]
    report = ["```", format_report(evaluations["assay"].report).rstrip(), "```"]
    if model.facts.get("refit"):
        return [
            "Measured on the model before the refit. The refitted model, which is saved here, was trained on",
            "the holdout too and was not measured itself.",
            "",
            *report,
        ]
    return report
