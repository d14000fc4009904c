"""New images to rows: one for each image, in order, with a status; and the sets of classes they may have."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from itertools import accumulate

import numpy as np
from jaxtyping import Bool

from assay.data.dataset import Dataset, Skipped
from assay.data.loader import load
from assay.data.write import ResumableWriter
from assay.errors import DataError, UsageError
from assay.predict.prior import ESTIMATE, estimate_prior, prior_in_words, reweighted
from assay.predict.runtime import Runtime
from assay.types import (
    Labels,
    Notify,
    PerImage,
    Prior,
    Probs,
    Progress,
    Rows,
    ignore_message,
    same_length,
    silent,
)

COLUMNS = ("file", "label", "probability", "status")

PASSING = frozenset(("missing", "permission", "unreadable", "changed", "timeout", "truncated_body"))
"""Statuses of images that may be readable at another time."""

UNSURE = "unsure"
"""The status of an image whose likeliest class is less probable than the minimum."""

SHOWN = 10
"""Rows in a notebook."""

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999)
"""The shares of images that thresholds of prediction sets are kept for."""


@dataclass(frozen=True)
class Options:
    """What rows hold."""

    min_confidence: float = 0.0
    """Below this probability an image gets no label: its status is ``unsure``."""
    set_threshold: float | None = None
    """With it each image also gets the set of its classes that are at least so probable."""
    prior: tuple[float, ...] | str | None = None
    """P(class) of each of the K classes among the new images, or ``ESTIMATE``; None: as in training."""
    outlier_score: bool = False
    """Whether each image also gets its outlier score, if the model has one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        more = ("set",) * (self.set_threshold is not None) + ("outlier_score",) * self.outlier_score
        return (*COLUMNS, *more)


