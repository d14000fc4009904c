"""Model: a backbone with a head, as a folder of JSON and safetensors that anyone may open safely.

::

    model/
    ├── config.json         timm-shaped, with our part under "assay"
    ├── model.safetensors   backbone.* and head.*
    ├── model.onnx          pixels to P(class), the same network; absent from models that cannot predict yet
    ├── labels.json         the labels in order, and the names for people if there are any
    ├── README.md           the model card
    └── manifest.json       sha256 of each file above: checked before anything is read

Nothing is ever unpickled, and no name from a file is ever imported.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from assay.data.resize import FILTERS
from assay.data.write import make_folder, write_bytes_atomic, write_json, write_text_atomic
from assay.embed.backbone import FEATURES
from assay.errors import ModelError
from assay.predict.layers import Layers
from assay.predict.package import (
    GRAPH,
    SCHEMA,
    find_folder,
    read_files,
    read_object,
    write_manifest,
)
from assay.types import Matrix, Probs

WEIGHTLESS = ("tiny", "histogram")
"""Backbones that have no tensors."""

MOST_PIXELS = 4096
"""A side beyond any backbone's; one that a file claims decides how much memory predicting takes."""


@dataclass(frozen=True)
class Model:
    """All that predicting needs."""

    architecture: str
    """timm's name of the backbone, or ``tiny``, ``histogram`` or ``conv``."""
    size: int
    """Side in pixels of the images that the backbone takes."""
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
    """Recipe, seed, figures: kept in config.json, never needed to predict."""
    interpolation: str = "bicubic"
    """How an image becomes a square of that size: a key of ``data.resize.FILTERS``."""
    features: str = "stages"
    """What the head looks at, one of ``FEATURES``; a backbone without stages has features of its own."""
    flip_tta_below: float = 0.0
    """An image whose likeliest class is less probable is looked at again, mirrored: see ``flip_tta``."""
    graph: bytes = field(default=b"", repr=False)
    """The ONNX file, uint8 images (N, S, S, 3) -> P(class) (N, K); empty where nothing was exported."""

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
        _check_range("size", self.size, 1, MOST_PIXELS, " pixels")
        _check_range("flip_tta_below", self.flip_tta_below, 0, 1)
        _check_choice("interpolation", self.interpolation, FILTERS)
        _check_choice("features", self.features, FEATURES)
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, 3):
            raise ModelError(f"expected mean and std of three channels, got {self.mean} and {self.std}")
        numbers: dict[str, Any] = {"mean": self.mean, "std": self.std, **self.backbone}
        for name, values in numbers.items():
            if not np.isfinite(values).all():
                raise ModelError(f"{name}: expected finite numbers, got NaN or infinity")

    def probabilities(self, features: Matrix) -> Probs:
        """P(class) (N, K) from the backbone's features (N, D)."""
        return self.head.probabilities(features)

    def save(self, folder: Path | str, card: str = "") -> None:
        """Write the folder; the manifest comes last, so a half-written model is refused.

        Parameters
        ----------
        card : the text of README.md

        Raises
        ------
        UsageError, ResourceError : the folder cannot be written, the disk is full
        """
        folder = Path(folder)
        make_folder(folder)
        tensors = {f"backbone.{name}": tensor for name, tensor in self.backbone.items()}
        # In the order of memory that safetensors takes; ascontiguousarray would give a lone number a shape.
        tensors = {
            name: np.asarray(part, order="C") for name, part in (tensors | self.head.tensors()).items()
        }
        write_bytes_atomic(folder / "model.safetensors", save(tensors))
        write_json(folder / "config.json", self._config())
        write_json(folder / "labels.json", {"labels": self.labels, "titles": self.titles})
        write_text_atomic(folder / "README.md", card)
        if self.graph:
            write_bytes_atomic(folder / GRAPH, self.graph)
        else:
            (folder / GRAPH).unlink(missing_ok=True)
        write_manifest(folder)

    def _config(self) -> dict[str, Any]:
        chosen = {
            "features": self.features,
            "interpolation": self.interpolation,
            "flip_tta_below": self.flip_tta_below,
            "activation": self.head.activation,
        }
        pretrained = {"input_size": [3, self.size, self.size], "mean": self.mean, "std": self.std}
        return {
            "architecture": self.architecture,
            "num_classes": len(self.labels),
            "label_names": self.titles or self.labels,
            "pretrained_cfg": {
                **pretrained,
                "interpolation": FILTERS[self.interpolation].name.lower(),
                "crop_pct": 1.0,
            },
            "assay": {**self.facts, "schema": SCHEMA, **chosen},
        }


def _check_choice(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ModelError(f"{name}: expected {' or '.join(known)}, got {value!r}")


def _check_range(name: str, value: int | float, least: int, most: int, unit: str = "") -> None:
    # Not "less or greater": NaN must not pass.
    if not least <= value <= most:
        raise ModelError(f"{name}: expected from {least} to {most}{unit}, got {value}")


def read_model(path: Path | str) -> Model:
    """The model of a model folder, or of a run folder.

    Raises
    ------
    ModelError : not a model of ours, a newer one, or a file that was changed after it was written
    """
    folder = find_folder(Path(path))
    contents = read_files(folder)
    config, labels = (read_object(folder / name, contents[name]) for name in ("config.json", "labels.json"))
    try:
        tensors = load(contents["model.safetensors"])
        return _assemble(config, labels, tensors, contents.get(GRAPH, b""))
    except SafetensorError as error:
        raise ModelError(
            f"{folder / 'model.safetensors'}: expected safetensors, got something else ({error})"
        ) from error
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"{folder}: expected files as assay writes them, got others ({type(error).__name__}: {error})"
        ) from error


def _assemble(
    config: Mapping[str, Any], labels: Mapping[str, Any], tensors: Mapping[str, np.ndarray], graph: bytes
) -> Model:
    facts, pretrained = dict(config["assay"]), config["pretrained_cfg"]
    if facts.pop("schema", None) != SCHEMA:
        raise ModelError(f"expected a model of schema {SCHEMA}, got a newer or unknown one; update assay")
    activation, features, interpolation = (
        facts.pop(name) for name in ("activation", "features", "interpolation")
    )
    flip_tta_below = float(facts.pop("flip_tta_below"))
    model = Model(
        architecture=str(config["architecture"]),
        size=int(pretrained["input_size"][1]),
        labels=tuple(str(label) for label in labels["labels"]),
        titles=tuple(str(title) for title in labels["titles"]),
        mean=tuple(float(value) for value in pretrained["mean"]),
        std=tuple(float(value) for value in pretrained["std"]),
        backbone={
            name.removeprefix("backbone."): tensor
            for name, tensor in tensors.items()
            if name.startswith("backbone.")
        },
        head=Layers.from_tensors(tensors, activation),
        facts=facts,
        interpolation=interpolation,
        features=features,
        flip_tta_below=flip_tta_below,
        graph=graph,
    )
    _check_whole(model, config["num_classes"], tensors)
    return model


def _check_whole(model: Model, n_classes: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """The files agree, and hold neither less nor more than a model."""
    if n_classes != len(model.labels):
        raise ModelError(f"config.json has {n_classes} classes, labels.json {len(model.labels)}")
    strange = [name for name in tensors if not name.startswith(("backbone.", "head."))]
    if strange:
        raise ModelError(f"expected tensors of backbone and head, got {strange[0]!r} too")
    # Without this the weights of any named backbone would be fetched from the network.
    if not model.backbone and model.architecture not in WEIGHTLESS:
        raise ModelError(f"expected the tensors of the backbone {model.architecture!r}, got none")
