"""A new batch of images against a finished run: wrong labels, outliers, duplicates, drift; no training.

What is usual is measured on the run's holdout, which nothing was trained on either: the model's predictions
of it are in holdout.csv. Four tests share one level, so a batch of the same kind as the run's images has none
of them reported in 19 of 20 batches.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import beta, betabinom, chi2_contingency

from assay.correct.audit import Finding, find_leaks
from assay.correct.near_duplicates import find_near_duplicates, local_density, standardise
from assay.correct.outliers import FEWEST, MOST, SHARE, find_cut, score_against
from assay.data.dataset import Dataset, ReadOptions
from assay.data.place import Place
from assay.data.read import read_images
from assay.data.tables import read_csv
from assay.data.write import Column, write_rows
from assay.embed.backbone import load_backbone
from assay.embed.given import given_features
from assay.embed.images import Features, embed_images
from assay.errors import DataError, UsageError
from assay.noise.intervals import Interval
from assay.noise.representative import two_sample_auc
from assay.pipeline.audit import COLUMNS, finding_columns
from assay.pipeline.finished import FinishedRun, open_run, stored_features
from assay.pipeline.options import default_cache
from assay.pipeline.run_files import COPY, HOLDOUT_COLUMNS
from assay.predict.batch import predict_dataset
from assay.predict.model import read_model
from assay.predict.runtime import load_runtime
from assay.predict.test_set import as_model_labels, read_test_set
from assay.types import (
    UNKNOWN,
    Backbone,
    Labels,
    Notify,
    PerImage,
    Probs,
    Progress,
    Rows,
    ignore_message,
    silent,
)

KINDS = {
    "wrong_label": "labels that the model contradicts",
    "outliers": "outliers: images unlike those that belong",
    "duplicates": "files that the run has too, byte for byte",
    "near_duplicates": "near-duplicates of the run's images",
    "duplicates_in_batch": "files that are in the batch twice or more",
    "near_duplicates_in_batch": "groups of near-duplicates in the batch",
}
"""Kinds of findings, in the order of the rows."""

LEVEL = 0.05
"""Chance that any test reports a batch like the run's own images."""

TESTS = ("wrong_labels", "outliers", "class_drift", "feature_drift")

FEWEST_HELD_OUT = 100
"""Held-out images from which what is usual can be measured."""

COMMON_SHARE = 0.01
"""Of images that belong: the share that is beyond the cut by which the batch as a whole is judged."""

COMPARED = 2_000
"""Images on each side of the test of features."""


@dataclass(frozen=True)
class Usual:
    """The H held-out images that the model was not trained on, as holdout.csv has them."""

    rows: Rows
    truth: Labels
    predicted: Labels
    confidence: PerImage
    """Of the predicted class."""


@dataclass(frozen=True)
class Contradicted:
    """Given labels that the model contradicts with confidence."""

    labelled: int
    found: int
    expected: float
    """The same of right labels of these classes."""
    share: Interval
    """Share of wrong labels in the batch."""
    p_value: float
    """P(so many) if all labels are right."""


@dataclass(frozen=True)
class Beyond:
    """Images of the batch farther out than all but one in a hundred of the held-out ones."""

    found: int
    expected: float
    p_value: float
    """P(so many) if all are like the held-out ones."""


@dataclass(frozen=True)
class Drift:
    """Whether the batch differs from the run's images in one respect."""

    p_value: float
    largest: str
    """In words, the largest difference."""


@dataclass(frozen=True)
class Checked:
    """A batch, and what was found in it; a test is None where there is too little to test."""

    dataset: Dataset
    """The batch; its ``skipped`` has all images that could not be used."""
    findings: tuple[Finding, ...]
    wrong_labels: Contradicted | None
    outliers: Beyond | None
    class_drift: Drift | None
    feature_drift: Drift | None

    @property
    def reported(self) -> tuple[str, ...]:
        """The tests that report the batch."""
        found = {name: getattr(self, name) for name in TESTS}
        return tuple(name for name, test in found.items() if test and test.p_value < LEVEL / len(TESTS))

    def to_json(self) -> dict[str, Any]:
        """Counts, tests, and every finding."""
        counts = Counter(one.kind for one in self.findings)
        tests = {name: getattr(self, name) for name in TESTS}
        return {
            "images": len(self.dataset),
            "skipped": len(self.dataset.skipped),
            "counts": {kind: counts[kind] for kind in KINDS},
            "reported": list(self.reported),
            "false_alarm_share": LEVEL,
            **{name: None if test is None else asdict(test) for name, test in tests.items()},
            "findings": [asdict(one) | {"score": round(one.score, 4)} for one in self.findings],
        }


