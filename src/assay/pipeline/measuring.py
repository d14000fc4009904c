"""The figures of a run: validated on the part that may be learned from, then on the sealed holdout."""

from assay.correct.result import CorrectedLabels
from assay.data.dataset import Dataset
from assay.evaluate import Evaluation, Paired, Source, evaluate_predictions, mcnemar
from assay.pipeline.assay import Learned
from assay.pipeline.histogram import Baseline
from assay.pipeline.holdout import Sealed
from assay.types import UNKNOWN

CROSS: Source = "cross-validation"
ASIDE: Source = "validation"

TITLES = {
    "histogram": "histogram baseline",
    "assay": "assay",
    "histogram_leaks_included": "histogram baseline, copies included",
    "assay_leaks_included": "assay, copies included",
    "assay_cross_validated": "assay, cross-validated",
    "assay_validated": "assay, on images kept aside",
    "labels_cross_validated": "fixed labels, cross-validated",
    "labels_validated": "fixed labels, on images kept aside",
}
"""The figures of a run in the order in which a person reads them."""


def validated(dataset: Dataset, learned: Learned) -> dict[str, Evaluation]:
    """The head and the fixed labels on the trusted images that may be learned from: out of fold, or on
    those that were kept aside.
    """
    known, names = learned.corrected.trusted, dataset.titles or dataset.classes
    labels = learned.corrected.sample
    head, suffix, source = (
        (labels, "cross_validated", CROSS)
        if learned.validation is None
        else (learned.validation, "validated", ASIDE)
    )
    said = {"assay": (head, learned.unseen), "labels": (labels, learned.corrected.posterior)}
    return {
        f"{name}_{suffix}": evaluate_predictions(known[rows], probs[rows], names, source=source)
        for name, (rows, probs) in said.items()
    }


def against_noisy(corrected: CorrectedLabels) -> Paired | None:
    """The given labels and the fixed ones on the same trusted images; None where none has a given label."""
    rows = corrected.sample[corrected.noisy[corrected.sample] != UNKNOWN]
    if not len(rows):
        return None
    return mcnemar(corrected.trusted[rows], corrected.noisy[rows], corrected.posterior[rows].argmax(axis=1))


def held_out(
    dataset: Dataset, sealed: Sealed, learned: Learned, baseline: Baseline, n_skipped: int
) -> dict[str, Evaluation]:
    """Both models on the holdout: here and in ``coverage`` its trusted labels are read to measure.

    Parameters
    ----------
    n_skipped : held-out images that could not be used
    """
    names = dataset.titles or dataset.classes
    held = {"": sealed.judges}
    if len(sealed.leaked):
        held["_leaks_included"] = sealed.holdout
    found: dict[str, Evaluation] = {}
    for suffix, rows in held.items():
        if not len(rows):
            continue
        truth = dataset.trusted[rows]
        simple = baseline.says(rows)
        ours = learned.says(rows)
        found[f"histogram{suffix}"] = evaluate_predictions(
            truth, simple, names, source="holdout", skipped=n_skipped
        )
        found[f"assay{suffix}"] = evaluate_predictions(
            truth,
            ours,
            names,
            source="holdout",
            baseline_predicted=simple.argmax(axis=1),
            skipped=n_skipped,
        )
    return found
