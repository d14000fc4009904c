"""Warnings about what the trusted pairs cannot tell, or tell loudly."""

from collections.abc import Iterable

import numpy as np

from assay.noise.intervals import Interval
from assay.text import listed, percent
from assay.types import Counts

FEW_PAIRS = 100
"""Below this the rate is known to ten points or worse."""

THIN_CLASS = 5


def notes_on(counts: Counts, rate: Interval, classes: tuple[str, ...]) -> tuple[str, ...]:
    """What a reader of the estimate should know first; empty if nothing is wrong."""
    notes = (_few_pairs(counts), _no_better_than_chance(counts, rate), *_thin_classes(counts, classes))
    return tuple(note for note in notes if note)


def _few_pairs(counts: Counts) -> str:
    n_pairs = int(counts.sum())
    if n_pairs >= FEW_PAIRS:
        return ""
    images = "1 image carries" if n_pairs == 1 else f"{n_pairs} images carry"
    return f"Only {images} both labels: all figures are rough. 200 to 500 trusted labels would settle them."


def _no_better_than_chance(counts: Counts, rate: Interval) -> str:
    """By the shares that both files give each class: in lopsided data chance makes most labels agree."""
    n_pairs = counts.sum()
    if np.count_nonzero(counts.sum(axis=1)) < 2:
        return ""  # of one class alone, chance is what was found
    chance = 1 - float((counts.sum(axis=0) / n_pairs) @ (counts.sum(axis=1) / n_pairs))
    if rate.low > chance:
        agree = "less often than chance would make them"
    elif rate.high >= chance and rate.low > 0:
        agree = "no more often than chance may make them"
    else:
        return ""
    return (
        f"Given and trusted labels agree {agree} "
        f"({percent(1 - rate.estimate)}; chance: {percent(1 - chance)}): "
        "check that both files list the images in the same order and use the same class names."
    )


def _thin_classes(counts: Counts, classes: tuple[str, ...]) -> Iterable[str]:
    per_class = counts.sum(axis=1)
    absent, thin = per_class == 0, (per_class > 0) & (per_class < THIN_CLASS)
    if absent.any():
        yield (
            f"No trusted image of {_named(absent, classes)}: "
            "taken to be like the average class. Add trusted images of it."
        )
    if thin.any():
        yield f"Fewer than {THIN_CLASS} trusted images of {_named(thin, classes)}: leans on other classes."


def _named(chosen: np.ndarray, classes: tuple[str, ...]) -> str:
    return listed([repr(classes[i]) for i in np.flatnonzero(chosen)])
