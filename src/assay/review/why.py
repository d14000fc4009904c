"""Why an image is shown: what speaks for and against its label, in words."""

from collections import Counter
from collections.abc import Sequence

from assay.review.neighbours import Neighbour
from assay.review.run import ReviewRun
from assay.types import UNKNOWN

_LOCKED = {
    "trusted": "This image has a trusted label already.",
    "holdout": "This image is in the sealed holdout: it has a trusted label, which this page does not see.",
}


def locked(run: ReviewRun, row: int) -> str:
    """Why an image cannot be decided; empty if it can."""
    if run.is_open[row]:
        return ""
    reason = "trusted" if run.trusted[row] != UNKNOWN else run.reasons[row]
    return _LOCKED.get(reason, f"This image could not be used: {reason or run.actions[row]}.")


def reasons(run: ReviewRun, row: int, neighbours: Sequence[Neighbour]) -> list[str]:
    """The evidence, most telling first."""
    noisy, proposed = int(run.noisy[row]), int(run.proposed[row])
    if proposed == UNKNOWN:
        return []
    found = [_pred_probs(run, row)]
    if noisy not in (UNKNOWN, proposed) and run.transition is not None:
        share = _percent(run.transition[proposed, noisy])
        found.append(
            f"Of the images that are {run.title(proposed)}, {share} were labelled {run.title(noisy)}."
        )
    if neighbours:
        found.append(_alike(run, neighbours))
    return found


def _pred_probs(run: ReviewRun, row: int) -> str:
    noisy, proposed = int(run.noisy[row]), int(run.proposed[row])
    sure = _percent(run.confidence[row])
    if noisy == UNKNOWN:
        return f"It came without a label; it is {run.title(proposed)} with {sure}."
    if noisy == proposed:
        if run.confidence[row] < 0.5:
            return f"The label {run.title(noisy)} is the most probable one, but only with {sure}."
        return f"The label {run.title(noisy)} is probably right: {sure}."
    right = _percent(run.label_quality[row])
    return f"The label {run.title(noisy)} is right with {right}, {run.title(proposed)} would be with {sure}."


def _alike(run: ReviewRun, neighbours: Sequence[Neighbour]) -> str:
    counts = Counter(int(run.trusted[neighbour.row]) for neighbour in neighbours).most_common()
    words = ", ".join(f"{count} × {run.title(label)}" for label, count in counts)
    return f"The {len(neighbours)} trusted images most like it are: {words}."


def _percent(share: float) -> str:
    # Files of a run have four decimals, so there is no telling 0 from almost.
    if share < 0.001:
        return "less than 0.1 %"
    if share > 0.999:
        return "more than 99.9 %"
    return f"{100 * share:.1f} %"
