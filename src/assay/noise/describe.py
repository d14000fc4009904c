"""The noise in a few plain sentences."""

from collections.abc import Iterable

import numpy as np

from assay.noise.noise import Noise
from assay.noise.notes import THIN_CLASS
from assay.noise.structure import is_pair_flip, renamed, swaps
from assay.text import listed, percent


def describe(noise: Noise) -> str:
    """What a person should take away: how many labels are wrong, and in what way."""
    return " ".join([_headline(noise), *_renamed(noise), *_uneven(noise)])


def _headline(noise: Noise) -> str:
    rate = noise.rate
    if rate.estimate == 0:
        pairs = "1 pair disagrees" if noise.n_pairs == 1 else f"{noise.n_pairs} pairs disagree"
        return f"0 of {pairs}: the labels look right, at most {percent(rate.high)} are wrong."
    shares = f"{percent(rate.estimate)} of the labels are wrong ({percent(rate.low)} to {percent(rate.high)})"
    return f"{shares}{alike(noise.form, len(noise.classes))}."


def alike(form: str, n_classes: int) -> str:
    """The end of a sentence on wrong labels: whether classes differ. That no test says so is no proof."""
    if form == "full":
        return ", not in the same way for all classes"
    return ", with no sign that classes differ" if n_classes > 2 else ""


def _renamed(noise: Noise) -> Iterable[str]:
    name, pairs = noise.classes, swaps(noise.counts)
    swapped = {i for pair in pairs for i in pair}
    alone = {a: b for a, b in renamed(noise.counts).items() if a not in swapped}
    if pairs:
        words = listed(
            [f"{name[a]!r} {_always(noise, a, b)} called {name[b]!r} and the reverse" for a, b in pairs]
        )
        yield f"Swapped: {words}."
    if alone:
        words = listed([f"{name[a]!r} {_always(noise, a, b)} called {name[b]!r}" for a, b in alone.items()])
        yield f"Renamed: {words}."


def _uneven(noise: Noise) -> Iterable[str]:
    if noise.form == "symmetric":
        return
    limit = noise.structure.limit
    if noise.structure.same_rate.p_value < limit:
        yield _rates(noise)
    if noise.structure.same_spread.p_value < limit and not renamed(noise.counts):
        yield _mistakes(noise)


def _always(noise: Noise, true: int, noisy: int) -> str:
    row = noise.counts[true]
    return "is always" if row[noisy] == row.sum() else "is mostly"


def _rates(noise: Noise) -> str:
    per_class = noise.counts.sum(axis=1)
    seen = np.flatnonzero(per_class >= THIN_CLASS)
    if len(seen) < 2:
        return "The share differs by class."
    # As the transition has them: the greatest of many raw shares is that of a class with few pairs.
    shares = 1 - np.diag(noise.transition)[seen]
    least, most = int(shares.argmin()), int(shares.argmax())
    if least == most:
        return "The share differs by class."
    ends = [f"{percent(float(shares[i]))} ({noise.classes[seen[i]]!r})" for i in (least, most)]
    return f"The share differs by class, from {ends[0]} to {ends[1]}."


def _mistakes(noise: Noise) -> str:
    # By count: the largest share may be that of a class with two images.
    others = noise.counts - np.diag(np.diag(noise.counts))
    true, noisy = divmod(int(others.argmax()), len(others))
    share = percent(float(others[true, noisy] / noise.counts[true].sum()))
    example = f"{noise.classes[true]!r} called {noise.classes[noisy]!r} ({share} of them)"
    if is_pair_flip(noise.counts):
        return f"The wrong labels of a class go mostly to one other class, first of all {example}."
    return f"The wrong labels are not spread evenly; the most common mistake is {example}."
