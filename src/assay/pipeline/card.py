"""The saved model of a run, and its model card: what it is, its figures, its limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.correct.outliers import OutlierScorer
from assay.data.dataset import Dataset
from assay.data.loader import load_together, spread
from assay.data.resize import TargetSize
from assay.embed.backbone import TimmBackbone
from assay.evaluate import Evaluation, format_report
from assay.noise import describe
from assay.pipeline.learn import Fitted
from assay.pipeline.measure import BALANCED, Coverage, coverage_lines, set_thresholds
from assay.pipeline.options import RunOptions
from assay.pipeline.robustness import Robustness
from assay.pipeline.shown import TITLES, main_figures, why_not_measured
from assay.predict.model import Model
from assay.text import FEW, of_groups, share_of
from assay.types import UNKNOWN, Backbone, Rows

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


LIMITS_OF_FEATURES = """
## Limits

The figures hold for items like the trusted ones, whose features were computed in the same way.
A class that is not among the labels is never predicted: such an item gets one of these labels, often
with little confidence.
"""


def assemble_model(
    dataset: Dataset,
    backbone: Backbone,
    fitted: Fitted,
    evaluations: Mapping[str, Evaluation],
    options: RunOptions,
    fit: Rows,
) -> Model:
    """The backbone with the head, the graph of both, and the figures that belong to it.

    Parameters
    ----------
    fit : training rows; on some of them the graph is compared with backbone and head
    """
    before = ", before the refit" if options.refit else ""
    figures = {
        name: {
            "n": found.n,
            "accuracy": found.accuracy.to_json(),
            "balanced_accuracy": found.balanced_accuracy.to_json(),
            "source": f"{found.source}{before}",
        }
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
            "class_prior": fitted.prior.tolist(),
            **({"refit": True} if options.refit else {}),
            **({"balanced": True} if options.balanced else {}),
        },
        interpolation=backbone.interpolation,
        flip_tta_below=fitted.flip_tta_below,
        **network,
    )
    return export(model, backbone, dataset, fit, fitted.scorer)


def export(
    model: Model, backbone: Backbone, dataset: Dataset, rows: Rows, scorer: OutlierScorer | None = None
) -> Model:
    """The model with the graph of its backbone and head, compared on images among ``rows``."""
    from assay.export.graph import with_graph  # late: it loads onnx

    trunk = backbone.trunk() if isinstance(backbone, TimmBackbone) else None
    target = TargetSize(model.size, model.interpolation)
    images = load_together(dataset, target, spread(rows, COMPARED)).images[0]
    return with_graph(model, trunk, images, scorer)


def model_card(
    model: Model,
    fitted: Fitted,
    evaluations: Mapping[str, Evaluation],
    robustness: Robustness | None,
    coverage: Sequence[Coverage],
    *,
    n_held_out: int,
    n_groups: int = 0,
) -> str:
    """README.md of a model."""
    corrected, size, below = fitted.corrected, model.size, model.flip_tta_below
    n_noisy = int((corrected.noisy != UNKNOWN).sum())
    n_decided = 0 if corrected.decided is None else int(corrected.decided.sum())
    n_trusted = int((corrected.trusted != UNKNOWN).sum()) - n_decided
    megabytes = len(model.graph) / 1e6
    if model.width:
        title, items, backbone = (
            "Classifier of features",
            "items",
            f"A head on {model.width:,} given features.",
        )
        use = [
            f"`model.onnx` has {megabytes:.1f} MB: float32 `features` (N, {model.width}) in, computed as",
            "those it was trained on; probabilities out, for `assay predict --features` or any ONNX runtime.",
        ]
    else:
        title, items = "Image classifier", "images"
        backbone = f"Backbone `{model.architecture}` at {size} px, a head on its features."
        use = [
            f"`model.onnx` has {megabytes:.1f} MB: uint8 pixels (N, {size}, {size}, 3) in,",
            "probabilities out, for `assay predict`, `assay serve` or any ONNX runtime; `assay export` makes "
            "it",
            "smaller.",
        ]
    lines = [
        f"# {title}: {len(model.labels)} classes",
        "",
        f"{backbone} {describe(fitted.noise)}",
        "",
        f"Data: {len(corrected.noisy):,} {items}, {n_noisy:,} with a noisy label, "
        f"{n_trusted:,} with a trusted label",
        f"outside the holdout{f', {n_decided:,} decided by a person' if n_decided else ''}.",
        "",
        *use,
    ]
    if n_groups:
        lines += ["", f"No split divides one of the {n_groups:,} groups; intervals are by groups."]
    if below:
        lines += [
            f"Where its likeliest class has less than {below:g}, assay predicts the mirrored image too and",
            "takes the geometric mean. Other programs can do so around the graph (`flip_tta` in its",
            "metadata), or go without.",
        ]
    lines += ["", "## Measured", ""]
    for name, title in TITLES.items():
        if found := evaluations.get(name):
            share, balanced = found.accuracy, found.balanced_accuracy
            right = f"{share.estimate:.4f}" if found.n >= FEW else share_of(share.estimate, found.n)
            mean = f", balanced accuracy {balanced.estimate:.4f} ({balanced.low:.4f} to {balanced.high:.4f})"
            lines.append(
                f"- {title}: accuracy {right} ({share.low:.4f} to {share.high:.4f}, "
                f"{share.level:.0%} interval, n = {found.n:,}{of_groups(found.groups)}, {found.source})"
                f"{mean if found.n >= FEW else ''}"
            )
    lines.append("")
    if model.facts.get("balanced"):
        lines += [f"{BALANCED[0].upper()}{BALANCED[1:]}.", ""]
    headline = main_figures({name: found.n for name, found in evaluations.items()})
    if "assay" not in evaluations:
        why = why_not_measured(evaluations, n_held_out)
        lines += [f"{why}: the accuracy of this model is not measured.", ""]
    elif model.facts.get("refit"):
        lines += [
            "Measured on the model before the refit. The refitted model, which is saved here, was trained on",
            "the holdout too and was not measured itself.",
            "",
        ]
    if main := evaluations.get(headline):
        lines += [f"{main.too_small}.", ""] if main.too_small else []
        lines += [f"Each class, {TITLES[headline]} ({main.source}, n = {main.n:,}):", ""]
        lines += ["```", format_report(main.report).rstrip(), "```"]
    lines += coverage_lines(coverage)
    if robustness:
        lines += ["", "On damaged validation images:", "", *robustness.lines()]
    return "\n".join([*lines, LIMITS_OF_FEATURES if model.width else limits(measured=robustness is not None)])
