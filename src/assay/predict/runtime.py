"""Runtime: a saved model's graph in onnxruntime. No torch is needed, and nothing is downloaded.

Each call runs in one thread, and several calls at once. Two threads inside a call of a small network wait
for each other after every layer: on two cores, an int8 EfficientNet-Lite0 at 96 px took 1.7 ms for an image
with two and 1.2 ms with one; for each of 32 images 0.82 ms with two, 0.53 with one for either half.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.dataset import Skipped
from assay.data.images import decode
from assay.data.limits import USUAL, Limits
from assay.data.resize import FILTERS, Square, to_square
from assay.embed.device import cores
from assay.errors import ModelError
from assay.predict.flip_tta import flip_tta
from assay.predict.graph_check import INPUT, OUTPUT, SHA256, check_graph, digest_of, read_metadata
from assay.predict.model import MOST_PIXELS, Model, read_model
from assay.predict.package import read_model_file
from assay.types import Batch, Pixels, Probs

BATCH = 32
"""Images that are handed over together where there are many, and that figures of batches are of."""

ROUNDED_ONE = 1.001
"""A probability of 1 after int8 or float16 rounded it."""

CALL = 16
"""Images in one call at most: with more, a call leaves the processor's cache and holds more memory."""


@dataclass(frozen=True)
class Facts:
    """What a model says of itself, in its folder or in the metadata of a lone file."""

    labels: tuple[str, ...]
    """The K labels, as they came in."""
    titles: tuple[str, ...]
    """K names for people; empty where the labels are names."""
    size: int
    """Side in pixels of the images that it takes."""
    interpolation: str
    """How an image becomes a square of that size: a key of ``data.resize.FILTERS``."""
    thresholds: Mapping[str, float]
    """Coverage -> least probability of a class in a prediction set, see ``predict.conformal``."""
    flip_tta_below: float
    """Probability of the likeliest class below which an image is looked at again, mirrored."""


