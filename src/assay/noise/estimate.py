"""The noise estimate: how wrong the noisy labels are, with the evidence, warnings and a description."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assay.errors import LabelError
from assay.noise.intervals import Interval, design_effect, predicted_share, share_bounds, share_interval
from assay.noise.transition import (
    Shrinkage,
    Symmetry,
    count_pairs,
    fit_transition,
    mixed_transition,
    off_diagonal,
    renamed,
    shrunk_prior,
)
from assay.text import cut, listed, percent
from assay.types import UNKNOWN, Counts, Groups, Labels, Mask, Prior, Probs, Transition

BUY = (
    "50 trusted labels of images picked at random would give an interval of about 15 points, and 200 one of "
    "about 7."
)
FEW_PAIRS = 100  # below this the rate is known to ten points or worse
EM_ROUNDS = 50
NO_LEVEL = 0.0
"""Of a bracket, whose ends no probability is claimed for."""
THIN_CLASS = 5  # a class with fewer trusted images gets a warning, and is not named as best or worst


@dataclass(frozen=True, repr=False)
class Noise:
    """How wrong the noisy labels are, with the evidence for it."""

    classes: tuple[str, ...]
    """The K class names; ``class 0``, ``class 1``… if none were given."""
    counts: Counts
    """Images with both labels at [true, noisy]: all that the rest is computed from."""
    rate: Interval
    """P(noisy != true): the share among the pairs, and its interval."""
    transition: Transition
    """P(noisy | true) at [true, noisy], the one to use; all cells > 0, rows sum to 1."""
    low: Transition
    """Lower end of the credible interval of each cell of ``transition``."""
    high: Transition
    """Upper end. Each interval rests on the pairs of its own class alone, in the symmetric form too: a class
    without pairs has 0 to 1."""
    prior: Prior
    """P(true) of each class, if the trusted images were picked at random; all > 0, sums to 1."""
    form: str
    """``symmetric`` (one noise rate, wrong labels even over the other classes) or ``full``."""
    structure: Symmetry
    """The test that chose the form."""
    shrinkage: Shrinkage
    """The pseudo-counts of the full form, also when the symmetric one was chosen."""
    notes: tuple[str, ...] = ()
    """Warnings in plain words."""
    groups: int | None = None
    """Groups that the pairs are of: intervals and tests are by groups. None if none were declared."""
    predicted: int = 0
    """Noisy labels compared with predictions, which narrow ``rate``; 0: it is of the pairs alone."""

    @property
    def n_pairs(self) -> int:
        """Images with both labels."""
        return int(self.counts.sum())

    @property
    def level(self) -> float:
        """The level of all the intervals."""
        return self.rate.level

    @property
    def wrong_share_by_class(self) -> tuple[Interval, ...]:
        """P(noisy != true | true) of each class."""
        ends = [(1 - np.diag(matrix)).tolist() for matrix in (self.transition, self.high, self.low)]
        return tuple(Interval(share, low, high, self.level) for share, low, high in zip(*ends, strict=True))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain dicts, lists and numbers; matrices as lists of rows at [true][noisy]."""
        arrays = ("counts", "transition", "low", "high", "prior")
        return {
            "classes": list(self.classes),
            "n_pairs": self.n_pairs,
            "predicted": self.predicted,
            "rate": self.rate.to_json(),
            "form": self.form,
            "symmetry": self.structure.to_json(),
            "shrinkage": asdict(self.shrinkage),
            **{name: getattr(self, name).tolist() for name in arrays},
            "wrong_share_by_class": [share.to_json() for share in self.wrong_share_by_class],
            "notes": list(self.notes),
            **({} if self.groups is None else {"groups": self.groups}),
        }

    def __repr__(self) -> str:
        return f"Noise({self.n_pairs:,} pairs: {describe(self)})"


