"""Several annotators: who labels how well, and what their labels say of each image.

``P(true | image, labels) ∝ P(true | image) · Π P(label | true, annotator) ** λ`` over all labels of an image.
An annotator gives the true class with an accuracy of their own, and errs as all annotators do: a confusion
matrix for each annotator gained nothing. Labels count by the probability that they were not given at random.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array, csr_array
from scipy.special import betaincinv, betaln, expit

from assay.correct.evidence import LogProbs
from assay.correct.posterior import combine
from assay.data.dataset import Annotations
from assay.types import UNKNOWN, Labels, Mask, PerImage, Probs, Rows

STRENGTH = 0.7
"""λ while accuracies are fitted: less than 1, since people err on the same images."""

ROUNDS = 10

# An annotator of few labels is as accurate as all of them: as strong as so many labels.
AVERAGE_LABELS = 5.0

# P(spam) of an annotator of whom nothing is known.
SPAM_PRIOR = 0.1

# Nobody is certain: one label must not decide an image alone.
MOST_ACCURATE = 0.99

PerAnnotator = Float[np.ndarray, "J"]


@dataclass(frozen=True)
class Annotators:
    """How J annotators label."""

    labels: PerAnnotator
    """How many labels each gave."""
    accuracy: PerAnnotator
    """P(label = true class), drawn towards the mean of all where labels are few."""
    low: PerAnnotator
    """Lower end of its 95 % interval, which takes the posterior of the images as calibrated."""
    high: PerAnnotator
    """Upper end."""
    agreement: PerAnnotator
    """Share of the other labels of the same images that are equal; NaN without any."""
    spam: PerAnnotator
    """P(the labels have nothing to do with the images)."""
    mistakes: Float[np.ndarray, "K K"]
    """P(label | true class, label is wrong) of all annotators at [true, label]; the diagonal is 0."""

    def log_evidence(self, annotations: Annotations, n: int) -> LogProbs:
        """Log P(all labels of the image | true) (N, K) up to a constant an image; zeros without labels."""
        k = len(self.mistakes)
        weight = (1 - self.spam)[annotations.annotator]
        accuracy = self.accuracy[annotations.annotator]
        wrong = _count(annotations.image, annotations.label, weight, (n, k))
        odds = np.log(accuracy / (1 - accuracy))
        right = _count(annotations.image, annotations.label, weight * odds, (n, k))
        evidence: LogProbs = wrong @ np.log(self.mistakes + np.eye(k)).T + right.toarray()
        return evidence


def fit_annotators(annotations: Annotations, likely: Probs) -> Annotators:
    """How well each annotator labels, where ``likely`` is P(true) (N, K) of each image."""
    image, annotator, label = annotations.image, annotations.annotator, annotations.label
    (n, k), j = likely.shape, len(annotations.names)
    once = np.ones(len(label))
    labels = np.bincount(annotator, minlength=j).astype(np.float64)
    right = np.bincount(annotator, likely[image, label], minlength=j)
    # Right by chance: the same labels in another order, on the same images. At most one half: who is right
    # more often is no spammer, even if all their images are of one class, where any order is right.
    shares = _count(annotator, label, once, (j, k)).toarray() / np.maximum(labels, 1)[:, None]
    classes = _count(annotator, image, once, (j, n)) @ likely / np.maximum(labels, 1)[:, None]
    chance = np.clip((shares * classes).sum(axis=1), 1 - MOST_ACCURATE, 0.5)
    # Accuracy by chance against an accuracy of Beta(2, 1), under which more right labels are likelier.
    by_chance = right * np.log(chance) + (labels - right) * np.log1p(-chance)
    by_skill = betaln(2 + right, 1 + labels - right) - betaln(2, 1)
    spam = expit(by_chance - by_skill + np.log(SPAM_PRIOR / (1 - SPAM_PRIOR)))
    honest = 1 - spam
    mean = (honest @ right + 1) / (honest @ labels + 2)
    hits = right + AVERAGE_LABELS * mean
    misses = labels - right + AVERAGE_LABELS * (1 - mean)
    low, high = (betaincinv(hits, misses, end) for end in (0.025, 0.975))
    # The mistakes of spammers, most of all wrong labels, would hide how the others err.
    counts = (_count(label, image, honest[annotator], (k, n)) @ likely).T + 1.0
    np.fill_diagonal(counts, 0.0)
    equal = _count(image, label, once, (n, k)).toarray()[image, label] - 1
    others = np.bincount(image, minlength=n)[image] - 1
    with np.errstate(invalid="ignore"):
        agreement = np.bincount(annotator, equal, minlength=j) / np.bincount(annotator, others, minlength=j)
    return Annotators(
        labels,
        np.clip(hits / (hits + misses), 1 - MOST_ACCURATE, MOST_ACCURATE),
        low,
        high,
        agreement,
        spam,
        counts / counts.sum(axis=1, keepdims=True),
    )


def learn_annotators(
    annotations: Annotations, pred_probs: Probs, trusted: Labels, strength: float = STRENGTH
) -> Annotators:
    """Annotators and true classes in turn, from the labels alone, by EM (Dawid & Skene 1979).

    Parameters
    ----------
    pred_probs : P(true | image), out of fold; uniform where nothing is known yet
    trusted : the true class of some images; UNKNOWN for the others
    """
    known = np.flatnonzero(trusted != UNKNOWN)
    certain = np.eye(pred_probs.shape[1])[trusted[known]]
    votes = _count(annotations.image, annotations.label, np.ones(len(annotations)), pred_probs.shape)
    likely = combine(pred_probs, votes.toarray())
    for _ in range(ROUNDS):
        likely[known] = certain
        found = fit_annotators(annotations, likely)
        likely = combine(pred_probs, found.log_evidence(annotations, len(pred_probs)), strength)
    return found


@dataclass(frozen=True)
class AnnotatedLabels:
    """A ``LabelEvidence``: any number of labels an image, of annotators who err each in their own way."""

    annotations: Annotations
    noisy: Labels
    """The most frequent label of each image; UNKNOWN without any."""
    fitted: Mask
    """False for the holdout, to whose labels nothing is fitted."""
    strength: float = STRENGTH
    """See ``LabelEvidence``."""

    def at(self, rows: Rows) -> Self:
        """As of any labels."""
        place = np.full(len(self.noisy), UNKNOWN)
        place[rows] = np.arange(len(rows))
        given = self.annotations.without(np.flatnonzero(place == UNKNOWN))
        given = replace(given, image=place[given.image])
        return replace(self, annotations=given, noisy=self.noisy[rows], fitted=self.fitted[rows])

    def evidence(self, pred_probs: Probs, trusted: Labels) -> LogProbs:
        """As of any labels."""
        seen = self.annotations.without(np.flatnonzero(~self.fitted))
        annotators = learn_annotators(seen, pred_probs, trusted, self.strength)
        return annotators.log_evidence(self.annotations, len(pred_probs))


def gain_of_label(likely: Probs, annotators: Annotators) -> PerImage:
    """By how much one more label, of an average annotator, raises P(the most probable class is right).

    Parameters
    ----------
    likely : P(true | image, labels) (N, K)
    """
    honest = (1 - annotators.spam) * annotators.labels
    accuracy = float(honest @ annotators.accuracy / max(honest.sum(), 1e-9))
    best = likely.argmax(axis=1)
    most = likely[np.arange(len(likely)), best]
    # A label of another class changes the answer if it is then the more probable one. That it makes a third
    # class most probable is left out.
    stays = most[:, None] * (1 - accuracy) * annotators.mistakes[best]
    gain = np.maximum(accuracy * likely - stays, 0.0)
    gain[np.arange(len(likely)), best] = 0.0
    total: PerImage = gain.sum(axis=1)
    return total


def _count(rows: Labels, columns: Labels, weights: PerImage, shape: tuple[int, int]) -> csr_array:
    """The sum of the weights at each [row, column]."""
    return coo_array((weights, (rows, columns)), shape=shape).tocsr()


def agreement(annotations: Annotations, labels: Labels) -> tuple[Labels, PerImage]:
    """(annotations of each image, share of them that is its label in ``labels``; NaN without any)."""
    counts = np.bincount(annotations.image, minlength=len(labels))
    equal = annotations.label == labels[annotations.image]
    with np.errstate(invalid="ignore"):
        return counts, np.bincount(annotations.image, equal, minlength=len(labels)) / counts
