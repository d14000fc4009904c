"""Model: a backbone with a head, as a folder of JSON, safetensors and ONNX that anyone may open safely.

::

    model/
    ├── config.json         timm-shaped, with our part under "assay"
    ├── model.safetensors   backbone.* and head.*
    ├── model.onnx          pixels to P(class), the same network; absent from a model that was not exported
    ├── labels.json         the labels in order, and the names for people if there are any
    ├── README.md           the model card
    └── manifest.json       sha256 of each file above, written last and checked first

Each file is read once, hashed, and parsed from memory. Nothing is unpickled; no name from a file is imported.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from assay.data.dataset import Skipped
from assay.data.files import file_digest, read_named
from assay.data.resize import FILTERS
from assay.data.write import make_folder, write_bytes_atomic, write_json, write_text_atomic
from assay.embed.backbone import FEATURES
from assay.errors import ModelError
from assay.predict.layers import Layers
from assay.types import Matrix, Probs

SCHEMA = 1
"""Raised when a reader of the old form would misread the new one."""

FILES = ("config.json", "model.safetensors", "labels.json", "README.md")
"""What every model has."""

GRAPH, MANIFEST = "model.onnx", "manifest.json"

PACKAGE = (*FILES, GRAPH, MANIFEST)
"""All of a model's folder; other files may lie beside."""

MAX_FILE_BYTES = 2**31
"""ONNX has no larger files."""

GIVEN = "features"
"""The architecture of a model that takes features in place of images."""

WITHOUT_WEIGHTS = ("tiny", "histogram", GIVEN)
"""Backbones that have no tensors."""

MAX_SIZE = 4096
"""A side in pixels beyond any backbone's; a file's claim decides how much memory predicting takes."""


