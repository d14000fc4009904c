"""What a user should know before relying on a run."""

from collections import Counter
from collections.abc import Mapping

from assay.data.dataset import Dataset, why_skipped
from assay.evaluate import Evaluation
from assay.pipeline.assay import Learned
from assay.pipeline.measuring import against_noisy
from assay.pipeline.result import better_than_baseline, why_not_measured


def early_warnings(dataset: Dataset) -> tuple[str, ...]:
    """Those of the data, which are said before the work begins."""
    return tuple(note.removeprefix("warning: ") for note in dataset.notes if note.startswith("warning: "))


def late_warnings(
    dataset: Dataset,
    learned: Learned,
    evaluations: Mapping[str, Evaluation],
    *,
    n_held_out: int,
    n_leaked: int,
) -> tuple[str, ...]:
    """Those of what was found: the noise, the trusted images, the holdout, the labels, the model."""
    found = [*learned.noise.notes, *learned.representative.warnings]
    if dataset.skipped:
        reasons = Counter(why.reason for why in dataset.skipped.values())
        found.append(
            f"{len(dataset.skipped):,} images could not be used, see image_issues.csv: {why_skipped(reasons)}"
        )
    if n_leaked:
        found.append(
            f"{n_leaked:,} holdout images show a picture that was learned from: left out of the evaluation"
        )
    if n_held_out and "assay" not in evaluations:
        why = why_not_measured(evaluations, n_held_out)
        found.append(f"{why[0].lower()}{why[1:]}: this model's accuracy is not measured")
    paired = against_noisy(learned.corrected)
    if paired and paired.difference.low <= 0:
        found.append(
            f"on {paired.n:,} trusted images the fixed labels are not measurably better than the given ones: "
            "add trusted labels, or go on with the given ones"
        )
    if better_than_baseline(evaluations) is False:
        found.append("on the holdout the model is not measurably better than the histogram baseline")
    return tuple(found)
