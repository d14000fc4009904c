"""Fine-tuning on labels that are wrong: learn, ask the average, correct the targets, learn on.

::

    head on frozen features of the student's own network          (a start from which nothing is torn down)
    for each epoch, at rising size:
        learn_epoch     strong views, soft targets                                      (loop)
        score           weak views, by the average                                     (scoring)
        judge           weigh what it says on images kept aside, posterior             (the caller's)
        the posterior is the next epoch's target

A label must not confirm itself: the student has seen the given label of every image it scores. Some trusted
images are therefore treated exactly as noisy ones are, their trusted label unseen: spies among them, as in
learning from positive and unlabelled images (Liu et al. 2002). What the
student says of them, after it learned from their given labels, is what it says of any image; how much it and
the given label count is fitted there, and so allows for all that was memorised. How right the student is of
new images is told by other images, of which it saw neither label (watched).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from assay.embed.backbone import TimmBackbone
from assay.embed.device import one_thread_each
from assay.predict.layers import Layers
from assay.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from assay.train.heads import make_head
from assay.train.loop import Learner, Material, Tuning, learn_epoch
from assay.train.pixels import to_pixels
from assay.train.scoring import features_of, score
from assay.train.student import Student, put
from assay.types import UNKNOWN, Batch, Labels, Probs, Progress, silent

METHOD = "10"
"""A part of a checkpoint's identity: another one wherever it would be learned on otherwise than it began."""

PROBED = 12_000
"""Images of which the first head is made; more did not help."""

SURE = 0.8
"""Targets below it make no first head."""

SETTLED = 0.98
"""A target as sure is the last one of its image: it is not corrected while there is more to learn."""


@dataclass(frozen=True)
class Phase:
    """Some epochs at one image size."""

    size: int
    """Side in pixels."""
    epochs: int


@dataclass(frozen=True)
class TuningData:
    """The images and labels that fine-tuning learns from; none of the holdout's labels is among them."""

    squares: Batch
    """(N, s, s, 3)."""
    rows: Int[np.ndarray, "R"]
    """Images that may be learned from, ascending."""
    taught: Labels
    """(N,) trusted labels that are learned from, else UNKNOWN: those of the spies are."""
    targets: Probs
    """(N, K) the first posterior."""
    calibration_rows: Int[np.ndarray, "A"]
    """Among the rows: those that the caller judges answers by; asked about however sure their targets are."""
    validation: Int[np.ndarray, "W"]
    """Images that are not learned from, and asked about after each epoch."""


@dataclass(frozen=True)
class EpochPredictions:
    """What the average of the student says after an epoch."""

    epoch: int
    """From 0."""
    size: int
    validation: Float[np.ndarray, "W K"]
    """P(class) (W, K) of the images that are not learned from."""
    rows: Int[np.ndarray, "R"]
    """The images that are not settled, and the spies, ascending; none after the last epoch, when nothing more
    is learned."""
    probs: Float[np.ndarray, "R K"]
    """P(class) of them."""


Relabel = Callable[[EpochPredictions], Float[np.ndarray, "R K"]]
"""The posterior (R, K) of the rows that were asked about: the next epoch's targets of those not settled."""


@dataclass(frozen=True)
class Tuned:
    """The fine-tuned network and head, as they stand after the last epoch."""

    backbone: TimmBackbone
    """Of the last phase's size."""
    head: Layers
    """Not calibrated."""