@dataclass(frozen=True)
class Model:
    """All that predicting needs."""

    architecture: str
    """timm's name of the backbone, or ``tiny``, ``histogram``, ``conv`` or ``features``."""
    size: int
    """Side in pixels of the images that the backbone takes; 0 where the model takes features."""
    labels: tuple[str, ...]
    """The K labels, as they came in."""
    head: Layers
    """Features (N, D) to calibrated probabilities (N, K)."""
    titles: tuple[str, ...] = ()
    """K names for people; empty where the labels are names."""
    mean: tuple[float, ...] = ()
    """Per channel: ``(pixel / 255 - mean) / std``; empty for a backbone without weights."""
    std: tuple[float, ...] = ()
    backbone: Mapping[str, np.ndarray] = field(default_factory=dict)
    """timm's names -> tensors; empty for a backbone without weights."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """System, seed, figures: kept in config.json, never needed to predict."""
    interpolation: str = "bicubic"
    """How an image is resized: a key of ``data.resize.FILTERS``."""
    features: str = "stages"
    """What the head takes, one of ``FEATURES``; a backbone without stages has features of its own."""
    flip_tta_below: float = 0.0
    """The mirror of an image whose likeliest class is less probable is predicted too: see ``flip_tta``."""
    graph: bytes = field(default=b"", repr=False)
    """The ONNX file, uint8 images (N, S, S, 3) or float32 features (N, D) -> P(class) (N, K); empty where
    nothing was exported."""

    def __post_init__(self) -> None:
        k = len(self.labels)
        if self.head.n_classes != k:
            raise ModelError(f"expected one output for each label, got {self.head.n_classes} and {k}")
        if len(set(self.labels)) < k or len(self.titles) not in (0, k):
            raise ModelError(
                f"expected {k} labels that differ, and as many titles or none, "
                f"got {len(set(self.labels))} and {len(self.titles)}"
            )
        # A name, never a path or an address.
        if not re.fullmatch(r"\w+(\.\w+)*", self.architecture):
            raise ModelError(f"architecture: expected the name of a backbone, got {self.architecture!r}")
        for name, value, least, most in (
            ("size", self.size, *((0, 0) if self.width else (1, MAX_SIZE))),
            ("flip_tta_below", self.flip_tta_below, 0, 1),
        ):
            if not least <= value <= most:  # not "less or greater": NaN must not pass
                raise ModelError(f"{name}: expected from {least} to {most}, got {value}")
        for name, choice, known in (
            ("interpolation", self.interpolation, tuple(FILTERS)),
            ("features", self.features, FEATURES),
        ):
            if choice not in known:
                raise ModelError(f"{name}: expected {' or '.join(known)}, got {choice!r}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, 3):
            raise ModelError(f"expected mean and std of three channels, got {self.mean} and {self.std}")
        numbers: dict[str, Any] = {"mean": self.mean, "std": self.std, **self.backbone}
        for name, values in numbers.items():
            if not np.isfinite(values).all():
                raise ModelError(f"{name}: expected finite numbers, got NaN or infinity")

    @property
    def width(self) -> int:
        """D where the model takes features (N, D); 0 where it takes images."""
        return len(self.head.mean) if self.architecture == GIVEN else 0

    def probabilities(self, features: Matrix) -> Probs:
        """P(class) (N, K) from the backbone's features (N, D)."""
        return self.head.probabilities(features)

    def save(self, folder: Path | str, card: str = "") -> None:
        """Write the folder, with ``card`` as its README.md."""
        folder = Path(folder)
        make_folder(folder)
        write_bytes_atomic(folder / "model.safetensors", save(self.tensors()))
        config = {
            "architecture": self.architecture,
            "num_classes": len(self.labels),
            "label_names": self.titles or self.labels,
            "pretrained_cfg": {
                "input_size": [self.width] if self.width else [3, self.size, self.size],
                "mean": self.mean,
                "std": self.std,
                "interpolation": FILTERS[self.interpolation].name.lower(),
                "crop_pct": 1.0,
            },
            # Ours come last: whatever the facts are called, the schema and the choices are the model's.
            "assay": {
                **self.facts,
                "schema": SCHEMA,
                "features": self.features,
                "interpolation": self.interpolation,
                "flip_tta_below": self.flip_tta_below,
                "activation": self.head.activation,
            },
        }
        write_json(folder / "config.json", config)
        write_json(folder / "labels.json", {"labels": self.labels, "titles": self.titles})
        write_text_atomic(folder / "README.md", card)
        if self.graph:
            write_bytes_atomic(folder / GRAPH, self.graph)
        else:
            (folder / GRAPH).unlink(missing_ok=True)
        write_manifest(folder)  # last, so that a half-written model is refused

    def tensors(self) -> dict[str, np.ndarray]:
        """Names and arrays of backbone and head, for a file."""
        named = {f"backbone.{name}": tensor for name, tensor in self.backbone.items()}
        # In the order of memory that safetensors takes; ascontiguousarray would give a lone number a shape.
        return {name: np.asarray(part, order="C") for name, part in (named | self.head.tensors()).items()}


class _Pretrained(msgspec.Struct):
    input_size: tuple[int, ...]
    """Channels and sides; or the number of features."""
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Config(msgspec.Struct):
    """Keys that are not here are ignored: a later version may write more."""

    architecture: str
    num_classes: int
    pretrained_cfg: _Pretrained
    assay: dict[str, Any]
    """``_Choices``, and the facts."""


class _Choices(msgspec.Struct):
    schema: int
    features: str
    interpolation: str
    flip_tta_below: float
    activation: str


class _Labels(msgspec.Struct):
    labels: tuple[str, ...]
    titles: tuple[str, ...]


class _Manifest(msgspec.Struct):
    schema: int
    sha256: dict[str, str]


_T = TypeVar("_T")


