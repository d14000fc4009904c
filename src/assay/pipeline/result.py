"""RunResult: what a run found."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.data.dataset import Dataset
from assay.evaluate import Cost, Evaluation
from assay.pipeline.assay import Learned
from assay.pipeline.coverage import Coverage
from assay.pipeline.robustness import Robustness
from assay.predict.model import Model


@dataclass(frozen=True)
class RunResult:
    """What a run found; the same is in its folder."""

    folder: Path
    dataset: Dataset
    """All images that could not be used are among its ``skipped``."""
    learned: Learned
    model: Model
    evaluations: Mapping[str, Evaluation]
    """``assay`` and ``histogram`` on the holdout, and with ``_leaks_included`` if it had leaks, or those
    of the partial model, whose ``source`` says so;
    ``assay_`` and ``labels_`` with ``cross_validated`` on trusted images of the fit part, out of fold, or
    with ``validated`` on images kept aside from fine-tuning."""
    cost: Cost
    warnings: tuple[str, ...]
    """What the user should know before relying on it."""
    left_out: tuple[str, ...] = ()
    """Held-out images that the evaluation leaves out, as their picture was learned from."""
    robustness: Robustness | None = None
    """The model on damaged images; None where no image was kept aside to measure it."""
    coverage: tuple[Coverage, ...] = ()
    """What the model's prediction sets hold on the holdout; empty without one."""

    @property
    def better_than_baseline(self) -> bool | None:
        """Whether the model is measurably better on the holdout; None if that was not measured."""
        return better_than_baseline(self.evaluations)


def why_not_measured(measured: Collection[str], n_held_out: int) -> str:
    """Why there is no figure of the model itself, as the beginning of a sentence.

    Parameters
    ----------
    measured : keys of ``RunResult.evaluations``
    n_held_out : images that were held out
    """
    if "assay_leaks_included" in measured:
        return "Each held-out picture was also learned from"
    return "None of the held-out images could be used" if n_held_out else "No image was held out"


def better_than_baseline(evaluations: Mapping[str, Evaluation]) -> bool | None:
    """Whether the interval of what ``assay`` gains over ``histogram`` lies above 0; None without both."""
    paired = evaluations["assay"].paired if "assay" in evaluations else None
    return None if paired is None else paired.difference.low > 0
