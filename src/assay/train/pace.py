"""How long an image takes here, learned from and looked at: timed on a few batches before it all begins."""

import time
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from assay.embed.backbone import TimmBackbone
from assay.embed.device import synchronize
from assay.predict.layers import Layers
from assay.train.loop import Learner, Material, Tuning, learn_epoch
from assay.train.pixels import to_pixels
from assay.train.student import Student
from assay.types import Batch

STEPS = 3
"""Timed; the fastest counts, for the first warms up and other programs disturb the rest."""


@dataclass(frozen=True)
class Pace:
    """Milliseconds an image at one size."""

    learn_ms: float
    look_ms: float

    def to_json(self) -> dict[str, float]:
        """The same by what is done."""
        return {"learn": self.learn_ms, "look": self.look_ms}


def measure_pace(backbone: TimmBackbone, squares: Batch, n_classes: int, tuning: Tuning) -> Pace:
    """Learn and look for a moment, and forget it.

    Parameters
    ----------
    squares : (N, s, s, 3), of which the first are used
    """
    some = np.ascontiguousarray(squares[: tuning.batch])
    targets = np.full((len(some), n_classes), 1 / n_classes)
    learner = blank_learner(backbone, n_classes, tuning, STEPS)
    material, convert = Material(some, np.arange(len(some)), targets), to_pixels(backbone)
    # A short batch would be padded to a whole one.
    n_seen = max(len(some), backbone.plan.batch)
    seen = np.zeros((n_seen, backbone.size, backbone.size, 3), dtype=np.uint8)
    learned, looked = [], []
    for step in range(STEPS):
        start = time.perf_counter()
        learn_epoch(learner, material, step, convert)
        synchronize(backbone.plan.device)
        middle = time.perf_counter()
        backbone.embed(seen)
        learned.append(middle - start)
        looked.append(time.perf_counter() - middle)
    return Pace(1000 * min(learned) / len(some), 1000 * min(looked) / n_seen)


def blank_learner(backbone: TimmBackbone, n_classes: int, tuning: Tuning, epochs: int) -> Learner:
    """One that has learned nothing, as quick as one that learns."""
    head = _blank_head(backbone.width, n_classes)
    student = Student(deepcopy(backbone.network), head).to(backbone.plan.device)
    learner = Learner(student, tuning, epochs, seed=0)
    learner.quicken(backbone.plan, backbone.size)
    return learner


def _blank_head(width: int, n_classes: int) -> Layers:
    ones, none = np.ones(width, dtype=np.float32), np.zeros(n_classes, dtype=np.float32)
    return Layers(ones, ones, (np.zeros((width, n_classes), dtype=np.float32), none))
