"""The prior of a model: how frequent its classes were in training, and predictions where they are not.

If new images of a class look as those in training did, and only the classes are mixed otherwise, Bayes' rule
gives their probabilities: P(class | image) times its new share, divided by its share in training.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.data.labels import closest
from assay.data.tables import Table, read_table, shown, some
from assay.errors import LabelError, TableError, UsageError
from assay.text import cut, listed, percent
from assay.types import Prior, Probs

UNIFORM, ESTIMATE = "uniform", "estimate"
"""What ``--class-prior`` takes besides a file."""

TOLERANCE = 1e-3
"""How far from 1 the sum of shares may be that a person rounded."""

CONVERGED, MAX_ROUNDS = 1e-6, 10_000

TINY = float(np.finfo(np.float32).tiny)
"""Stands for a probability of 0, which a class that the others exclude needs."""


def chosen_prior(
    choice: str, trained: Prior | None, labels: Sequence[str], titles: Sequence[str] = ()
) -> tuple[float, ...] | str:
    """The prior that ``choice`` names, the value of ``--class-prior``; ``ESTIMATE`` stays what it is.

    Parameters
    ----------
    trained : the prior of the model; None of one that does not have it
    labels, titles : of the model
    """
    if trained is None:
        raise UsageError(
            "--class-prior: expected a model that keeps the class shares of its training, got one of an "
            "earlier version or of assay compare; train it with assay run"
        )
    if choice == ESTIMATE:
        return choice
    k = len(labels)
    return (1 / k,) * k if choice == UNIFORM else tuple(read_prior(Path(choice), labels, titles).tolist())


def prior_in_words(prior: Sequence[float], names: Sequence[str]) -> str:
    """The largest shares as a line for a person."""
    order = np.argsort(-np.array(prior), kind="stable").tolist()
    return "estimated class shares: " + listed([f"{cut(names[i])!r} {percent(prior[i])}" for i in order], 10)


def reweighted(probs: Probs, trained: Prior, new: Prior) -> Probs:
    """P(class) (N, K) where classes have the shares ``new``, from that where they have those of ``trained``.

    Parameters
    ----------
    trained : all > 0
    new : a class of share 0 gets the probability 0
    """
    joint = np.maximum(probs, TINY) * (new / trained)
    shares: Probs = (joint / joint.sum(axis=1, keepdims=True)).astype(probs.dtype)
    return shares


def estimate_prior(probs: Probs, trained: Prior) -> Prior:
    """The share of each class among new images without labels, by EM; ``trained`` of no images.

    Their likelihood is maximised with a Dirichlet prior of one image a class, mixed as in training: of few
    images, or of a class that none seems to be of, the shares stay near those of training, and above 0.

    Parameters
    ----------
    probs : P(class) (N, K) of the images by the model, which is calibrated for ``trained``

    Source : Saerens, Latinne & Decaestecker (2002), doi:10.1162/089976602753284446; calibrated with a bias
        for each class, as ours is, no other estimate was better: Alexandari et al. (2020), arXiv:1901.06852
    """
    n, k = probs.shape
    ratio = np.maximum(probs, TINY).astype(np.float64) / trained  # P(image | class), but for a factor a row
    prior: Prior = trained
    for _ in range(MAX_ROUNDS):
        counts = prior * (ratio.T @ (1 / (ratio @ prior)))
        prior, last = (counts + k * trained) / (n + k), prior
        if np.abs(prior - last).max() < CONVERGED:
            break
    return prior


def read_prior(file: Path, labels: Sequence[str], titles: Sequence[str] = ()) -> Prior:
    """The shares (K,) of a table with the columns ``class`` and ``share``, a row for each class of a model.

    Parameters
    ----------
    labels, titles : of the model; a class may be named by either

    Raises
    ------
    TableError : another table, a share that is no number from 0 to 1, or shares that do not sum to 1
    LabelError : a class that the model does not have, that comes twice, or that is missing
    """
    try:
        table = read_table(file, label_column="share")
    except TableError as error:
        takes = f"{UNIFORM}, {ESTIMATE}, or a table with the columns class and share"
        raise TableError(f"{error}; --class-prior takes {takes}") from error
    columns = [name.strip().casefold() for name in table.columns or ()]
    if sorted(columns) != ["class", "share"]:
        found = ", ".join(map(shown, table.columns or ())) or "none"
        raise TableError(f"{file.name}: expected the columns class and share, got {found}")
    places = {name: i for names in (titles, labels) for i, name in enumerate(names)}
    shares = np.full(len(labels), np.nan)
    for row, (name, text) in enumerate(
        zip(table.column(columns.index("class")), table.column(columns.index("share")), strict=True)
    ):
        where, place = table.where(row), places.get(name)
        if place is None:
            near = closest(name, places)
            hint = f"did you mean {shown(near)}?" if near else f"it knows {some(titles or labels, 10)}"
            raise LabelError(f"{where}: {shown(name)} is not a class of the model; {hint}")
        if not math.isnan(shares[place]):
            raise LabelError(f"{where}: expected one share for each class, got a second for {shown(name)}")
        shares[place] = _share(text, table, row)
    missing = [(titles or labels)[i] for i in np.flatnonzero(np.isnan(shares)).tolist()]
    if missing:
        raise LabelError(
            f"{file.name}: expected a share for each class of the model, got none for {some(missing, 5)}; "
            "a class that does not occur has the share 0"
        )
    total = float(shares.sum())
    if abs(total - 1) > TOLERANCE:
        raise TableError(
            f"{file.name}: expected shares that sum to 1, got {total:.6g}; divide counts or percentages by "
            "their sum"
        )
    return shares / total


def _share(text: str, table: Table, row: int) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:  # NaN is neither
        raise TableError(f"{table.where(row)}: expected a share from 0 to 1, got {shown(text)}")
    return share
