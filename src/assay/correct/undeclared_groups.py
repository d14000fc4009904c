"""Groups that nobody declared: a warning where names or near-duplicates suggest patients, films or scenes."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from assay.correct.near_duplicates import standardise, unit_rows
from assay.text import cut, percent
from assay.types import UNKNOWN, Groups, Labels, Matrix, PerImage, Rows

SHARE = 0.1
"""Of images in near-duplicates: the course data has 2 %, frames of films nearly all."""

FEWEST = 10
"""Groups that names must suggest: fewer are years, cameras or classes."""

MOST, OF_ONE = 2_000, 8
"""Images that are compared, and of one group: enough to tell, and a second of work."""

LARGE = 1 / 15
"""Share of a class that a group has at most on average: larger ones are often kinds of the class."""

_NUMBERED = re.compile(r"(.*?)[\W_]*\d+")

ADVICE = (
    "if they are of one patient, film or scene each, name that column with --group-col; without it, the "
    "figures are too good for new patients, films or scenes"
)


def undeclared_groups(
    names: Sequence[str], labels: Labels, features: Matrix, near_duplicates: Sequence[Rows]
) -> str | None:
    """The warning; None where nothing suggests groups.

    Names suggest groups where they begin alike, as ``patient07_003.png`` and ``patient07_004.png``, or where
    folders below the classes hold several images. They are reported only if the pictures agree: if the most
    similar image of the class is of an image's own group far more often than by chance.

    Parameters
    ----------
    labels : corrected ones, or UNKNOWN where the image was skipped
    near_duplicates : images that show one picture
    """
    usable = np.flatnonzero(labels != UNKNOWN)
    for key_of in (_before_the_number, _folder):
        keys = [key_of(names[row]) for row in usable.tolist()]
        _, groups = np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)
        same, chance = nearest_of_same_group(groups, labels[usable], features, usable)
        if same > 2 * chance + 0.1:
            example = names[usable[np.bincount(groups).argmax() == groups][0]]
            return (
                f"names such as {cut(example)!r} suggest groups whose images look alike: for "
                f"{percent(same)} of the images, the most similar one of the class is of the same group "
                f"({percent(chance)} by chance); {ADVICE}"
            )
    n_alike = sum(map(len, near_duplicates))
    if n_alike > SHARE * len(names):
        return f"{percent(n_alike / len(names))} of the images are near-duplicates of other images; {ADVICE}"
    return None


def nearest_of_same_group(
    groups: Groups, labels: Labels, features: Float[np.ndarray, "M D"], rows: Rows
) -> tuple[float, float]:
    """Share of images whose most similar one with their label is of their group, and the same by chance.

    Zeros where there are too few groups of several images, or where a group is a large part of a class.

    Parameters
    ----------
    groups, labels : of the images at ``rows`` of ``features``
    """
    size = np.bincount(groups, minlength=1)
    worth = np.flatnonzero(size > 1)
    together = _of_same_group(groups, labels)
    if len(worth) < FEWEST or size[worth].sum() < len(groups) / 2 or together.mean() > LARGE:
        return 0.0, 0.0
    # Some images each of some groups, at random.
    generator = np.random.default_rng(0)
    shuffled = generator.permutation(len(groups))
    drawn = generator.permutation(worth)[: MOST // OF_ONE]
    picked = np.concatenate([shuffled[groups[shuffled] == group][:OF_ONE] for group in drawn])
    group, label = groups[picked], labels[picked]
    unit = unit_rows(standardise([features[rows[picked]].astype(np.float32)]))
    cosine = np.where(label[:, None] == label, unit @ unit.T, -np.inf)
    np.fill_diagonal(cosine, -np.inf)
    nearest = group[cosine.argmax(axis=1)] == group
    return float(nearest[cosine.max(axis=1) > -np.inf].mean()), float(_of_same_group(group, label).mean())


def _of_same_group(groups: Groups, labels: Labels) -> PerImage:
    """Of the other images with an image's label, the share in its group."""
    _, cell, of_cell = np.unique(np.stack([groups, labels]), axis=1, return_inverse=True, return_counts=True)
    of_label = np.bincount(labels)[labels]
    share: PerImage = (of_cell[cell] - 1) / np.maximum(of_label - 1, 1)
    return share


def _before_the_number(name: str) -> str:
    """``a/patient07_003.png`` as ``a/patient07``; the whole name where it does not end in a number."""
    folder, _, file = name.rpartition("/")
    stem = file.rpartition(".")[0] or file
    found = _NUMBERED.fullmatch(stem)
    return f"{folder}/{found[1] if found else file}"


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
