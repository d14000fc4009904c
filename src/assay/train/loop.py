"""The training loop: augmented images, soft targets, AdamW, one cycle of the learning rate, an average.

::

    for each step:  a batch, in parts, each for a replica of the student in a thread of its own
                    augment -> micro-batches: logits -> cross-entropy to the soft targets -> gradients, summed
                    AdamW at the rate of this step
                    an exponential moving average of the parameters follows: it is what is kept

Chance depends on seed, epoch, step and part alone, so a run that resumes at the start of an epoch goes on as
if it had never stopped.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from assay.embed.backbone import TimmBackbone
from assay.embed.device import Plan, cores, deterministic, one_thread_each
from assay.predict.layers import Layers
from assay.train.augment import Augment
from assay.train.student import Student, network_input
from assay.types import Batch, Probs, Progress, Rows, silent

FEWEST_PARTS, MOST_PARTS = 2, 8
"""Of a batch on a CPU; summing the gradients of more would take too long."""

PREFETCH = {"cpu": 0, "cuda": 16}
"""Parts that threads make ready while a GPU trains; on a CPU each thread makes its own."""

MICRO_BATCH_PIXELS = {"cpu": 600_000, "cuda": 4_000_000}
"""Pixels that go through a student together: their maps stay in a CPU's cache, or in a GPU's memory."""

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""AdamW's state of each parameter that has a gradient."""

TIMED_STEPS = 3
"""The fastest counts, for the first warms up and other programs disturb the rest."""

Part = tuple[torch.Tensor, torch.Tensor]
"""Normalised pixels (B, 3, S, S) and targets (B, K)."""


@dataclass(frozen=True)
class Tuning:
    """How the student is trained; chosen on a slice of the course data, see benchmarks/LOG.md."""

    batch: int = 64
    learning_rate: float = 1e-3
    """Peak of the cycle; of AdamW."""
    weight_decay: float = 0.01
    """Of matrices and filters; not of biases and batch norms."""
    warm_up: float = 0.2
    """Share of all epochs in which the rate rises."""
    averaged: float = 0.998
    """Share of the moving average that stays in a step, once there were many steps."""
    augment: Augment = field(default_factory=Augment)