def read_model(path: Path | str) -> Model:
    """The model of a model folder, or of a run folder.

    Raises
    ------
    ModelError : not a model of ours, a newer one, or a file that was changed after it was written
    """
    folder = find_folder(Path(path))
    contents = read_files(folder)
    config = _parse(folder / "config.json", contents["config.json"], _Config)
    choices = _convert(folder / "config.json", config.assay, _Choices)
    labels = _parse(folder / "labels.json", contents["labels.json"], _Labels)
    try:
        tensors = load(contents["model.safetensors"])  # of the bytes that were hashed, not of the file
    except (SafetensorError, TypeError, KeyError, ValueError) as error:  # the last three: a type of no array
        raise ModelError(
            f"{folder / 'model.safetensors'}: expected safetensors, got something else ({error})"
        ) from error
    if choices.schema != SCHEMA:
        raise ModelError(f"{folder}: expected a model of schema {SCHEMA}, got {choices.schema}; update assay")
    try:
        model = Model(
            architecture=config.architecture,
            size=(*config.pretrained_cfg.input_size, 0, 0)[1],
            labels=labels.labels,
            titles=labels.titles,
            mean=config.pretrained_cfg.mean,
            std=config.pretrained_cfg.std,
            backbone={
                name.removeprefix("backbone."): tensor
                for name, tensor in tensors.items()
                if name.startswith("backbone.")
            },
            head=Layers.from_tensors(tensors, choices.activation),
            facts={
                name: fact for name, fact in config.assay.items() if name not in _Choices.__struct_fields__
            },
            interpolation=choices.interpolation,
            features=choices.features,
            flip_tta_below=choices.flip_tta_below,
            graph=contents.get(GRAPH, b""),
        )
        if config.num_classes != len(model.labels):
            raise ModelError(f"config.json has {config.num_classes} classes, labels.json {len(model.labels)}")
        others = [name for name in tensors if not name.startswith(("backbone.", "head."))]
        if others:
            raise ModelError(f"expected tensors of backbone and head, got {others[0]!r} too")
        # Without this the weights of any named backbone would be fetched from the network.
        if not model.backbone and model.architecture not in WITHOUT_WEIGHTS:
            raise ModelError(f"expected the tensors of the backbone {model.architecture!r}, got none")
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    return model


def package_bytes(folder: Path) -> int:
    """Bytes on disk of the model in ``folder``."""
    files = (folder / name for name in PACKAGE)
    return sum(file.stat().st_size for file in files if file.is_file())


def write_manifest(folder: Path) -> None:
    """Write the manifest of the files in ``folder``; the last step of writing them."""
    names = (*FILES, GRAPH) if (folder / GRAPH).is_file() else FILES
    hashes = {name: file_digest(folder / name) for name in names}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "sha256": hashes})


def find_folder(path: Path) -> Path:
    """``path`` itself, or the ``model`` in it when it is a run folder."""
    try:
        if path.is_file():
            raise ModelError(
                f"{path}: expected a model folder with {MANIFEST}, got a file; model files that may run "
                "code when opened (pickle, .pth, .joblib, .keras) are never opened"
            )
        for folder in (path, path / "model"):
            if (folder / MANIFEST).is_file():
                return folder
    except OSError as error:
        raise ModelError(f"{path}: expected a folder that can be read ({error.strerror})") from error
    raise ModelError(
        f"{path}: expected a model folder or a run folder, found no {MANIFEST}; was the run finished?"
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """The bytes of each file of ``FILES``, and of ``GRAPH`` if there is one, checked against the manifest."""
    file = folder / MANIFEST
    manifest = _parse(file, read_model_file(file), _Manifest)
    if manifest.schema != SCHEMA:
        raise ModelError(f"{file}: expected schema {SCHEMA}, got {manifest.schema}; update assay")
    # Named or there: a graph that was taken away is missed, and one that was slipped in is not run.
    has_graph = GRAPH in manifest.sha256 or (folder / GRAPH).exists()
    contents = {}
    for name in (*FILES, GRAPH) if has_graph else FILES:
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: expected {name}, which is not there; copy the whole folder")
        contents[name] = read_model_file(folder / name)
        if hashlib.sha256(contents[name]).hexdigest() != manifest.sha256.get(name):
            raise ModelError(
                f"{folder / name}: its sha256 is not the one in {MANIFEST}; the file was changed or damaged, "
                "copy the whole folder again"
            )
    return contents


def read_model_file(file: Path) -> bytes:
    """The bytes of a regular file that is no larger than any model."""
    found = read_named(file, MAX_FILE_BYTES)
    if isinstance(found, Skipped):
        raise ModelError(f"{file}: expected a file that can be read, got {found.reason}: {found.detail}")
    return found


def _parse(file: Path, data: bytes, kind: type[_T]) -> _T:
    try:
        # Not msgspec's own parser, which refuses the lone surrogates of names that are not UTF-8.
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected JSON, got something else ({error})") from error
    return _convert(file, found, kind)


def _convert(file: Path, value: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ModelError(f"{file}: expected a file as assay writes it, got another ({error})") from error
