"""Fine-tuning a network on the posterior, at rising image size, with a checkpoint after each epoch.

The targets stay as they are: correcting them after each epoch gained nothing that could be measured
(benchmarks/LOG.md, 2026-11-28).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from assay.data.resize import to_square
from assay.data.write import write_bytes_atomic
from assay.embed.backbone import TimmBackbone
from assay.embed.device import one_thread_each
from assay.predict.layers import Layers
from assay.train.heads import make_head
from assay.train.loop import Trainer, Tuning, train_epoch
from assay.train.student import Student
from assay.types import UNKNOWN, Batch, Labels, Matrix, Probs, Progress, silent

METHOD = "12"
"""Part of a checkpoint's identity, raised whenever training would go on otherwise than it began."""

FIRST_HEAD_IMAGES = 12_000
"""Images that the first head is fitted to; more did not help."""

SURE = 0.8
"""Images with less sure targets are left out of the first head."""

BLOCK = 512
"""Images that are resized and predicted together."""


@dataclass(frozen=True)
class Phase:
    """Some epochs at one image size."""

    size: int
    """Side in pixels."""
    epochs: int


@dataclass(frozen=True)
class FineTuneData:
    """The images and labels of fine-tuning; none of the holdout's labels is among them."""

    images: Batch
    """(N, s, s, 3)."""
    rows: Int[np.ndarray, "R"]
    """Images that are trained on, ascending."""
    known: Labels
    """(N,) trusted labels that are trained on, else UNKNOWN."""
    targets: Probs
    """(N, K) the posterior."""
    validation: Int[np.ndarray, "W"]
    """Images that are not trained on, predicted after each epoch where that is reported."""


@dataclass(frozen=True)
class EpochPredictions:
    """Predictions of the averaged student after an epoch."""

    epoch: int
    """From 0."""
    size: int
    """Side of the images in pixels."""
    validation: Float[np.ndarray, "W K"]
    """P(class) (W, K) of the validation images."""


@dataclass(frozen=True)
class FineTuned:
    """The fine-tuned network and head after the last epoch."""

    backbone: TimmBackbone
    """Of the last phase's size."""
    head: Layers
    """Not calibrated."""


def fine_tune(
    data: FineTuneData,
    phases: Sequence[Phase],
    backbones: Mapping[int, TimmBackbone],
    tuning: Tuning,
    *,
    checkpoint: Path,
    identity: str,
    seed: int,
    workers: int = 2,
    report: Callable[[EpochPredictions], None] | None = None,
    progress: Progress = silent,
) -> FineTuned:
    """Train through all phases, or on from the checkpoint if it has this identity.

    Parameters
    ----------
    backbones : the pretrained network at each phase's size
    checkpoint : its file, replaced after each epoch
    identity : see ``write_checkpoint``
    workers : threads that resize
    report : called after each epoch; a resumed run reports the epochs that are left

    Raises
    ------
    ResourceError : the disk is full; the same call goes on from the last epoch that was kept
    """
    sizes = [phase.size for phase in phases for _ in range(phase.epochs)]
    targets, first, tuned = data.targets.copy(), 0, None
    known = np.flatnonzero(data.known != UNKNOWN)
    targets[known] = np.eye(targets.shape[1])[data.known[known]]
    state = read_checkpoint(checkpoint, identity)
    head = Layers.from_tensors(state.tensors) if state else None
    if head is None:
        head = _first_head(data, targets, backbones[sizes[0]], seed, workers)
    student = Student(deepcopy(backbones[sizes[0]].network), head).to(backbones[sizes[0]].plan.device)
    trainer = Trainer(student, tuning, len(sizes), seed)
    if state:
        trainer.restore(state.tensors)
        first = int(state.facts["epoch"]) + 1
    for epoch in range(first, len(sizes)):
        backbone = backbones[sizes[epoch]]
        trainer.use_plan(backbone.plan, backbone.size)
        train_epoch(trainer, backbone, data.images, data.rows, targets, epoch, progress)
        if report:
            tuned = _averaged(trainer, backbone)
            probs = predict_resized(
                tuned.backbone,
                tuned.head,
                data.images,
                data.validation,
                workers=workers,
                progress=progress,
                stage=f"predict, epoch {epoch + 1}",
            )
            report(EpochPredictions(epoch, sizes[epoch], probs))
        write_checkpoint(checkpoint, Checkpoint(trainer.tensors(), {"epoch": epoch}), identity)
    # Not made where nobody wants reports, or the process was killed after the last epoch was kept.
    return tuned or _averaged(trainer, backbones[sizes[-1]])