def estimate_noise(
    noisy: Labels,
    trusted: Labels,
    n_classes: int,
    *,
    classes: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    groups: Groups | None = None,
    pred_probs: Probs | None = None,
) -> Noise:
    """How wrong are the noisy labels? Estimated from the images that have both labels, and from predictions.

    Parameters
    ----------
    noisy, trusted : UNKNOWN or masked where there is none; leave out the trusted labels of the holdout
    n_classes : at least 2
    classes : K names for the words of the result; numbers if empty
    level : of all intervals, in (0, 1)
    seed : for the tables that the symmetry test draws where counts are thin
    groups : of each image, for intervals and a test by groups; None if none were declared
    pred_probs : P(true | image) (N, K) by classifiers that saw no label of the image. They narrow the
        interval of the rate; without any pair they give a bracket for it, and the transition

    Raises
    ------
    LabelError : no image has both labels, and there are no predictions; a label out of range; fewer than two
        classes
    ValueError : arrays or names of different length; a level out of range
    """
    if n_classes < 2:
        raise LabelError(
            f"expected at least 2 classes, got {n_classes}: with one class no label can be wrong"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    names = tuple(classes) or tuple(f"class {i}" for i in range(n_classes))
    if len(names) != n_classes:
        raise ValueError(f"expected {n_classes} class names, got {len(names)}")
    counts = count_pairs(noisy, trusted, n_classes)
    if not counts.any() and pred_probs is None:
        raise LabelError(
            f"expected images with both a noisy and a trusted label, got none among {len(noisy)}: "
            "check 200 to 500 images picked at random and give their labels as trusted"
        )
    both = (noisy != UNKNOWN) & (trusted != UNKNOWN)
    effect = _wrong_effect(noisy, trusted, both, groups, level)
    rate = share_interval(int(counts.sum() - np.trace(counts)), int(counts.sum()), level, effect)
    transition, symmetry, shrinkage = fit_transition(counts, seed, effect)
    class_counts = counts.sum(axis=1)
    if pred_probs is not None:
        labelled = noisy != UNKNOWN
        disagree = pred_probs.argmax(axis=1) != noisy
        share = float(disagree[labelled].mean())
        if both.any():
            rate = predicted_share(
                (noisy != trusted)[both], disagree[both], share, int(labelled.sum()), level, effect
            )
        else:
            transition = mixed_transition(noisy, trusted, pred_probs)
            rate = _bracket(noisy[labelled], pred_probs[labelled], transition, share)
            class_counts = np.bincount(pred_probs[labelled].argmax(axis=1), minlength=n_classes)
    # From the counts of the class alone: an interval around a shrunk or shared rate is too narrow for the one
    # class that is unlike the others, and few pairs without a difference do not show that there is none.
    of_class = [_wrong_effect(noisy, trusted, both & (trusted == i), groups, level) for i in range(n_classes)]
    effects = np.array(of_class)[:, None]
    low, high = share_bounds(counts, counts.sum(axis=1, keepdims=True), level, effects)
    return Noise(
        classes=names,
        counts=counts,
        rate=rate,
        transition=transition,
        low=np.minimum(low, transition),
        high=np.maximum(high, transition),
        prior=shrunk_prior(class_counts),
        form="full" if symmetry.rejected or not both.any() else "symmetric",
        structure=symmetry,
        shrinkage=shrinkage,
        notes=tuple(_notes(counts, rate, names)),
        groups=None if groups is None else len(np.unique(groups[both])),
        predicted=0 if pred_probs is None else int(labelled.sum()),
    )


def _bracket(noisy: Labels, pred_probs: Probs, transition: Transition, disagreement: float) -> Interval:
    """A rate that nothing but predictions supports: from what EM finds to how often they disagree.

    EM calls too many labels right where people err on hard images, and predictions err themselves. Over
    10,000 people's and drawn labels the truth was never more than 0.012 outside: benchmarks/labels.py.
    """
    for _ in range(EM_ROUNDS):
        likely = pred_probs * transition[:, noisy].T
        likely /= likely.sum(axis=1, keepdims=True)
        counts = np.stack([likely[noisy == label].sum(axis=0) for label in range(len(transition))], axis=1)
        transition = (counts + 1 / len(transition)) / (counts.sum(axis=1, keepdims=True) + 1)
    low, high = sorted([1 - float(likely[np.arange(len(noisy)), noisy].mean()), disagreement])
    return Interval((low + high) / 2, low, high, NO_LEVEL)


def _wrong_effect(noisy: Labels, trusted: Labels, rows: Mask, groups: Groups | None, level: float) -> float:
    """The design effect of the share of wrong labels among these rows."""
    if groups is None or not rows.any():
        return 1.0
    return design_effect((noisy != trusted)[rows].astype(float), groups[rows], level)


def _notes(counts: Counts, rate: Interval, classes: tuple[str, ...]) -> Iterator[str]:
    """What a reader of the estimate should know first; nothing if all is well."""
    n_pairs, per_class = int(counts.sum()), counts.sum(axis=1)
    if not n_pairs:
        yield (
            "No trusted label shows how wrong the labels are: the range comes from predictions, and nothing "
            f"else is measured. {BUY}"
        )
        return

    def named(chosen: np.ndarray) -> str:
        return listed([repr(classes[i]) for i in np.flatnonzero(chosen)])

    if n_pairs < FEW_PAIRS:
        images = "1 image carries" if n_pairs == 1 else f"{n_pairs} images carry"
        yield (
            f"Only {images} both labels: all figures are rough. 200 to 500 trusted labels would settle them."
        )
    # In unbalanced data most labels agree by chance; of one class alone, chance is what was found.
    chance = 1 - float((counts.sum(axis=0) / n_pairs) @ (per_class / n_pairs))
    if np.count_nonzero(per_class) > 1 and rate.low > 0 and rate.high >= chance:
        often = "less often than" if rate.low > chance else "no more often than"
        yield (
            f"Noisy and trusted labels agree {often} by chance "
            f"({percent(1 - rate.estimate)}; chance: {percent(1 - chance)}): "
            "check that both files list the images in the same order and use the same class names."
        )
    absent, thin = per_class == 0, (per_class > 0) & (per_class < THIN_CLASS)
    if absent.any():
        yield (
            f"No trusted image of {named(absent)}: assumed to be like the average class. "
            "Add trusted images of it."
        )
    if thin.any():
        yield f"Fewer than {THIN_CLASS} trusted images of {named(thin)}: estimated with the other classes."


def describe(noise: Noise) -> str:
    """A few plain sentences: how many labels are wrong, in what way, and what was counted."""
    rate, name, others = noise.rate, noise.classes, renamed(noise.counts)
    pairs = [(a, b) for a, b in sorted(others.items()) if a < b and others.get(b) == a]
    if not noise.n_pairs:
        said = [f"Predictions call {percent(rate.low)} to {percent(rate.high)} of the labels wrong."]
    elif noise.counts.sum() == np.trace(noise.counts):
        counted = "1 pair disagrees" if noise.n_pairs == 1 else f"{noise.n_pairs} pairs disagree"
        said = [f"0 of {counted}: the labels look right, at most {percent(rate.high)} are wrong."]
    else:
        said = [
            f"{percent(rate.estimate)} of the labels are wrong ({percent(rate.low)} to {percent(rate.high)})"
            f"{_how_classes_differ(noise)}."
        ]

    def called(true: int, noisy: int) -> str:
        row = noise.counts[true]
        return f"{name[true]!r} is {'always' if row[noisy] == row.sum() else 'mostly'} called {name[noisy]!r}"

    swapped = {i for pair in pairs for i in pair}
    alone = [called(a, b) for a, b in others.items() if a not in swapped]
    if pairs:
        said.append(f"Swapped: {listed([f'{called(a, b)} and the reverse' for a, b in pairs])}.")
    if alone:
        said.append(f"Renamed: {listed(alone)}.")
    test = noise.structure
    if noise.form == "full" and test.same_rate.p_value < test.limit:
        said.append(_different_rates(noise))
    if noise.form == "full" and test.same_spread.p_value < test.limit and not others:
        said.append(_uneven_spread(noise))
    if wrong := noise.n_pairs - int(np.trace(noise.counts)):
        more = f"; the rate also uses predictions for {noise.predicted:,} labels" if noise.predicted else ""
        said.append(f"Counted: {wrong:,} of {noise.n_pairs:,} checked labels{more}.")
    return " ".join(said)


def _how_classes_differ(noise: Noise) -> str:
    # The end of a sentence on wrong labels; a test without a finding is no proof.
    if noise.form == "symmetric":
        return ", with no sign that classes differ" if len(noise.classes) > 2 else ""
    if noise.structure.same_rate.p_value < noise.structure.limit:
        return ", more in some classes than in others"
    return ", with no sign that some classes have more of them"


def _different_rates(noise: Noise) -> str:
    wrong, of = noise.counts.sum(axis=1) - np.diag(noise.counts), noise.counts.sum(axis=1)
    seen = np.flatnonzero(of >= THIN_CLASS)
    # Chosen by the transition: the greatest of many raw shares is that of a class with few pairs. Shown as
    # counted: shares that lean on the other classes seem to contradict a difference.
    shares = 1 - np.diag(noise.transition)[seen]
    if len(seen) < 2 or shares.argmin() == shares.argmax():
        return "The share differs by class."
    ends = [
        f"{wrong[i]:,} of {of[i]:,} ({cut(noise.classes[i])!r})"
        for i in seen[[shares.argmin(), shares.argmax()]]
    ]
    return f"The share differs by class, from {ends[0]} to {ends[1]}."


def _uneven_spread(noise: Noise) -> str:
    # By count: the largest share may be that of a class with two images.
    others = noise.counts - np.diag(np.diag(noise.counts))
    true, noisy = divmod(int(others.argmax()), len(others))
    share = percent(float(others[true, noisy] / noise.counts[true].sum()))
    example = f"{cut(noise.classes[true])!r} called {cut(noise.classes[noisy])!r} ({share} of them)"
    wrong = off_diagonal(noise.counts)
    wrong = wrong[wrong.sum(axis=1) >= 5]  # a single wrong label is always in one place
    if wrong.size and wrong.max(axis=1).sum() >= 0.8 * wrong.sum():
        return f"The wrong labels of a class go mostly to one other class, first of all {example}."
    return f"The wrong labels are not spread evenly; the most common mistake is {example}."