def fine_tune(
    data: TuningData,
    phases: Sequence[Phase],
    backbones: Mapping[int, TimmBackbone],
    judge: Relabel,
    tuning: Tuning,
    *,
    seed: int,
    workers: int,
    kept: Path,
    identity: str,
    progress: Progress = silent,
) -> Tuned:
    """Learn all phases, going on from the checkpoint at ``kept`` if it has this identity.

    Parameters
    ----------
    backbones : the pretrained network at each phase's size
    judge : called after each epoch; a resumed run hears only of those that are left
    kept : file of the checkpoint
    identity : see ``write_checkpoint``

    Raises
    ------
    ResourceError : the disk is full; the same call goes on from the last epoch that was kept
    """
    sizes = [phase.size for phase in phases for _ in range(phase.epochs)]
    state = read_checkpoint(kept, identity)
    learner = _begin(data, backbones[sizes[0]], state, len(sizes), tuning, seed, workers)
    targets, begun, tuned = _hardened(data.targets, data.taught), 0, None
    if state:
        targets, begun = state.tensors["targets"], int(state.facts["epoch"]) + 1
    for epoch in range(begun, len(sizes)):
        backbone = backbones[sizes[epoch]]
        learner.quicken(backbone.plan, backbone.size)
        material = Material(data.squares, data.rows, targets)
        learn_epoch(learner, material, epoch, to_pixels(backbone), progress)
        tuned = _average(learner, backbone)
        rows = data.rows[:0] if epoch + 1 == len(sizes) else _asked(data, targets)
        validation, probs = _ask(tuned, data, rows, workers, progress, epoch)
        likely = judge(EpochPredictions(epoch, sizes[epoch], validation, rows, probs))
        # Those of spies too stay as they are once they are settled, as those of any image do.
        corrected = ~_settled(targets[rows])
        targets[rows[corrected]] = likely[corrected]
        tensors = learner.tensors() | {"targets": targets}
        write_checkpoint(kept, Checkpoint(tensors, {"epoch": epoch}), identity)
    # Also where nothing was left to learn: the last epoch was kept, and then the process was killed.
    return tuned or _average(learner, backbones[sizes[-1]])


def _begin(
    data: TuningData,
    backbone: TimmBackbone,
    state: Checkpoint | None,
    epochs: int,
    tuning: Tuning,
    seed: int,
    workers: int,
) -> Learner:
    """A learner at its start, or as the checkpoint holds it."""
    head = Layers.from_tensors(state.tensors) if state else _probe(data, backbone, seed, workers)
    student = Student(deepcopy(backbone.network), head).to(backbone.plan.device)
    learner = Learner(student, tuning, epochs, seed)
    if state:
        learner.restore(state.tensors)
    return learner


def _probe(data: TuningData, backbone: TimmBackbone, seed: int, workers: int) -> Layers:
    """A head on frozen features of some images whose class is sure."""
    targets = _hardened(data.targets, data.taught)
    drawn = np.random.default_rng(seed).permutation(_sure(data.rows, targets))[:PROBED]
    some = np.sort(drawn)
    features = features_of(backbone, data.squares, some, workers=workers)
    with one_thread_each():
        head = make_head(seed).fit_soft(features, targets[some])
    return head.layers_


def _sure(rows: Int[np.ndarray, "R"], targets: Probs) -> Int[np.ndarray, "S"]:
    """The rows whose target is sure; all of them where hardly any is."""
    sure = rows[targets[rows].max(axis=1) >= SURE]
    return sure if len(sure) >= len(rows) // 10 else rows


def _ask(
    tuned: Tuned, data: TuningData, rows: Int[np.ndarray, "R"], workers: int, progress: Progress, epoch: int
) -> tuple[Float[np.ndarray, "W K"], Float[np.ndarray, "R K"]]:
    """P(class) of the images that are watched, and of ``rows``."""
    probs = score(
        tuned.backbone,
        tuned.head,
        data.squares,
        np.concatenate([data.validation, rows]),
        workers=workers,
        progress=progress,
        stage=f"ask, epoch {epoch + 1}",
    )
    return probs[: len(data.validation)], probs[len(data.validation) :]


def _asked(data: TuningData, targets: Probs) -> Int[np.ndarray, "R"]:
    """The rows whose targets may still be corrected, and those by which answers are judged."""
    return np.union1d(data.rows[~_settled(targets[data.rows])], data.calibration_rows)


def _settled(targets: Probs) -> Bool[np.ndarray, "R"]:
    settled: np.ndarray = targets.max(axis=1) >= SETTLED
    return settled


def _hardened(targets: Probs, taught: Labels) -> Probs:
    """A copy of the targets, with the labels that are taught as they are."""
    known = np.flatnonzero(taught != UNKNOWN)
    hard = targets.copy()
    hard[known] = np.eye(targets.shape[1])[taught[known]]
    return hard


def _average(learner: Learner, backbone: TimmBackbone) -> Tuned:
    """What the average is, as a backbone and a head of their own."""
    student = deepcopy(learner.students[0]).cpu()
    put(student, learner.average)
    student.eval().requires_grad_(False)
    return Tuned(backbone.retrained(student.network), student.head.layers())