class Trainer:
    """The student and all that changes with it: the content of a checkpoint.

    There is a replica of the student for each part of a batch. The number of parts changes the random draws
    and the order in which gradients are summed: another number of cores trains another, equally good model.
    """

    def __init__(self, student: Student, tuning: Tuning, epochs: int, seed: int) -> None:
        self.device = student.device.type
        n_parts = min(max(cores(), FEWEST_PARTS), MOST_PARTS) if self.device == "cpu" else 1
        self.students = student.replicas(n_parts)
        self.tuning, self.epochs, self.seed = tuning, epochs, seed
        self.steps = 0
        self.parameters = parameters = student.trained_parameters()
        self.average = [parameter.detach().clone() for parameter in parameters]
        groups = [
            {"params": [one for one in parameters if (one.ndim > 1) is large], "weight_decay": decay}
            for large, decay in ((True, tuning.weight_decay), (False, 0.0))
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=tuning.learning_rate, fused=True)

    def use_plan(self, plan: Plan, size: int) -> None:
        """Train as fast as the plan allows from now on, at ``size`` pixels."""
        first, *others = self.students
        first.use_plan(plan, size)
        for other in others:  # the front has no state that a thread could disturb
            other.fast_front, other.train_dtype = first.fast_front, first.train_dtype

    def tensors(self) -> dict[str, np.ndarray]:
        """All that changes, as arrays."""
        found = dict[str, torch.Tensor]()
        for place, (parameter, mean) in enumerate(zip(self.parameters, self.average, strict=True)):
            moments = self.optimiser.state.get(parameter, {})
            found |= {f"student.{place}": parameter.detach(), f"average.{place}": mean}
            found |= {f"{name}.{place}": moment for name, moment in moments.items()}
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in found.items()}
        return arrays | self.students[0].head.layers().tensors()

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Continue from ``tensors()``, with a student that was made with their head."""

        def held(name: str, place: int) -> torch.Tensor:
            return torch.from_numpy(tensors[f"{name}.{place}"].copy())

        self.students[0].load([held("student", place) for place in range(len(self.parameters))])
        for place, parameter in enumerate(self.parameters):
            self.average[place].copy_(held("average", place))
            if f"step.{place}" not in tensors:
                continue
            state = {name: held(name, place) for name in MOMENTS}
            # On the parameter's device, and in its own order of memory.
            self.optimiser.state[parameter] = {
                name: torch.empty_like(parameter).copy_(value) if value.ndim else value.to(parameter.device)
                for name, value in state.items()
            }
        self.steps = max(int(value) for name, value in tensors.items() if name.split(".")[0] == "step")

    def step(self, n: int, share: float) -> None:
        """One step along the mean gradient of ``n`` images, at ``share`` of all epochs; then the average."""
        mine, *others = [
            # They stay from step to step: new memory would cost as much as the sums.
            [one.grad for one in student.trained_parameters() if one.grad is not None]
            for student in self.students
        ]
        for other in filter(None, others):
            torch._foreach_add_(mine, other)
        torch._foreach_div_(mine, n)
        for group in self.optimiser.param_groups:
            group["lr"] = self.tuning.learning_rate * one_cycle(share, self.tuning.warm_up)
        self.optimiser.step()
        self.steps += 1
        stays = min(self.tuning.averaged, self.steps / (self.steps + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [*self.parameters], 1 - stays)
        for gradients in filter(None, [mine, *others]):
            torch._foreach_zero_(gradients)


def one_cycle(share: float, warm_up: float) -> float:
    """The learning rate at ``share`` of all epochs, from 0 to 1 of its peak (Smith & Topin 2018)."""
    if share < warm_up:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share / warm_up))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - warm_up) / (1 - warm_up))))


def train_epoch(
    trainer: Trainer,
    backbone: TimmBackbone,
    images: Batch,
    rows: Rows,
    targets: Probs,
    epoch: int,
    progress: Progress = silent,
) -> float:
    """Train on every row of ``rows`` once, in a new order; the mean loss.

    Parameters
    ----------
    backbone : its size and normalisation are those of the network's input
    images, targets : (N, s, s, 3) and (N, K), of all rows
    """
    tuning, n_parts = trainer.tuning, len(trainer.students)
    order = np.random.default_rng((trainer.seed, epoch)).permutation(rows)
    # Batches of even lengths: a last batch of one image would move the student as far as a whole one.
    n_batches = -(-len(order) // tuning.batch)
    batches = [
        np.array_split(batch, min(n_parts, len(batch)))
        for batch in (np.array_split(order, n_batches) if n_batches else [])
    ]

    def make(part: Rows, seed: tuple[int, ...]) -> Part:
        rng = np.random.default_rng(seed)
        changed, crops = tuning.augment(images[part], rng), tuning.augment.crops(len(part), rng)
        pixels = network_input(backbone, changed, crops)
        return pixels, torch.from_numpy(targets[part].astype(np.float32))

    jobs = (
        partial(make, part, (trainer.seed, epoch, number, place))
        for number, parts in enumerate(batches)
        for place, part in enumerate(parts)
    )
    for student in trainer.students:
        student.train()
    total: torch.Tensor | int = 0
    done, prefetched = 0, _prefetched(jobs, PREFETCH[trainer.device])
    pool = ThreadPoolExecutor(n_parts, "train")
    with one_thread_each(), deterministic(trainer.device), pool, closing(prefetched) as ready:
        for parts in batches:
            losses = [
                pool.submit(backward, student, next(ready))
                for student, _ in zip(trainer.students, parts, strict=False)
            ]
            # Kept on the GPU: reading a number there waits for all work before it.
            total = total + sum(loss.result() for loss in losses)
            n = sum(map(len, parts))
            trainer.step(n, (epoch + done / len(order)) / trainer.epochs)
            done += n
            progress(f"train, epoch {epoch + 1}", done, len(order))
    return float(total) / max(done, 1)


def backward(student: Student, make: Callable[[], Part]) -> torch.Tensor:
    """The loss summed over a part of a batch; its gradients are added to the student's."""
    pixels, targets = make()
    device = student.device.type
    if device != "cpu":
        # Only from pinned memory a copy runs beside other work.
        pixels, targets = (
            one.pin_memory().to(student.device, non_blocking=True) for one in (pixels, targets)
        )
    n, _, height, width = pixels.shape
    n_micro = min(n, -(-n * height * width // MICRO_BATCH_PIXELS[device]))
    total = torch.zeros((), dtype=torch.float64, device=student.device)
    micro_batches = zip(
        torch.tensor_split(pixels, n_micro), torch.tensor_split(targets, n_micro), strict=True
    )
    for few, wanted in micro_batches:
        loss = -(wanted * functional.log_softmax(student(few), dim=1)).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total += loss.detach()
    return total


def _prefetched(jobs: Iterable[Callable[[], Part]], depth: int) -> Generator[Callable[[], Part], None, None]:
    """The jobs in order, ``depth`` of them begun in threads before they are called."""
    if not depth:
        yield from jobs
        return
    with ThreadPoolExecutor(min(cores(), depth), "prefetch") as pool:
        waiting = deque[Callable[[], Part]]()
        for job in jobs:
            waiting.append(pool.submit(job).result)
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting


@dataclass(frozen=True)
class Pace:
    """Milliseconds an image at one size."""

    train_ms: float
    predict_ms: float


def measure_pace(backbone: TimmBackbone, images: Batch, n_classes: int, tuning: Tuning) -> Pace:
    """Time a few steps of training and prediction on the first of ``images`` (N, s, s, 3)."""
    some = np.ascontiguousarray(images[: tuning.batch])
    targets = np.full((len(some), n_classes), 1 / n_classes)
    trainer = blank_trainer(backbone, n_classes, tuning, TIMED_STEPS)
    # A short batch would be padded to a whole one.
    n_predicted = max(len(some), backbone.plan.batch)
    blank = np.zeros((n_predicted, backbone.size, backbone.size, 3), dtype=np.uint8)
    trained, predicted = [], []
    for step in range(TIMED_STEPS):
        start = time.perf_counter()
        train_epoch(trainer, backbone, some, np.arange(len(some)), targets, step)
        if backbone.plan.device != "cpu":
            torch.cuda.synchronize()  # a GPU works on after the call returned
        middle = time.perf_counter()
        backbone.embed(blank)
        trained.append(middle - start)
        predicted.append(time.perf_counter() - middle)
    return Pace(1000 * min(trained) / len(some), 1000 * min(predicted) / n_predicted)


def blank_trainer(backbone: TimmBackbone, n_classes: int, tuning: Tuning, epochs: int) -> Trainer:
    """A trainer with a head of zeros, as fast as a real one."""
    ones, zeros = np.ones(backbone.width, dtype=np.float32), np.zeros(n_classes, dtype=np.float32)
    head = Layers(ones, ones, (np.zeros((backbone.width, n_classes), dtype=np.float32), zeros))
    student = Student(deepcopy(backbone.network), head).to(backbone.plan.device)
    trainer = Trainer(student, tuning, epochs, seed=0)
    trainer.use_plan(backbone.plan, backbone.size)
    return trainer