def check_images(
    folder: Path,
    images: Place | None,
    options: ReadOptions,
    *,
    run_images: Place | None = None,
    weights: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
    workers: int = 2,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> Checked:
    """Read a batch, embed it with the run's backbone, and compare it with the run.

    Parameters
    ----------
    images : the new ones; None where ``options`` names features
    options : how to read them; ``trusted`` are the labels to be checked
    run_images : where the run's images are, if they were moved
    weights : the file of the backbone's weights, if the run was given one

    Raises
    ------
    UsageError : images for a run on features, another backbone than the run's, or features that are gone
    LabelError : a label that is no class of the run
    """
    cache = cache or default_cache()
    run = open_run(folder, run_images, command="check", features=True)
    runtime = load_runtime(folder)
    if options.trusted is None:
        batch = read_images(images, options)
        labels = np.full(len(batch), UNKNOWN)
    else:
        batch = read_test_set(images, options, [runtime])
        labels = as_model_labels(batch, runtime, any_form=options.normalize_labels)
    for note in batch.notes:
        notify(note)
    _, known = stored_features(run, run.images, cache, workers=workers, progress=progress)
    if (batch.vectors is None) == ("features" in run.record):
        wanted = "--features FILE" if "features" in run.record else "IMAGES"
        raise UsageError(f"expected {wanted}, as {folder} was made from, got the other; give the same kind")
    if batch.vectors is not None:
        features = given_features(batch)
    else:
        features = embed_images(
            batch,
            _backbone_of(run, weights, cache),
            cache,
            mirrored=False,
            workers=workers,
            progress=progress,
        )
    if run.record["settings"]["preset"] == "fast":
        probs = read_model(folder).probabilities(features.views[0])
    else:  # its network was fine-tuned, and needs the images again
        probs = predict_dataset(runtime, features.seen(batch), workers=workers, progress=progress).probs
    return check_batch(run, known, batch, features, labels, probs, seed=seed)


def check_batch(
    run: FinishedRun,
    known: Features,
    batch: Dataset,
    features: Features,
    labels: Labels,
    probs: Probs,
    *,
    seed: int = 0,
) -> Checked:
    """Compare a batch with the images of a run.

    Parameters
    ----------
    known : features of the run's images
    batch : the new images
    features : of them, by the same backbone
    labels : (B,) the class that each new image is said to have, or UNKNOWN
    probs : P(class) (B, K) of the run's model; of a skipped image anything
    """
    batch = features.seen(batch)
    new = np.flatnonzero(batch.usable)
    if not len(new):
        raise DataError(f"expected images that can be used, got none of {len(batch):,}")
    usual = read_usual(run)
    enough = len(usual.rows) >= FEWEST_HELD_OUT
    old = np.flatnonzero([action != "skipped" for action in run.actions])
    # One view: the mirror images of the batch would take as long again.
    both = standardise([np.concatenate([known.views[0][old], features.views[0][new]])])
    # As holdout.csv rounds them: a model that is always sure has nothing but its last digits.
    n, top = len(old), np.round(probs[new].max(axis=1).astype(np.float64), 4)
    outliers: Beyond | None = None
    far: list[tuple[int, float]] = []
    if enough:
        far, outliers = _find_outliers(run, usual, both, old, top, seed)
    contents = [known.contents[row] for row in old] + [features.contents[row] for row in new]
    names = [*(run.names[row] for row in old), *(batch.names[row] for row in new)]
    predicted, threshold = probs[new].argmax(axis=1), _threshold(run)
    contradicts = (labels[new] != UNKNOWN) & (predicted != labels[new]) & (top >= threshold)
    wrong = None
    if enough:
        wrong = count_wrong_labels(usual, labels[new], predicted, top, len(run.labels), threshold)
    listed = np.flatnonzero(contradicts)[np.argsort(-top[contradicts], kind="stable")]
    rows = [
        Finding(names[n + at], "wrong_label", (), float(top[at]), run.labels[int(predicted[at])])
        for at in listed.tolist()
    ]
    rows += [Finding(names[n + at], "outliers", (), score) for at, score in far]
    rows += _duplicates(both, contents, names, n, seed)
    return Checked(
        batch,
        tuple(rows),
        wrong,
        outliers,
        _class_drift(run, usual, predicted) if enough else None,
        _feature_drift(both, n, seed),
    )


def write_findings(found: Checked, target: Path, *, excel_safe: bool = False) -> None:
    """A CSV file with one row for each finding."""
    rows = found.findings
    columns: list[Column] = [*finding_columns(rows), [one.label for one in rows]]
    write_rows(target, (*COLUMNS, "label"), columns, excel_safe=excel_safe)


def read_usual(run: FinishedRun) -> Usual:
    """The held-out images, without those that are near-duplicates of training images."""
    table = read_csv(run.folder / "holdout.csv", HOLDOUT_COLUMNS)
    row_of, index = (
        {name: row for row, name in enumerate(run.names)},
        {x: i for i, x in enumerate(run.labels)},
    )
    try:
        found = [
            (row_of[file], index[trusted], index[predicted], float(confidence))
            for file, trusted, predicted, confidence, reason, *_ in table.rows
            if predicted and reason != COPY
        ]
    except (KeyError, ValueError) as error:
        raise DataError(f"{table.path}: {error} is not of this run; run it again") from None
    rows, truth, predicted, confidence = zip(*found, strict=True) if found else ((), (), (), ())
    return Usual(
        np.array(rows, np.int64),
        np.array(truth, np.int64),
        np.array(predicted, np.int64),
        np.array(confidence, float),
    )


def _backbone_of(run: FinishedRun, weights: Path | None, cache: Path) -> Backbone:
    record = run.record["backbone"]
    # As the run asked for it: another question to the timing of networks may have another answer.
    dtype = run.record["settings"].get("dtype") or "auto"
    backbone = load_backbone(record["name"], cache, size=record["size"], weights=weights, dtype=dtype)
    if backbone.digest != record["digest"]:
        raise UsageError(
            f"expected the backbone of {run.folder}, got other weights or another version of "
            f"{record['name']}; give the run's --weights, or run again on this machine"
        )
    return backbone


def _threshold(run: FinishedRun) -> float:
    return float(run.record["settings"]["threshold"])


def count_wrong_labels(
    usual: Usual, labels: Labels, predicted: Labels, top: PerImage, n_classes: int, threshold: float
) -> Contradicted | None:
    """The share of wrong labels, from how often the model contradicts one with confidence.

    Of right labels it contradicts the share e of the held-out images, at the classes of the batch; of wrong
    ones nearly all of which it is sure, the share s. So of w wrong ones (1 - w) e + w s are contradicted.
    """
    rows = np.flatnonzero(labels != UNKNOWN)
    n, k = len(rows), n_classes
    ours = (predicted != labels) & (top >= threshold)
    theirs = (usual.predicted != usual.truth) & (usual.confidence >= threshold)
    shares = np.bincount(labels[rows], minlength=k), np.bincount(usual.truth, minlength=k)
    weight = (shares[0] / np.maximum(shares[1], 1))[usual.truth]
    if n == 0 or not weight.any():
        return None
    weight /= weight.sum()
    found, usually = int(ours[rows].sum()), float(weight @ theirs)
    # Weighted images tell as much as fewer equal ones.
    n_usual = 1 / float(np.square(weight).sum())
    k_usual, sure = usually * n_usual, float((top[rows] >= threshold).mean())
    # A wrong label that the model takes for the right one, as it errs itself, is not contradicted.
    reach = max(sure * (1 - usually / max(k - 1, 1)) - usually, 1e-6)
    apart, seen = found / n - usually, beta.ppf([0.025, 0.975], found + 0.5, n - found + 0.5)
    ends = beta.ppf([0.975, 0.025], k_usual + 0.5, n_usual - k_usual + 0.5)
    # The interval of a difference from those of both shares (Newcombe 1998, method 10).
    lengths = np.hypot(seen - found / n, ends - usually)
    share = np.array([apart, apart - lengths[0], apart + lengths[1]]) / reach
    return Contradicted(
        n,
        found,
        usually * n,
        Interval(*np.clip(share, 0.0, 1.0).tolist()),
        # If all labels are right: so many of n, where k_usual of n_usual were, by Clopper and Pearson.
        float(betabinom.sf(found - 1, n, k_usual + 1, max(n_usual - k_usual, 1e-6))),
    )


def _find_outliers(
    run: FinishedRun,
    usual: Usual,
    both: Float[np.ndarray, "M D"],
    old: Rows,
    top: PerImage,
    seed: int,
) -> tuple[list[tuple[int, float]], Beyond | None]:
    """Images of the batch that are flagged, with their scores, and whether there are too many far out."""
    belong = np.searchsorted(old, usual.rows)
    settled = np.where((run.confidence >= _threshold(run)) & ~run.held_out, run.proposed, UNKNOWN)[old]
    settled[[action == "outlier" for action in np.array(run.actions, dtype=object)[old]]] = UNKNOWN
    trusted = np.flatnonzero((run.trusted[old] != UNKNOWN) & ~run.held_out[old])
    # Trusted images are sure to belong; few of them say less than many that are settled.
    reference = trusted if len(trusted) >= 2 * FEWEST else np.flatnonzero(settled != UNKNOWN)
    reference = np.sort(np.random.default_rng(seed).permutation(reference)[:MOST])
    if len(reference) < FEWEST:
        return [], None
    n = len(old)
    judged = np.concatenate([reference, belong, np.arange(n, len(both))])
    labels = np.concatenate([settled[reference], np.full(len(judged) - len(reference), UNKNOWN)])
    # Of the reference nothing is asked; of the held-out images holdout.csv has the predictions.
    certain = np.concatenate([np.ones(len(reference)), usual.confidence, top])
    first, second = len(reference), len(reference) + len(belong)
    scores = score_against(
        both[judged], np.arange(first), np.arange(first, second), labels=labels, top_probs=certain
    )
    theirs, ours = scores[first:second], scores[second:]
    above = int(COMMON_SHARE * (len(theirs) + 1))
    found = int(np.sum(ours > np.sort(theirs)[-above]))
    # How many of B new images exceed the a-th greatest of H, if all are drawn alike.
    p_value = float(betabinom.sf(found - 1, len(ours), above, len(theirs) + 1 - above))
    cut = find_cut(theirs, SHARE)
    order = np.argsort(-ours, kind="stable")
    flagged = [(int(at), float(ours[at] / cut)) for at in order if ours[at] > cut]
    return flagged, Beyond(found, above / (len(theirs) + 1) * len(ours), p_value)


def _duplicates(
    both: Float[np.ndarray, "M D"], contents: Sequence[bytes | None], names: Sequence[str], n: int, seed: int
) -> list[Finding]:
    """Copies of the run's images, then those inside the batch; without the run's own copies."""
    # The new ones first, as only they are compared with all.
    order = np.concatenate([np.arange(n, len(both)), np.arange(n)])
    n_new, around = len(both) - n, local_density(both[order], seed)
    groups = find_near_duplicates(
        around.directions, [contents[at] for at in order], around.spacing, around.dimension, new=n_new
    )
    files: dict[bytes | None, list[int]] = {}
    for place, at in enumerate(order.tolist()):
        files.setdefault(contents[at], []).append(place)
    by_kind: dict[str, list[Finding]] = {kind: [] for kind in KINDS}

    def add(kind: str, place: int, others: Sequence[int], score: float) -> None:
        more = tuple(names[order[one]] for one in others)
        by_kind[kind].append(Finding(names[order[place]], kind, more, score))

    def content(place: int) -> bytes | None:
        return contents[int(order[place])]

    is_new = np.arange(len(both)) < n_new
    leaks = find_leaks(groups, is_new, np.arange(len(both)), around.directions)
    for leak in sorted(leaks, key=lambda leak: leak.row):
        equal = [place for place in files[content(leak.row)] if place >= n_new and content(place) is not None]
        kind = "duplicates" if equal else "near_duplicates"
        add(kind, leak.row, equal or leak.others, 1.0 if equal else leak.similarity)
    for group in groups:
        inside = [place for place in group.rows if place < n_new]
        if len(inside) > 1:
            same = len({content(place) for place in inside}) == 1 and content(inside[0]) is not None
            kind = "duplicates_in_batch" if same else "near_duplicates_in_batch"
            add(kind, inside[0], inside[1:], 1.0 if same else group.similarity)
    # Equal files are equally similar, and stay in the order of the batch.
    return [one for kind in KINDS for one in sorted(by_kind[kind], key=lambda one: -one.score)]


def _class_drift(run: FinishedRun, usual: Usual, predicted: Labels) -> Drift | None:
    """Whether the model predicts other shares of classes than of the held-out images."""
    k = len(run.labels)
    counts = np.stack([np.bincount(rows, minlength=k) for rows in (usual.predicted, predicted)])
    counts = counts[:, counts.any(axis=0)]
    if counts.shape[1] < 2:
        return None
    p_value = float(chi2_contingency(counts, correction=False).pvalue)
    shares = np.stack([np.bincount(rows, minlength=k) / len(rows) for rows in (usual.predicted, predicted)])
    widest = int(np.abs(shares[1] - shares[0]).argmax())
    before, after = 100 * shares[:, widest]
    return Drift(
        p_value, f"{run.title(widest)}: {after:.1f} % predicted, {before:.1f} % of the held-out images"
    )


def _feature_drift(both: Float[np.ndarray, "M D"], n: int, seed: int) -> Drift | None:
    """Whether a classifier can tell the batch from the run's images."""
    generator = np.random.default_rng(seed)
    sides = [
        both[np.sort(generator.permutation(rows)[:COMPARED])]
        for rows in (np.arange(n), np.arange(n, len(both)))
    ]
    if min(map(len, sides)) < FEWEST_HELD_OUT:
        return None
    auc, p_value = two_sample_auc(*sides, seed=seed)
    return Drift(
        float(p_value), f"a classifier tells {100 * auc.estimate:.1f} % of pairs apart; 50 % is chance"
    )
