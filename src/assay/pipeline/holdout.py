"""The holdout: its labels are masked, its near-duplicates among the training images are found."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from assay.correct.near_duplicates import find_near_duplicates, local_density, standardise, unit_rows
from assay.data.dataset import Dataset, and_skipped
from assay.data.loader import load
from assay.data.resize import TargetSize
from assay.data.split import Split, folds
from assay.data.tables import shown
from assay.embed.images import Features
from assay.errors import LabelError, UsageError
from assay.pipeline.finetune_split import Group, draw_measured
from assay.pipeline.learn import TrainingLabels
from assay.pipeline.options import RunOptions
from assay.types import UNKNOWN, Backbone, Groups, Labels, Mask, Rows

AT_ONCE = 512
"""Images that are held in memory at their size."""

Mirrored = tuple[Rows, Float[np.ndarray, "M D"]]
"""Some images, ascending, and the features of their mirrors."""


@dataclass(frozen=True)
class Partition:
    """A dataset with its holdout set apart."""

    data: TrainingLabels
    """For training; its holdout has no label and no fold."""
    holdout: Rows
    """Usable held-out rows, ascending; nothing is trained on them."""
    leaked: Rows
    """Those that are duplicates or near-duplicates of training images: their figures would measure memory, so
    the evaluation excludes and reports them."""
    near_duplicates: list[Group]
    """Images that show one picture, in groups of two or more."""

    @property
    def evaluated(self) -> Rows:
        """Held-out rows that the figures are computed from: all but the leaked ones."""
        return np.setdiff1d(self.holdout, self.leaked)


def check_learnable(dataset: Dataset, split: Split) -> None:
    """Refuse labels that nothing can be learned from, before any image is read."""
    dataset.check_noisy()
    fit, trusted = split.fit, np.flatnonzero(dataset.trusted != UNKNOWN).tolist()
    if not trusted:  # the noisy labels alone will do
        return
    if not len(fit):
        unusable = [dataset.skipped[row].reason for row in trusted if row in dataset.skipped]
        raise LabelError(
            f"expected trusted labels of images that can be used, got none among {len(trusted):,}"
            f"{and_skipped(unusable)}"
        )
    if (dataset.noisy[fit] == UNKNOWN).all():
        raise LabelError(
            f"expected images with both a noisy and a trusted label, got none among the {len(fit):,} trusted "
            "ones outside the holdout: check 200 to 500 of the images with noisy labels, picked at "
            "random, and give their labels as trusted"
        )


def check_groups(dataset: Dataset, split: Split, n_folds: int) -> None:
    """Refuse groups that cannot be split so that each class is on both sides, before any image is read."""
    if dataset.groups is None:
        return
    known = np.flatnonzero(dataset.usable & (dataset.trusted != UNKNOWN))
    for label, name in enumerate(dataset.classes):
        rows = known[dataset.trusted[known] == label]
        if len(rows) > 1 and len(np.unique(dataset.groups[rows])) == 1:
            raise LabelError(
                f"all {len(rows):,} trusted images of {shown(name)} are of one group, that of "
                f"{shown(dataset.names[rows[0]])}, so the class cannot be trained on and measured; check "
                "--group-col, add trusted images of the class from other groups, or leave its labels out"
            )
    trained = np.setdiff1d(np.flatnonzero(dataset.usable), split.hidden)
    n_groups = len(np.unique(dataset.groups[trained]))
    if n_groups < n_folds:
        raise UsageError(
            f"expected at least {n_folds} groups besides the holdout's, one for each fold, got {n_groups}; "
            "use fewer --folds or a smaller --holdout, or add images of other groups"
        )


def mask_holdout(
    dataset: Dataset, split: Split, features: Features, options: RunOptions, backbone: Backbone | None = None
) -> Partition:
    """Mask the holdout of ``split`` and give all other usable images a fold, which groups and near-duplicates
    share.

    Parameters
    ----------
    backbone : embeds the mirrors of the evaluation images where ``features`` have one view, so that
        mirrored copies of them are found

    Raises
    ------
    LabelError : equal images with different trusted labels
    UsageError : fewer usable images than folds
    """
    usable = dataset.usable
    # Files that are not images, such as empty ones, may be equal and yet of different classes.
    contents = zip(features.contents, usable.tolist(), strict=True)
    dataset.check_equal_images([content if is_image else None for content, is_image in contents])
    holdout = split.holdout[usable[split.holdout]]
    fit_rows = np.setdiff1d(np.flatnonzero(usable & ~dataset.no_class), split.hidden)
    if len(fit_rows) < options.folds:
        raise UsageError(
            f"expected at least {options.folds} usable images to train on, got {len(fit_rows)}"
            f"{and_skipped(why.reason for why in dataset.skipped.values())}"
        )
    visible = dataset.without(np.setdiff1d(np.arange(len(dataset)), fit_rows))
    mirrored = None
    if backbone is not None and len(features.views) == 1:
        # Validation and calibration images, as fine-tuning will draw them, measure as the holdout does.
        known = np.flatnonzero(visible.trusted != UNKNOWN)
        measured = draw_measured(visible.trusted, known, options.seed, dataset.groups)
        rows = np.sort(np.concatenate([holdout, *measured]))
        mirrored = _embed_mirrored(dataset, backbone, rows, options.workers)
    near_duplicates = _near_duplicates(features, usable, options.seed, mirrored)
    fold_of = np.full(len(dataset), UNKNOWN)
    groups = dataset.groups
    of_rows = None if groups is None else groups[fit_rows]
    fold_of[fit_rows] = folds(visible.trusted[fit_rows], options.folds, options.seed, of_rows)
    trained_on = fold_of != UNKNOWN
    if options.preset == "fast":  # a head is not trained on images without any label, a network is
        trained_on &= (dataset.noisy != UNKNOWN) | (dataset.known != UNKNOWN)
    # Decisions on other images of a held-out group are not trained on, as these have no fold, but shown.
    decided = dataset.without(np.setdiff1d(np.arange(len(dataset)), np.union1d(fit_rows, split.beside)))
    copies = [group for group in near_duplicates if trained_on[group].any()]
    return Partition(
        data=TrainingLabels(
            features,
            visible.noisy,
            visible.trusted,
            usable,
            _share_folds(fold_of, near_duplicates if groups is None else _joined(groups, near_duplicates)),
            dataset.titles or dataset.classes,
            options.seed,
            options.threshold,
            options.workers,
            known=decided.known if dataset.decided else None,
            all_noisy=dataset.noisy,
            annotations=dataset.annotations,
            groups=groups,
            no_class=dataset.no_class if dataset.no_class.any() else None,
            balanced=options.balanced,
        ),
        holdout=holdout,
        leaked=np.intersect1d(holdout, np.concatenate([*copies, holdout[:0]])),
        near_duplicates=near_duplicates,
    )


def _embed_mirrored(dataset: Dataset, backbone: Backbone, rows: Rows, workers: int) -> Mirrored:
    """Those of ``rows`` that can be read."""
    used, features = [rows[:0]], [np.zeros((0, backbone.width), dtype=np.float32)]
    target = TargetSize(backbone.size, backbone.interpolation)
    for batch in load(dataset, [target], rows, batch_size=AT_ONCE, workers=workers):
        used.append(batch.decoded)
        features.append(backbone.embed(batch.images[0][:, :, ::-1]))
    return np.concatenate(used), np.concatenate(features)


def _near_duplicates(features: Features, usable: Mask, seed: int, mirrored: Mirrored | None) -> list[Group]:
    rows = np.flatnonzero(usable)
    if len(rows) < 2:
        return []
    contents: list[bytes | None] = [features.contents[row] for row in rows.tolist()]
    views = features.views if len(rows) == len(usable) else [view[rows] for view in features.views]
    if mirrored is None:
        around = local_density(standardise(views), seed)
        found = find_near_duplicates(around.directions, contents, around.spacing, around.dimension)
        return [rows[list(group.rows)] for group in found]
    # A mirrored image counts as an image of its own, with the local density of the original.
    originals, standard = mirrored[0], standardise(views, mirrored[1])
    around = local_density(standard[: len(rows)], seed)
    directions = np.concatenate([around.directions, unit_rows(standard[len(rows) :])])
    spacing = np.concatenate([around.spacing, around.spacing[np.searchsorted(rows, originals)]])
    pictured = np.concatenate([rows, originals])
    contents += [None] * len(originals)
    found = find_near_duplicates(directions, contents, spacing, around.dimension)
    # Groups that share an image, by itself and by its mirror, become one.
    together: dict[int, frozenset[int]] = {}
    for group in found:
        images = pictured[list(group.rows)].tolist()
        whole = frozenset(images).union(*(together.get(row, frozenset()) for row in images))
        together |= dict.fromkeys(whole, whole)
    several = [tuple(sorted(whole)) for whole in {*together.values()} if len(whole) > 1]
    return [np.array(group) for group in sorted(several, key=lambda group: (-len(group), group))]


def _joined(groups: Groups, near_duplicates: list[Group]) -> list[Group]:
    """Declared groups that near-duplicates connect, as one group each: they move to another fold together."""
    _, number = np.unique(groups, return_inverse=True)
    pairs = [(number[rows[0]], other) for rows in near_duplicates for other in number[rows[1:]].tolist()]
    one, other = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    size = int(number.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(size, size))
    whole = connected_components(graph, directed=False)[1]
    touched = np.unique(whole[one])
    order = np.argsort(whole[number], kind="stable")
    ends = np.searchsorted(whole[number][order], [touched, touched + 1])
    return [np.sort(order[low:high]) for low, high in ends.T.tolist()]


def _share_folds(fold_of: Labels, near_duplicates: list[Group]) -> Labels:
    """The folds with near-duplicates in one of them; a group whose move would empty a fold stays apart."""
    moved = fold_of.copy()
    left = np.bincount(moved[moved != UNKNOWN])
    for group in near_duplicates:
        fitted = group[moved[group] != UNKNOWN]
        change = np.bincount(moved[fitted[:1]].repeat(len(fitted)), minlength=len(left))
        change -= np.bincount(moved[fitted], minlength=len(left))
        if (left + change > 0).all():
            moved[fitted], left = moved[fitted[:1]], left + change
    return moved
