"""Fine-tuning on labels that are wrong: learn, ask the average, correct the targets, learn on.

::

    head on frozen features of the student's own network          (a start from which nothing is torn down)
    for each epoch, at rising size:
        learn_epoch     strong views, soft targets                (loop)
        score           weak views, by the average                (scoring)
        judge           calibrate on images kept aside, posterior (the caller's, see ``Judge``)
        the posterior is the next epoch's target

A label must not confirm itself: the student has seen the given label of every image it scores. Some trusted
images are therefore treated exactly as noisy ones are, their trusted label unseen (the audit). What the
student says of them, after it learned from their given labels, is what it says of any image; sharpness,
bias and the worth λ of the given label are fitted there, and so allow for all that was memorised.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from assay._types import UNKNOWN, Batch, Labels, Probs, Progress, silent
from assay.embed.backbone import LEVELS, TimmBackbone
from assay.learn.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from assay.learn.heads import MLPHead
from assay.learn.layers import Layers
from assay.learn.loop import Learner, Material, Tuning, learn_epoch
from assay.learn.pixels import to_pixels
from assay.learn.scoring import features_of, score
from assay.learn.student import Student, put

PROBED = 12_000
"""Images of which the first head is made; more did not help."""

SURE = 0.8
"""Targets below it teach nothing to the first head."""


@dataclass(frozen=True)
class Stage:
    """Epochs at one size."""

    size: int
    """Side in pixels."""
    epochs: int


@dataclass(frozen=True)
class Lesson:
    """What is known, the seal closed."""

    squares: Batch
    """(N, s, s, 3)."""
    rows: Int[np.ndarray, "R"]
    """Images that may be learned from, ascending."""
    taught: Labels
    """(N,) trusted labels that are learned from, else UNKNOWN: not those of the audit."""
    targets: Probs
    """(N, K) the first posterior."""


@dataclass(frozen=True)
class Told:
    """What the average of the student says after an epoch."""

    epoch: int
    """From 0."""
    size: int
    loss: float
    """Mean over the epoch."""
    plain: Probs
    """P(class) (R, K) of the lesson's rows as they are."""
    mirror: Probs
    """Of their mirrors."""


Judge = Callable[[Told], Probs]
"""The posterior (N, K) after what was told: the targets of the next epoch."""


@dataclass(frozen=True)
class Tuned:
    """The fine-tuned network and head, as they stand after the last epoch."""

    backbone: TimmBackbone
    """Of the last stage's size."""
    head: Layers
    """Not calibrated."""


def fine_tune(
    lesson: Lesson,
    stages: Sequence[Stage],
    backbones: Mapping[int, TimmBackbone],
    judge: Judge,
    tuning: Tuning,
    *,
    seed: int,
    workers: int,
    kept: Path,
    identity: str,
    progress: Progress = silent,
) -> Tuned:
    """Learn all stages, going on from the checkpoint at ``kept`` if it has this identity.

    Parameters
    ----------
    backbones : the pretrained network at each stage's size
    judge : called after each epoch
    kept : file of the checkpoint
    identity : see ``write_checkpoint``

    Raises
    ------
    ResourceError : the disk is full; the same call goes on from the last epoch that was kept
    """
    sizes = [stage.size for stage in stages for _ in range(stage.epochs)]
    state = read_checkpoint(kept, identity)
    learner = _begin(lesson, backbones[sizes[0]], state, len(sizes), tuning, seed, workers)
    targets, begun = lesson.targets, 0
    if state:
        targets, begun = state.tensors["targets"], int(state.facts["epoch"]) + 1
    for epoch in range(begun, len(sizes)):
        backbone = backbones[sizes[epoch]]
        material = Material(lesson.squares, lesson.rows, _hardened(targets, lesson.taught))
        loss = learn_epoch(learner, material, epoch, to_pixels(backbone), progress)
        tuned = _average(learner, backbone)
        plain, mirror = (
            score(tuned.backbone, tuned.head, lesson.squares, lesson.rows, mirrored=mirrored, workers=workers)
            for mirrored in (False, True)
        )
        targets = judge(Told(epoch, sizes[epoch], loss, plain, mirror))
        tensors = learner.tensors() | {"targets": targets}
        write_checkpoint(kept, Checkpoint(tensors, {"epoch": epoch}), identity)
    return _average(learner, backbones[sizes[-1]])


def _begin(
    lesson: Lesson,
    backbone: TimmBackbone,
    state: Checkpoint | None,
    epochs: int,
    tuning: Tuning,
    seed: int,
    workers: int,
) -> Learner:
    """A learner at its start, or as the checkpoint holds it."""
    head = Layers.from_tensors(state.tensors) if state else _probe(lesson, backbone, seed, workers)
    student = Student(deepcopy(backbone.network), head, LEVELS, backbone.plan)
    learner = Learner(student, tuning, epochs * -(-len(lesson.rows) // tuning.batch), seed)
    if state:
        learner.restore(state.tensors)
    return learner


def _probe(lesson: Lesson, backbone: TimmBackbone, seed: int, workers: int) -> Layers:
    """A head on frozen features of some images whose class is sure."""
    targets = _hardened(lesson.targets, lesson.taught)
    sure = lesson.rows[targets[lesson.rows].max(axis=1) >= SURE]
    rows = sure if len(sure) >= PROBED // 10 else lesson.rows
    drawn = np.random.default_rng(seed).permutation(rows)[:PROBED]
    some = np.sort(drawn)
    features = features_of(backbone, lesson.squares, some, workers=workers)
    head = MLPHead(epochs=8, input_dropout=0.2, random_state=seed).fit_soft(features, targets[some])
    return head.layers_


def _hardened(targets: Probs, taught: Labels) -> Probs:
    """The targets, with trusted labels as they are."""
    known = np.flatnonzero(taught != UNKNOWN)
    hard = targets.copy()
    hard[known] = np.eye(targets.shape[1])[taught[known]]
    return hard


def _average(learner: Learner, backbone: TimmBackbone) -> Tuned:
    """What the average is, as a backbone and a head of their own."""
    student = deepcopy(learner.students[0])
    put(student, learner.average)
    return Tuned(backbone.retrained(student.network), student.head.layers())
