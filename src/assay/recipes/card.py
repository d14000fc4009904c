"""The saved model of a run, and README.md of its folder: what it is, what was measured, where it ends."""

from collections.abc import Mapping
from typing import Any

from assay._types import Backbone
from assay.data.dataset import Dataset
from assay.embed.backbone import TimmBackbone
from assay.estimate import describe
from assay.learn.model import Model
from assay.measure import Evaluation, format_report
from assay.recipes.assay import Learned
from assay.recipes.measuring import TITLES
from assay.recipes.options import RunOptions

LIMITS = """
## Limits

The figures hold for images like the trusted ones. Strong compression, blur or another camera were not
measured. A class that the labels do not name is never predicted.
"""


def assemble_model(
    dataset: Dataset,
    backbone: Backbone,
    learned: Learned,
    evaluations: Mapping[str, Evaluation],
    options: RunOptions,
) -> Model:
    """The backbone with the head, and the figures that belong to it."""
    figures = {
        name: {"n": found.n, "accuracy": found.accuracy.to_json()} for name, found in evaluations.items()
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
        facts={"recipe": "assay", "effort": options.effort, "seed": options.seed, "figures": figures},
        **network,
    )


def model_card(model: Model, learned: Learned, evaluations: Mapping[str, Evaluation]) -> str:
    """README.md of a model."""
    return "\n".join(
        [
            f"# Image classifier: {len(model.labels)} classes",
            "",
            f"Backbone `{model.architecture}` at {model.size} px, a head on its features. "
            f"{describe(learned.noise)}",
            "",
            "## Measured",
            "",
            *(_line(TITLES[name], evaluations[name]) for name in TITLES if name in evaluations),
            "",
            *_report(evaluations),
            LIMITS,
        ]
    )


def _line(title: str, found: Evaluation) -> str:
    accuracy = found.accuracy
    return (
        f"- {title}: accuracy {accuracy.estimate:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f}, "
        f"{accuracy.level:.0%} interval, n = {found.n:,}, {found.source})"
    )


def _report(evaluations: Mapping[str, Evaluation]) -> list[str]:
    if "assay" not in evaluations:
        return ["No image was held out: the accuracy of this very model is not measured."]
    return ["```", format_report(evaluations["assay"].report).rstrip(), "```"]
