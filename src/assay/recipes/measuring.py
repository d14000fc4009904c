"""The figures of a run: cross-validated on what was learned from, then on the sealed holdout."""

import numpy as np

from assay.data.dataset import Dataset
from assay.measure import Evaluation, evaluate
from assay.recipes.assay import Learned
from assay.recipes.histogram import Baseline
from assay.recipes.sealing import Sealed

TITLES = {
    "histogram": "histogram baseline",
    "assay": "assay",
    "histogram_leaks_included": "histogram baseline, copies included",
    "assay_leaks_included": "assay, copies included",
    "assay_cross_validated": "assay, cross-validated",
    "labels_cross_validated": "fixed labels, cross-validated",
}
"""The figures of a run in the order in which a person reads them."""


def cross_validated(dataset: Dataset, learned: Learned) -> dict[str, Evaluation]:
    """The head and the fixed labels on the trusted images that may be learned from, out of fold."""
    fit = learned.fixed.sample
    known, names = learned.fixed.trusted[fit], dataset.titles or dataset.classes
    said = {"assay": learned.out_of_fold, "labels": learned.fixed.posterior}
    return {
        f"{name}_cross_validated": evaluate(known, probs[fit], names, source="cross-validation")
        for name, probs in said.items()
    }


def held_out(
    dataset: Dataset, sealed: Sealed, learned: Learned, baseline: Baseline, n_skipped: int
) -> dict[str, Evaluation]:
    """Both models on the holdout: the one place of a run that reads its trusted labels.

    Parameters
    ----------
    n_skipped : held-out images that could not be used
    """
    names, plain = dataset.titles or dataset.classes, sealed.data.features.views[0]
    held = {"": np.setdiff1d(sealed.holdout, sealed.leaked)}
    if len(sealed.leaked):
        held["_leaks_included"] = sealed.holdout
    found: dict[str, Evaluation] = {}
    for suffix, rows in held.items():
        if not len(rows):
            continue
        truth = dataset.trusted[rows]
        simple = baseline.model.probabilities(baseline.features[rows])
        ours = learned.head.probabilities(plain[rows])
        found[f"histogram{suffix}"] = evaluate(truth, simple, names, source="holdout", skipped=n_skipped)
        found[f"assay{suffix}"] = evaluate(
            truth,
            ours,
            names,
            source="holdout",
            baseline_predicted=simple.argmax(axis=1),
            skipped=n_skipped,
        )
    return found
