"""A saved model's graph in onnxruntime: no torch is needed, and nothing is downloaded.

Each call runs in one thread, and several calls at once. Two threads inside a call of a small network wait for
each other after every layer: on two cores, an int8 EfficientNet-Lite0 at 96 px took 1.7 ms for an image with
two and 1.2 ms with one; for each of 32 images 0.82 ms with two, 0.53 with one for either half.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from jaxtyping import Int

from assay.data.resize import FILTERS, TargetSize
from assay.embed.device import cores
from assay.errors import ModelError
from assay.predict.graph_check import (
    CALL,
    FEATURES_INPUT,
    INPUT,
    OUTLIER_OUTPUT,
    OUTPUT,
    SHA256,
    check_graph,
    digest_of,
    read_metadata,
)
from assay.predict.model import MAX_SIZE, Model, read_model, read_model_file
from assay.predict.prior import TOLERANCE
from assay.types import Batch, Matrix, PerImage, Prior, Probs

FLIP_TTA_BELOW = 0.9
"""Images whose most probable class is less probable are predicted twice; see benchmarks/LOG.md."""

TINY = float(np.finfo(np.float32).tiny)
"""Stands for a probability of 0, whose logarithm does not exist."""

BATCH = 32
"""Images that are handed over together where there are many, and that figures of batches are of."""

ROUNDED_ONE = 1.001
"""A probability of 1 after int8 or float16 rounded it."""

NO_IMAGE_NEEDS = 2**33
"""Bytes; a graph that allocates more at once is at fault, not the machine."""

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True, repr=False)
class Runtime:
    """A model that is ready to predict; threads may share it."""

    labels: tuple[str, ...]
    """The K labels, as they came in."""
    titles: tuple[str, ...]
    """K names for people; empty where the labels are names."""
    size: int
    """Side in pixels of the images that it takes; 0 where it takes features."""
    width: int
    """Numbers in each row of features that it takes; 0 where it takes images."""
    interpolation: str
    """How an image is resized: a key of ``data.resize.FILTERS``."""
    thresholds: Mapping[str, float]
    """Coverage -> least probability of a class in a prediction set, see ``predict.batch``."""
    flip_tta_below: float
    """Probability of the likeliest class below which the mirrored image is predicted too."""
    prior: Prior | None
    """P(class) of the labels that it was trained on, see ``predict.prior``; None of earlier versions."""
    digest: str
    """sha256 of the graph."""
    session: Any
    """onnxruntime's, of one thread."""
    threads: int
    """Calls that run at once."""
    pool: ThreadPoolExecutor
    """Of so many threads, started when they are needed."""

    def __repr__(self) -> str:
        return f"Runtime({len(self.labels)} classes, {self.takes}, {self.digest[:12]})"

    @property
    def takes(self) -> str:
        """What it takes, in words: ``160 px``, ``features of 768 numbers``."""
        return f"features of {self.width:,} numbers" if self.width else f"{self.size} px"

    @property
    def target(self) -> TargetSize:
        """The size that images are resized to."""
        return TargetSize(self.size, self.interpolation)

    def probabilities(self, images: Batch | Matrix) -> Probs:
        """P(class) (B, K), float32, of RGB images (B, size, size, 3), with test-time augmentation, or of
        features (B, width).
        """
        self._check(images)
        return self.without_tta(images) if self.width else self.with_tta(self.without_tta(images), images)

    @property
    def has_outlier_score(self) -> bool:
        """Whether ``scored`` gives one: not of earlier models, nor of fine-tuned ones."""
        return len(self.session.get_outputs()) > 1

    def scored(self, images: Batch | Matrix) -> tuple[Probs, PerImage | None]:
        """``probabilities``, and the outlier score (B,) of the images as they are."""
        if not self.has_outlier_score or not len(images):
            return self.probabilities(images), np.zeros(0) if self.has_outlier_score else None
        self._check(images)
        plain, score = (np.concatenate(parts) for parts in zip(*self._in_parts(images, 2), strict=True))
        return plain if self.width else self.with_tta(plain, images), score.astype(np.float64)

    def with_tta(self, plain: Probs, images: Batch) -> Probs:
        """P(class) (B, K) with test-time augmentation, of images whose ``without_tta`` is known."""
        return flip_tta(plain, lambda rows: self.without_tta(images[rows][:, :, ::-1]), self.flip_tta_below)

    def without_tta(self, images: Batch | Matrix) -> Probs:
        """P(class) (B, K), float32, as the graph gives it for the images as they are."""
        if not len(images):
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        return np.concatenate([probs for (probs,) in self._in_parts(images, 1)])

    def _check(self, images: Batch | Matrix) -> None:
        if self.width:
            if images.ndim != 2 or images.shape[1] != self.width:
                raise ValueError(f"features: expected (N, {self.width}), got {images.shape}")
        elif images.shape[1:] != (self.size, self.size, 3) or images.dtype != np.uint8:
            raise ValueError(
                f"images: expected uint8 (N, {self.size}, {self.size}, 3), got {images.dtype} {images.shape}"
            )

    def _in_parts(self, images: Batch | Matrix, count: int) -> list[list[np.ndarray]]:
        """The first outputs of the graph, for a few images at a time, several parts at once."""
        n = len(images)
        parts = np.array_split(images, max(-(-n // CALL), min(self.threads, n)))
        run = partial(self._run, outputs=(OUTPUT, OUTLIER_OUTPUT)[:count])
        return [run(images)] if len(parts) == 1 else list(self.pool.map(run, parts))

    def _run(self, part: Batch | Matrix, outputs: Sequence[str]) -> list[np.ndarray]:
        name, kind = (FEATURES_INPUT, np.float32) if self.width else (INPUT, np.uint8)
        try:
            found, *more = self.session.run(outputs, {name: np.ascontiguousarray(part, dtype=kind)})
        except Exception as error:  # onnxruntime's exceptions have no common class but this one
            raise _explained("run", error) from error
        # NaN is neither.
        good = found.shape == (len(part), len(self.labels)) and ((found >= 0) & (found <= ROUNDED_ONE)).all()
        if not good:
            raise ModelError("model.onnx: expected probabilities of each image and label, got others")
        if not all(one.shape == (len(part),) and np.isfinite(one).all() for one in more):
            raise ModelError("model.onnx: expected an outlier score of each image, got others")
        return [found, *more]


def flip_tta(plain: Probs, mirrored: Callable[[Int[np.ndarray, "A"]], Probs], below: float) -> Probs:
    """The geometric mean of both predictions where the first is unsure; ``plain`` elsewhere.

    Parameters
    ----------
    plain : P(class) (N, K) of images as they are
    mirrored : P(class) (A, K) of the mirrors of the images at some rows; not called if none is unsure
    below : probability of the most probable class under which an image is unsure; 0 for no TTA
    """
    # Where a model is sure the mirror would change nothing: nearly all the gain for a few more predictions.
    unsure = np.flatnonzero(plain.max(axis=1) < below)
    if not len(unsure):
        return plain
    probs = plain.copy()
    # Both count the same, so one temperature and bias may calibrate each of them or their mean.
    both = np.sqrt(np.maximum(plain[unsure], TINY) * np.maximum(mirrored(unsure), TINY))
    probs[unsure] = both / both.sum(axis=1, keepdims=True)
    return probs


def load_runtime(model: Model | Path | str, threads: int | None = None) -> Runtime:
    """The model in onnxruntime, after its graph was checked.

    Parameters
    ----------
    model : a Model, a model folder, a run folder, or an ``.onnx`` file of ``assay export``
    threads : calls that run at once; by default as many as this process has cores
    """
    if not isinstance(model, Model):
        if Path(model).suffix.lower() == ".onnx":
            return _load_file(Path(model), threads)
        model = read_model(model)
    if not model.graph:
        raise ModelError(
            "expected a model with model.onnx, which is what predicts, got one without; make it "
            "again with --overwrite"
        )
    try:
        facts = _Facts(
            labels=model.labels,
            titles=model.titles,
            size=model.size,
            width=model.width,
            interpolation=model.interpolation,
            conformal=msgspec.convert(model.facts.get("conformal", {}), dict[str, Probability]),
            flip_tta_below=model.flip_tta_below,
            class_prior=msgspec.convert(model.facts.get("class_prior", ()), tuple[Probability, ...]),
        )
        facts.check()
    except ValueError as error:  # msgspec's too
        raise ModelError(f"config.json: expected facts as assay writes them, got others ({error})") from error
    return _ready(facts, model.graph, threads)


class _Facts(msgspec.Struct):
    """What a lone ONNX file says in its metadata, and a model folder in its config."""

    labels: tuple[str, ...]
    titles: tuple[str, ...]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]
    interpolation: str
    width: Annotated[int, msgspec.Meta(ge=0)] = 0
    conformal: dict[str, Probability] = {}
    flip_tta_below: Probability = 0.0
    class_prior: tuple[Probability, ...] = ()

    def check(self) -> None:
        # What types cannot express.
        k = len(self.labels)
        if len({*self.labels}) < k or len(self.titles) not in (0, k) or self.interpolation not in FILTERS:
            raise ValueError(f"{k} labels, {len(self.titles)} titles, interpolation {self.interpolation}")
        if (self.size > 0) == (self.width > 0):
            raise ValueError(
                f"expected a side of images or a number of features, got {self.size}, {self.width}"
            )
        prior = self.class_prior
        if prior and (len(prior) != k or not min(prior) > 0 or abs(sum(prior) - 1) > TOLERANCE):
            raise ValueError(f"class_prior: expected {k} shares above 0 that sum to 1, got {prior}")
        if not all(0 < float(share) < 1 for share in self.conformal):
            raise ValueError(f"conformal: expected shares between 0 and 1, got {', '.join(self.conformal)}")


def _load_file(file: Path, threads: int | None) -> Runtime:
    graph = read_model_file(file)
    try:
        metadata = read_metadata(graph)
        as_json = {"labels", "titles", "conformal", "class_prior"} & metadata.keys()
        facts = msgspec.convert(
            metadata | {name: json.loads(metadata[name]) for name in as_json}, _Facts, strict=False
        )
        facts.check()
        # The graph of a model folder has no hash in it: the manifest beside it has.
        if {"figures", "precision"} & metadata.keys() and metadata.get(SHA256) != digest_of(graph, metadata):
            raise ValueError("its sha256 is not the one in its metadata: it was changed or damaged")
        return _ready(facts, graph, threads)
    except (ModelError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected a file of assay export, got another ({error})") from error


def _ready(facts: _Facts, graph: bytes, threads: int | None) -> Runtime:
    threads = threads or cores()
    return Runtime(
        labels=facts.labels,
        titles=facts.titles,
        size=facts.size,
        width=facts.width,
        interpolation=facts.interpolation,
        thresholds=facts.conformal,
        flip_tta_below=facts.flip_tta_below,
        prior=np.array(facts.class_prior) if facts.class_prior else None,
        digest=hashlib.sha256(graph).hexdigest(),
        session=_session(check_graph(graph, facts.size, len(facts.labels), facts.width)),
        threads=threads,
        pool=ThreadPoolExecutor(threads, "predict"),
    )


def _session(graph: bytes) -> Any:
    import onnxruntime

    # On Windows, Microsoft's builds report how they are used unless this is called.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions; nothing else is printed
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise _explained("load", error) from error


def _explained(what: str, error: Exception) -> Exception:
    """Onnxruntime's exception as one of ours, or as MemoryError where the machine is at fault."""
    if isinstance(error, MemoryError):
        return error
    words = str(error)
    wanted = re.search(r"Failed to allocate memory for requested buffer of size (\d+)", words)
    if "bad_alloc" in words or (wanted and int(wanted[1]) < NO_IMAGE_NEEDS):
        return MemoryError(words)
    return ModelError(f"model.onnx: onnxruntime cannot {what} it: {words}")