def _first_head(
    data: FineTuneData, targets: Probs, backbone: TimmBackbone, seed: int, workers: int
) -> Layers:
    """A head on frozen features of some images whose class is sure."""
    sure = data.rows[targets[data.rows].max(axis=1) >= SURE]
    if len(sure) < len(data.rows) // 10:  # hardly any
        sure = data.rows
    some = np.sort(np.random.default_rng(seed).permutation(sure)[:FIRST_HEAD_IMAGES])
    features = embed_resized(backbone, data.images, some, workers=workers)
    with one_thread_each():
        return make_head(seed).fit_soft(features, targets[some]).layers_


def _averaged(trainer: Trainer, backbone: TimmBackbone) -> FineTuned:
    """The averaged parameters as a backbone and a head of their own."""
    student = deepcopy(trainer.students[0]).cpu()
    student.load(trainer.average)
    student.eval().requires_grad_(False)
    return FineTuned(backbone.retrained(student.network), student.head.layers())


# ---- predictions for images that are stored resized ----


def embed_resized(
    backbone: TimmBackbone, images: Batch, rows: Int[np.ndarray, "R"], *, workers: int = 2
) -> Matrix:
    """Features (R, D) of the images (N, s, s, 3) at ``rows``, in their order."""
    blocks = [*_embedded_blocks(backbone, images, rows, workers)]
    return np.concatenate(blocks) if blocks else np.zeros((0, backbone.width), dtype=np.float32)


def predict_resized(
    backbone: TimmBackbone,
    head: Layers,
    images: Batch,
    rows: Int[np.ndarray, "R"],
    *,
    workers: int = 2,
    progress: Progress = silent,
    stage: str = "predict",
) -> Probs:
    """P(class) (R, K) of the images (N, s, s, 3) at ``rows``, by a head on their features."""
    probs, done = np.zeros((len(rows), head.n_classes)), 0
    for features in _embedded_blocks(backbone, images, rows, workers):
        probs[done : done + len(features)] = head.probabilities(features)
        done += len(features)
        progress(stage, done, len(rows))
    return probs


def _embedded_blocks(
    backbone: TimmBackbone, images: Batch, rows: Int[np.ndarray, "R"], workers: int
) -> Iterator[Matrix]:
    def resize(image: np.ndarray) -> np.ndarray:
        return to_square(image, backbone.size, backbone.interpolation)

    with ThreadPoolExecutor(max(workers, 1), "resize") as pool:
        for start in range(0, len(rows), BLOCK):
            yield backbone.embed(np.stack([*pool.map(resize, images[rows[start : start + BLOCK]])]))


# ---- checkpoints: one file that appears whole or not at all ----


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch."""

    tensors: Mapping[str, np.ndarray]
    facts: Mapping[str, int]
    """``epoch``, from 0."""


def write_checkpoint(file: Path, checkpoint: Checkpoint, identity: str) -> None:
    """Replace the checkpoint at ``file``, bytes on disk first.

    Parameters
    ----------
    identity : a digest of all that training depends on; with another identity it is not read

    Raises
    ------
    ResourceError : the disk is full; the one before stays
    """
    metadata = {"facts": json.dumps(checkpoint.facts, sort_keys=True), "identity": identity}
    # Not ascontiguousarray, which would give a lone number a shape.
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in checkpoint.tensors.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(file, save(tensors, metadata))


def is_resumable(file: Path, identity: str) -> bool:
    """Whether the checkpoint at ``file`` can be read and has this identity."""
    try:
        with safe_open(file, "numpy") as opened:
            return bool((opened.metadata() or {}).get("identity") == identity)
    except (OSError, SafetensorError):
        return False


def read_checkpoint(file: Path, identity: str) -> Checkpoint | None:
    """The checkpoint at ``file``; None where there is none of this identity, or it is damaged."""
    if not is_resumable(file, identity):
        return None
    try:
        with safe_open(file, "numpy") as opened:
            metadata = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
        return Checkpoint(tensors, json.loads(metadata["facts"]))
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