@dataclass(frozen=True, repr=False)
class Predictions:
    """A model's predictions of N images."""

    names: tuple[str, ...]
    """In the order of the input."""
    probs: Probs
    """P(class) (N, K); zeros where the image could not be used."""
    labels: tuple[str, ...]
    """The K labels that the columns of ``probs`` stand for."""
    statuses: tuple[str, ...]
    """``ok``, or why an image has no label."""
    image_warnings: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Row -> warnings about an image that was used."""
    outlier_score: PerImage | None = None
    """Above 1 where an image seems to belong to no class, NaN where it could not be used; None of a model
    without it."""

    def __post_init__(self) -> None:
        same_length(names=self.names, probs=self.probs, statuses=self.statuses)

    @staticmethod
    def of_usable(
        names: Sequence[str], seen: Sequence[object], probs: Probs, labels: tuple[str, ...]
    ) -> "Predictions":
        """Predictions, ``probs`` (M, K) being of those of the images ``seen`` that are not Skipped."""
        usable = [row for row, found in enumerate(seen) if not isinstance(found, Skipped)]
        all_probs = np.zeros((len(seen), len(labels)), dtype=np.float32)
        all_probs[usable] = probs
        statuses = tuple(found.reason if isinstance(found, Skipped) else "ok" for found in seen)
        return Predictions(tuple(names), all_probs, labels, statuses)

    def __repr__(self) -> str:
        skipped = f", {self.n_skipped:,} skipped" if self.n_skipped else ""
        return f"Predictions({len(self.names):,} images, {len(self.labels):,} classes{skipped})"

    def _repr_html_(self) -> str:
        # Names and labels are text of strangers: a notebook would run what is not escaped.
        columns = zip(*(column[:SHOWN] for column in self.columns()), strict=True)
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        cells = ("".join(f"<td>{escape(str('' if v is None else v))}</td>" for v in row) for row in columns)
        rows = "".join(f"<tr>{row}</tr>" for row in cells)
        return f"<p>{escape(repr(self))}</p><table><tr>{head}</tr>{rows}</table>"

    def columns(self, options: Options = Options()) -> list[list[object]]:
        """The columns that ``options`` names; no label and probability where an image could not be used.

        A set is written with ``|`` between its labels, and a backslash before a ``|`` or backslash in one.
        """
        usable = [status == "ok" for status in self.statuses]
        top = self.confidence
        sure = [good and p >= options.min_confidence for p, good in zip(top.tolist(), usable, strict=True)]
        states = zip(self.statuses, usable, sure, strict=True)
        found: list[list[object]] = [
            list(self.names),
            [label if good else None for label, good in zip(self.predicted, sure, strict=True)],
            [p if good else None for p, good in zip(np.round(top, 4).tolist(), usable, strict=True)],
            [UNSURE if good and not certain else status for status, good, certain in states],
        ]
        if options.set_threshold is not None:
            sets = self.sets(options.set_threshold)
            escaped = str.maketrans({"\\": r"\\", "|": r"\|"})
            found.append(
                [
                    "|".join(label.translate(escaped) for label in labels) if labels else None
                    for labels in sets
                ]
            )
        if options.outlier_score and self.outlier_score is not None:
            score = zip(np.round(self.outlier_score, 3).tolist(), usable, strict=True)
            found.append([one if good else None for one, good in score])
        return found

    def sets(self, threshold: float) -> list[tuple[str, ...]]:
        """The labels that each image may have, the likeliest first; none where it could not be used."""
        order, inside = np.argsort(-self.probs, axis=1, kind="stable"), prediction_sets(self.probs, threshold)
        return [
            tuple(self.labels[k] for k in ranks[:size]) if status == "ok" else ()
            for ranks, size, status in zip(order, inside.sum(axis=1), self.statuses, strict=True)
        ]

    @property
    def predicted(self) -> tuple[str | None, ...]:
        """The likeliest label of each image; None where it could not be used."""
        usable = zip(self.probs.argmax(axis=1).tolist(), self.statuses, strict=True)
        return tuple(self.labels[k] if status == "ok" else None for k, status in usable)

    @property
    def confidence(self) -> PerImage:
        """P(that label) (N,); 0 where the image could not be used."""
        # As float64: a rounded float32 would be written with all its digits, 0.7936999797821045.
        top: PerImage = self.probs.max(axis=1, initial=0).astype(np.float64)
        return top

    @property
    def usable(self) -> Rows:
        """Rows of the images that could be used."""
        return np.flatnonzero([status == "ok" for status in self.statuses])

    def at_prior(self, trained: Prior, new: Prior) -> "Predictions":
        """The same images where classes have the shares ``new``; the model has those of ``trained``."""
        probs = self.probs.copy()
        probs[self.usable] = reweighted(probs[self.usable], trained, new)
        return replace(self, probs=probs)

    @property
    def n_skipped(self) -> int:
        """Images that could not be used."""
        return sum(status != "ok" for status in self.statuses)


def predict_dataset(
    runtime: Runtime, dataset: Dataset, *, workers: int = 2, progress: Progress = silent
) -> Predictions:
    """Predict the images of a dataset, whatever labels it has."""
    return predict_together({"": runtime}, dataset, workers=workers, progress=progress)[""]


def predict_together(
    runtimes: Mapping[str, Runtime], dataset: Dataset, *, workers: int = 2, progress: Progress = silent
) -> dict[str, Predictions]:
    """The predictions of several models, by name; images are decoded once for all that take one size."""
    targets: dict[tuple[int, str], list[str]] = {}
    for name, runtime in runtimes.items():
        targets.setdefault((runtime.size, runtime.interpolation), []).append(name)
    n, found = len(dataset), dict[str, Predictions]()
    # A pass for each: as for a lone model, the size that a JPEG is decoded at depends on its target.
    for number, names in enumerate(targets.values()):
        count = partial(_count, progress, number * n, len(targets) * n)
        some = [runtimes[name] for name in names]
        parts = list(predict_parts(some, dataset, workers=workers, progress=count))
        for place, name in enumerate(names):
            found[name] = _joined([part[place] for part in parts], runtimes[name].labels)
    return {name: found[name] for name in runtimes}


def check_takes(runtime: Runtime, dataset: Dataset) -> None:
    """Refuse a data set of images for a model of features, the reverse, and features of another length."""
    vectors = dataset.vectors
    if (vectors is None) == (runtime.width > 0):
        got = "images" if vectors is None else "features"
        raise UsageError(f"expected what the model was trained on, {runtime.takes}, got {got}")
    if vectors is not None and vectors.shape[1] != runtime.width:
        raise DataError(
            f"expected {runtime.takes}, as the model was trained on, got rows of {vectors.shape[1]:,}; "
            "compute them in the same way"
        )


def _count(progress: Progress, before: int, total: int, stage: str, done: int, _: int) -> None:
    progress(stage, before + done, total)


def _joined(parts: Sequence[Predictions], labels: tuple[str, ...]) -> Predictions:
    starts = accumulate((len(part.names) for part in parts), initial=0)
    image_warnings = {
        start + row: flags
        for start, part in zip(starts, parts, strict=False)
        for row, flags in part.image_warnings.items()
    }
    none = np.zeros((0, len(labels)), dtype=np.float32)
    scores = [part.outlier_score for part in parts if part.outlier_score is not None]
    return Predictions(
        tuple(name for part in parts for name in part.names),
        np.concatenate([none, *(part.probs for part in parts)]),
        labels,
        tuple(status for part in parts for status in part.statuses),
        image_warnings,
        np.concatenate(scores) if scores else None,
    )


def predict_parts(
    runtimes: Sequence[Runtime],
    dataset: Dataset,
    *,
    first: int = 0,
    workers: int = 2,
    progress: Progress = silent,
) -> Iterator[list[Predictions]]:
    """Predictions of each model from row ``first`` on, a few hundred images at a time.

    The models take images of one size and interpolation.
    """
    for runtime in runtimes:
        check_takes(runtime, dataset)
    every = np.arange(first, len(dataset))
    for batch in load(dataset, [runtimes[0].target], every, workers=workers):
        rows = range(batch.rows[0], batch.rows[-1] + 1)
        statuses = tuple(batch.skipped[row].reason if row in batch.skipped else "ok" for row in rows)
        image_warnings = {row - rows.start: flags for row, flags in batch.flags.items()}
        found = []
        for runtime in runtimes:
            probs = np.zeros((len(rows), len(runtime.labels)), dtype=np.float32)
            scores = np.full(len(rows), np.nan) if runtime.has_outlier_score else None
            if len(batch.decoded):
                probs[batch.decoded - rows.start], score = runtime.scored(batch.images[0])
                if score is not None and scores is not None:
                    scores[batch.decoded - rows.start] = score
            names = dataset.names[rows.start : rows.stop]
            found.append(Predictions(names, probs, runtime.labels, statuses, image_warnings, scores))
        progress("predict", rows.stop, len(dataset))
        yield found


@dataclass
class Written:
    """What was found while rows were written."""

    first: int = 0
    """First row predicted now: a resumed command has rows already."""
    n_skipped: int = 0
    """Images that could not be used, in the rows that were there already too."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why images predicted now could not be used."""
    image_warnings: Counter[str] = field(default_factory=Counter)
    """Warnings about images predicted now."""