@dataclass(frozen=True)
class Runtime(Facts):
    """A model that is ready to predict; threads may share it."""

    digest: str
    """sha256 of the graph."""
    session: Any
    """onnxruntime's, of one thread."""
    threads: int
    """Calls that run at once."""
    pool: ThreadPoolExecutor
    """Of so many threads, which begin when they are needed."""

    def see(self, data: bytes | Skipped, limits: Limits = USUAL) -> Square | Skipped:
        """An image file as the model sees it, or why it cannot be used."""
        found = decode(data, at_least=self.size, limits=limits) if isinstance(data, bytes) else data
        return found if isinstance(found, Skipped) else self.square(found.pixels)

    def square(self, pixels: Pixels) -> Square:
        """Upright RGB pixels as the model sees them."""
        return to_square(pixels, self.size, self.interpolation)

    def probabilities(self, images: Batch) -> Probs:
        """P(class) (B, K), float32, of RGB images (B, size, size, 3), after a second look where it is unsure.

        Raises
        ------
        ValueError : images of another size or type
        ModelError : the graph cannot be run
        """
        if images.shape[1:] != (self.size, self.size, 3) or images.dtype != np.uint8:
            raise ValueError(
                f"images: expected uint8 (N, {self.size}, {self.size}, 3), got {images.dtype} {images.shape}"
            )
        return flip_tta(
            self.without_tta(images),
            lambda rows: self.without_tta(images[rows][:, :, ::-1]),
            self.flip_tta_below,
        )

    def without_tta(self, images: Batch) -> Probs:
        """P(class) (B, K), float32, as the graph gives it of the images as they are.

        Raises
        ------
        ModelError : the graph cannot be run
        """
        n, none = len(images), np.zeros((0, len(self.labels)), dtype=np.float32)
        parts = np.array_split(images, max(-(-n // CALL), min(self.threads, n), 1))
        if len(parts) == 1:
            return self._run(images) if n else none
        return np.concatenate(list(self.pool.map(self._run, parts)))

    def _run(self, part: Batch) -> Probs:
        try:
            (found,) = self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(part)})
        except Exception as error:  # onnxruntime's exceptions have no common class but this one
            raise _fault("run", error) from error
        # NaN is neither.
        good = found.shape == (len(part), len(self.labels)) and ((found >= 0) & (found <= ROUNDED_ONE)).all()
        if not good:
            raise ModelError("model.onnx: expected probabilities of each image and label, got others")
        probs: Probs = found
        return probs


def load_runtime(model: Model | Path | str, threads: int | None = None) -> Runtime:
    """The model in onnxruntime, its graph checked before.

    Parameters
    ----------
    model : a Model, a model folder, a run folder, or an ``.onnx`` file of ``assay export``
    threads : calls that run at once; by default as many as this process has cores

    Raises
    ------
    ModelError : no model, a damaged one, one without a graph, or a graph that is not one of ours
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
    check_graph(model.graph, model.size, len(model.labels))
    thresholds = _thresholds(model.facts.get("conformal", {}))
    facts = Facts(
        model.labels, model.titles, model.size, model.interpolation, thresholds, model.flip_tta_below
    )
    return _ready(facts, model.graph, threads)


def _load_file(file: Path, threads: int | None) -> Runtime:
    """The runtime of a lone ONNX file, which says in its metadata what a model folder says beside it."""
    graph = read_model_file(file)
    try:
        told = read_metadata(graph)
        labels, titles = (_names(told[name]) for name in ("labels", "titles"))
        size, interpolation = int(told["size"]), told["interpolation"]
        thresholds = _thresholds(json.loads(told.get("conformal", "{}")))
        # A file that looks once does not say so.
        flip_tta_below = float(told.get("flip_tta_below", 0))
        if not (1 <= size <= MOST_PIXELS and interpolation in FILTERS and len(titles) in (0, len(labels))):
            raise ValueError(f"size {size}, {interpolation}, {len(labels)} labels, {len(titles)} titles")
        if not 0 <= flip_tta_below <= 1:
            raise ValueError(f"second_look_below {flip_tta_below}")
        # The graph of a model folder has none: the manifest beside it knows its hash.
        if {"figures", "precision"} & told.keys() and told.get(SHA256) != digest_of(graph, told):
            raise ValueError("its sha256 is not the one that it names: it was changed or damaged")
        check_graph(graph, size, len(labels))
    except (ModelError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected a file of assay export, got another ({error})") from error
    facts = Facts(labels, titles, size, interpolation, thresholds, flip_tta_below)
    return _ready(facts, graph, threads)


def _ready(facts: Facts, graph: bytes, threads: int | None) -> Runtime:
    threads = threads or cores()
    return Runtime(
        **vars(facts),
        digest=hashlib.sha256(graph).hexdigest(),
        session=_session(graph),
        threads=threads,
        pool=ThreadPoolExecutor(threads, "predict"),
    )


def _names(text: str) -> tuple[str, ...]:
    found = json.loads(text)
    names = tuple(found) if isinstance(found, list) else ()
    if found != [*names] or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise ValueError(f"expected a list of names that differ, got {text[:60]}")
    return names


def _thresholds(found: Any) -> dict[str, float]:
    """Those of prediction sets, as a file has them.

    Raises
    ------
    ModelError : shares or probabilities that are none
    """
    try:
        read = {str(share): float(least) for share, least in found.items()}
        good = all(0 < float(share) < 1 and 0 <= least <= 1 for share, least in read.items())
    except (AttributeError, TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise ModelError("conformal: expected probabilities for shares from 0 to 1, got others")
    return read


def _session(graph: bytes) -> Any:
    import onnxruntime

    # On Windows, Microsoft's builds report how they are used unless they are told not to.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Errors come as exceptions: nothing else is printed.
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the same
        raise _fault("load", error) from error


def _fault(what: str, error: Exception) -> Exception:
    """What onnxruntime's exception means."""
    if isinstance(error, MemoryError):
        return error
    words = str(error)
    wanted = re.search(r"Failed to allocate memory for requested buffer of size (\d+)", words)
    if "bad_alloc" in words or (wanted and int(wanted[1]) < _NO_IMAGE_NEEDS):
        return MemoryError(words)
    return ModelError(f"model.onnx: onnxruntime cannot {what} it: {words}")


_NO_IMAGE_NEEDS = 2**33
"""Bytes; a graph that asks for more at once is at fault, not the machine."""
