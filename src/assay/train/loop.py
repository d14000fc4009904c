"""The loop: strong views of the images, soft targets, AdamW, one cycle of the learning rate, an average.

::

    for each step:  a batch, parted among copies of the student, each in a thread of its own
                    augment -> for a few images at a time: logits -> cross-entropy with the soft targets
                    -> gradients, summed
                    AdamW at the rate of this step
                    the average of the numbers over the last steps (EMA) follows: it is what is kept

Chance depends on seed, epoch, step and part alone, so a run that goes on at the start of an epoch goes on
as if it had never stopped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch.nn import functional

from assay.embed.device import Plan, cores, deterministic, one_thread_each
from assay.train.ahead import ahead
from assay.train.augment import Augment
from assay.train.pixels import ToPixels
from assay.train.student import Student, copies_of, put
from assay.types import Batch, Probs, Progress, silent

FEWEST_PARTS, MOST_PARTS = 2, 8
"""Into which a batch is cut on a processor; summing the gradients of more would take too long."""

AHEAD = {"cpu": 0, "cuda": 16}
"""Batches that threads make ready while a card learns; a core that learns makes its own."""

AT_ONCE = {"cpu": 600_000, "cuda": 4_000_000}
"""Pixels that go through a student together: their maps stay in a processor's cache, or a card's memory."""


@dataclass(frozen=True)
class Tuning:
    """How the student learns; chosen on the validation slice of the course data, see benchmarks/LOG.md."""

    batch: int = 64
    learning_rate: float = 1e-3
    """Peak of the cycle; of AdamW."""
    weight_decay: float = 0.01
    """Of matrices and filters; not of biases and batch norms."""
    warm_up: float = 0.2
    """Share of all epochs in which the rate rises."""
    averaged: float = 0.998
    """How much of the average of the numbers stays in a step, once there were many steps."""
    augment: Augment = field(default_factory=Augment)


Seen = tuple[torch.Tensor, torch.Tensor]
"""Normalised pixels (B, 3, S, S) and targets (B, K)."""


@dataclass(frozen=True)
class Material:
    """What there is to learn from in one epoch."""

    squares: Batch
    """(N, s, s, 3), of all images, at whatever side they are held."""
    rows: Int[np.ndarray, "R"]
    """Which of them are seen; a row may come more than once."""
    targets: Probs
    """(N, K)."""


STEPS = "step"
MOMENTS = ("exp_avg", "exp_avg_sq", STEPS)
"""What AdamW remembers of each number that has a gradient."""


class Learner:
    """The student and all that changes with it: what a checkpoint holds.

    ``average`` are the numbers to keep, ``step`` counts from the first epoch. There is a copy of the student
    for each part of a batch; the parts decide what chance draws and the order in which gradients are summed,
    so on another number of cores something else is learned, no worse.
    """

    def __init__(self, student: Student, tuning: Tuning, epochs: int, seed: int) -> None:
        self.students = copies_of(student, _parts_on(student.device.type))
        self.tuning, self.epochs, self.seed = tuning, epochs, seed
        self.step = 0
        self.numbers = numbers = student.learning()
        self.average = [number.detach().clone() for number in numbers]
        groups = [
            {"params": [number for number in numbers if (number.ndim > 1) is large], "weight_decay": decay}
            for large, decay in ((True, tuning.weight_decay), (False, 0.0))
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=tuning.learning_rate, fused=True)

    def quicken(self, plan: Plan, size: int) -> None:
        """Learn as quickly as the plan allows from here on, at ``size`` pixels."""
        self.students[0].quicken(plan, size)
        for other in self.students[1:]:
            other.as_quick_as(self.students[0])

    def tensors(self) -> dict[str, np.ndarray]:
        """All that changes, as arrays, once a step was made."""
        student, found = self.students[0], dict[str, torch.Tensor]()
        for place, (number, mean) in enumerate(zip(self.numbers, self.average, strict=True)):
            moments = self.optimiser.state.get(number, {})
            found |= {f"student.{place}": number.detach(), f"average.{place}": mean}
            found |= {f"{name}.{place}": moment for name, moment in moments.items()}
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in found.items()}
        return arrays | student.head.layers().tensors()

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``tensors`` gave, with a student that was made with its head."""
        put(self.students[0], [_held(tensors, "student", place) for place in range(len(self.numbers))])
        for place, number in enumerate(self.numbers):
            self.average[place].copy_(_held(tensors, "average", place))
            if f"{STEPS}.{place}" not in tensors:
                continue
            state = {name: _held(tensors, name, place) for name in MOMENTS}
            # On the number's device, and in its own order of memory.
            self.optimiser.state[number] = {
                name: torch.empty_like(number).copy_(value) if value.ndim else value.to(number.device)
                for name, value in state.items()
            }
        self.step = max(int(value) for name, value in tensors.items() if name.split(".")[0] == STEPS)

    def advance(self, n: int, share: float) -> None:
        """One step along the mean gradient of ``n`` images, which the students have summed, and the average
        after it.

        Parameters
        ----------
        share : of all epochs, that lies behind
        """
        mine, *others = [gradients_of(student) for student in self.students]
        for other in filter(None, others):
            torch._foreach_add_(mine, other)
        torch._foreach_div_(mine, n)
        for group in self.optimiser.param_groups:
            group["lr"] = self.tuning.learning_rate * one_cycle(share, self.tuning.warm_up)
        self.optimiser.step()
        self.step += 1
        stays = min(self.tuning.averaged, self.step / (self.step + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [*self.numbers], 1 - stays)
        for gradients in filter(None, [mine, *others]):
            torch._foreach_zero_(gradients)


def _parts_on(device: str) -> int:
    """A core works on a part of a batch, a graphics processor on a whole one."""
    return min(max(cores(), FEWEST_PARTS), MOST_PARTS) if device == "cpu" else 1


def gradients_of(student: Student) -> list[torch.Tensor]:
    """What a student has summed since the last step, in the order of ``learning``; empty if it never learned.

    They stay where they are from step to step, for new memory would cost as much as the sums.
    """
    return [number.grad for number in student.learning() if number.grad is not None]


def _held(tensors: Mapping[str, np.ndarray], name: str, place: int) -> torch.Tensor:
    return torch.from_numpy(tensors[f"{name}.{place}"].copy())


def one_cycle(share: float, warm_up: float) -> float:
    """The learning rate at ``share`` of all epochs, from 0 to 1 of its peak (Smith & Topin 2018)."""
    if share < warm_up:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share / warm_up))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - warm_up) / (1 - warm_up))))