def write_predictions(
    runtime: Runtime,
    dataset: Dataset,
    table: ResumableWriter,
    options: Options = Options(),
    *,
    workers: int = 2,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> Written:
    """Add a row for each image that ``table`` does not have yet.

    Parameters
    ----------
    notify : gets the estimated class shares
    """
    written, trained, new = Written(table.n_rows), runtime.prior, options.prior
    found = predict_parts([runtime], dataset, first=table.n_rows, workers=workers, progress=progress)
    parts: Iterable[Predictions] = (part for (part,) in found)
    if new is not None and trained is not None:
        if new == ESTIMATE:  # all predictions are needed before the first row
            parts = [*parts]
            none = np.zeros((0, len(trained)), dtype=np.float32)
            probs = np.concatenate([none, *(part.probs[part.usable] for part in parts)])
            new = tuple(estimate_prior(probs, trained).tolist())
            notify(prior_in_words(new, runtime.titles or runtime.labels))
        parts = (part.at_prior(trained, np.array(new)) for part in parts)
    for part in parts:
        table.tally += part.n_skipped
        written.reasons.update(status for status in part.statuses if status != "ok")
        written.image_warnings.update(flag for flags in part.image_warnings.values() for flag in flags)
        # Hundreds in a row: their place is gone for a while, such as a network disk.
        table.add(part.columns(options), lasting=not PASSING.issuperset(part.statuses))
    written.n_skipped = table.tally
    return written


def identity_of(runtime: Runtime, dataset: Dataset, *more: object) -> str:
    """Digest of all that rows depend on, besides the bytes of the images."""
    digest = hashlib.sha256(repr((runtime.digest, more)).encode())
    for name in dataset.names:
        # A name need not be UTF-8; none holds a zero, so no two lists of names give the same bytes.
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


# ---- prediction sets ----


def conformal_thresholds(probs: Probs, truth: Labels) -> dict[str, float]:
    """Coverage, written as text, -> the least probability of a class in a set.

    Split conformal prediction (Vovk et al. 2005; least ambiguous sets, Sadinle et al. 2019,
    doi:10.1080/01621459.2017.1395341): on images that the model was not trained on, how improbable was the
    true class? A set holds every class that is no more improbable than that was in the share of the images.
    Here ``probs`` come from calibrations of a half of the images or of the other folds, close to the model's
    own but not it: so the share is approximate, and is counted again on images that nothing was fitted to.
    """
    n, found = len(truth), dict[str, float]()
    of_true = np.sort(probs[np.arange(n), truth])[::-1]
    for coverage in COVERAGES:
        rank = math.ceil((n + 1) * coverage)
        if rank <= n:  # n images reach a coverage of n / (n + 1)
            found[f"{coverage:g}"] = float(of_true[rank - 1])
    return found


def threshold_for(coverage: float, thresholds: Mapping[str, float]) -> float:
    """The threshold of the least coverage kept that is as large as ``coverage``."""
    if not thresholds:
        raise UsageError("--coverage: expected a model with thresholds for it, got one without; run it again")
    kept = sorted((float(share), least) for share, least in thresholds.items())
    enough = [least for share, least in kept if share >= coverage]
    if not enough or coverage <= 0:
        raise UsageError(
            f"--coverage: expected more than 0 and at most {kept[-1][0]:g}, for which the model has "
            f"trusted images enough, got {coverage:g}"
        )
    return enough[0]


def prediction_sets(probs: Probs, threshold: float) -> Bool[np.ndarray, "N K"]:
    """The classes in the set of each image (N, K): those from the threshold on, and always the likeliest."""
    sets = probs >= threshold
    sets[np.arange(len(probs)), probs.argmax(axis=1)] = True
    return sets