def learn_epoch(
    learner: Learner,
    material: Material,
    epoch: int,
    to_pixels: ToPixels,
    progress: Progress = silent,
) -> float:
    """Every row of the material once, in a new order; the mean loss.

    Parameters
    ----------
    to_pixels : augmented squares to what the network takes at this epoch's size
    """
    tuning, done = learner.tuning, 0
    total: torch.Tensor | int = 0
    order = np.random.default_rng((learner.seed, epoch)).permutation(material.rows)
    for student in learner.students:
        student.train()
    kind, n_parts = learner.students[0].device.type, len(learner.students)
    batches = [np.array_split(rows, min(n_parts, len(rows))) for rows in _batches(order, tuning.batch)]
    looks = (
        partial(_see, material, rows, tuning.augment, to_pixels, (learner.seed, epoch, number, place))
        for number, parts in enumerate(batches)
        for place, rows in enumerate(parts)
    )
    several = ThreadPoolExecutor(n_parts, "learn")
    with one_thread_each(), deterministic(kind), several as pool, closing(ahead(looks, AHEAD[kind])) as seen:
        for parts in batches:
            works = [
                pool.submit(_learn_from, student, next(seen))
                for student, _ in zip(learner.students, parts, strict=False)
            ]
            # On a card a number that is asked for waits for all the work before it: once an epoch will do.
            total = total + sum(work.result() for work in works)
            n = sum(map(len, parts))
            learner.advance(n, (epoch + done / len(order)) / learner.epochs)
            done += n
            progress(f"learn, epoch {epoch + 1}", done, len(order))
    return float(total) / max(done, 1)


def _batches(order: Int[np.ndarray, "R"], size: int) -> list[Int[np.ndarray, "B"]]:
    """Of even lengths: a last batch of one image would move the student as far as a whole one."""
    return np.array_split(order, -(-len(order) // size)) if len(order) else []


def _see(
    material: Material,
    rows: Int[np.ndarray, "B"],
    augment: Augment,
    to_pixels: ToPixels,
    seed: Sequence[int],
) -> Seen:
    """Some images as chance has them."""
    rng = np.random.default_rng(seed)
    pixels = to_pixels(augment(material.squares[rows], rng), augment.crops(len(rows), rng))
    return pixels, torch.from_numpy(material.targets[rows].astype(np.float32))


def _learn_from(student: Student, see: Callable[[], Seen]) -> torch.Tensor:
    """The loss summed over some images; its gradients are added to the student's."""
    pixels, targets = see()
    if student.device.type != "cpu":
        # Only from pinned memory a copy goes on while the next work is given.
        pixels, targets = (
            part.pin_memory().to(student.device, non_blocking=True) for part in (pixels, targets)
        )
    lots = torch.tensor_split(pixels, _lots(pixels, student.device.type))
    total = torch.zeros((), dtype=torch.float64, device=student.device)
    for few, wanted in zip(lots, torch.tensor_split(targets, len(lots)), strict=True):
        loss = -(wanted * functional.log_softmax(student(few), dim=1)).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total += loss.detach()
    return total


def _lots(pixels: torch.Tensor, device: str) -> int:
    """Into how many lots the device's memory asks to cut them."""
    n, _, height, width = pixels.shape
    return min(n, -(-n * height * width // AT_ONCE[device]))
