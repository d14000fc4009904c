"""Model: a backbone with a head, as a folder of JSON and safetensors that anyone may open safely.

::

    model/
    ├── config.json         timm-shaped, with our part under "assay"
    ├── model.safetensors   backbone.* and head.*
    ├── labels.json         the labels in order, and the names for people if there are any
    ├── README.md           the model card
    └── manifest.json       sha256 of each file above: checked before anything is read

Nothing is ever unpickled, and no name from a file is ever imported.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from assay._errors import ModelError
from assay._types import Matrix, Probs
from assay.data.write import write_bytes_atomic, write_json, write_text_atomic
from assay.embed.weights import file_digest
from assay.learn.layers import Layers

SCHEMA = 1
"""Raised when a reader of the old form would misread the new one."""

FILES = ("config.json", "model.safetensors", "labels.json", "README.md")


@dataclass(frozen=True)
class Model:
    """All that predicting needs."""

    architecture: str
    """timm's name of the backbone, or ``tiny`` or ``histogram``."""
    size: int
    """Side in pixels of the images that the backbone takes."""
    labels: tuple[str, ...]
    """The K labels, as they came in."""
    head: Layers
    """Features (N, D) to calibrated probabilities (N, K)."""
    titles: tuple[str, ...] = ()
    """K names for people; empty where the labels are names."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Per channel: ``(pixel / 255 - mean) / std``."""
    backbone: Mapping[str, np.ndarray] = field(default_factory=dict)
    """timm's names -> tensors; empty for a backbone without weights."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Recipe, seed, figures: kept in config.json, never needed to predict."""

    def __post_init__(self) -> None:
        if self.head.n_classes != len(self.labels):
            raise ModelError(
                f"expected one output for each label, got {self.head.n_classes} and {len(self.labels)}"
            )

    def probabilities(self, features: Matrix) -> Probs:
        """P(class) (N, K) from the backbone's features (N, D)."""
        return self.head.probabilities(features)

    def save(self, folder: Path, card: str = "") -> None:
        """Write the folder; the manifest comes last, so a half-written model is refused."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"backbone.{name}": np.ascontiguousarray(tensor) for name, tensor in self.backbone.items()}
        tensors |= {name: np.ascontiguousarray(tensor) for name, tensor in self.head.tensors().items()}
        write_bytes_atomic(folder / "model.safetensors", save(tensors))
        write_json(folder / "config.json", self._config())
        write_json(folder / "labels.json", {"labels": self.labels, "titles": self.titles})
        write_text_atomic(folder / "README.md", card)
        write_json(folder / "manifest.json", {"schema": SCHEMA, "sha256": _hashes(folder)})

    def _config(self) -> dict[str, Any]:
        pretrained = {"input_size": [3, self.size, self.size], "mean": self.mean, "std": self.std}
        return {
            "architecture": self.architecture,
            "num_classes": len(self.labels),
            "label_names": self.titles or self.labels,
            "pretrained_cfg": {**pretrained, "interpolation": "bicubic", "crop_pct": 1.0},
            "assay": {"schema": SCHEMA, **self.facts},
        }


def _hashes(folder: Path) -> dict[str, str]:
    return {name: file_digest(folder / name) for name in FILES}


def load_model(path: Path | str) -> Model:
    """The model of a model folder, or of a run folder.

    Raises
    ------
    ModelError : not a model of ours, a newer one, or a file that was changed after it was written
    """
    folder = _model_folder(Path(path))
    _verify(folder)
    config, labels = _read_json(folder / "config.json"), _read_json(folder / "labels.json")
    try:
        tensors = load_file(folder / "model.safetensors")
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"{folder / 'model.safetensors'}: expected safetensors, got something else ({error})"
        ) from error
    pretrained, facts = config["pretrained_cfg"], dict(config["assay"])
    if facts.pop("schema", None) != SCHEMA:
        raise ModelError(
            f"{folder}: expected a model of schema {SCHEMA}, got a newer or unknown one; update assay"
        )
    return Model(
        architecture=str(config["architecture"]),
        size=int(pretrained["input_size"][1]),
        labels=tuple(labels["labels"]),
        titles=tuple(labels["titles"]),
        mean=tuple(pretrained["mean"]),
        std=tuple(pretrained["std"]),
        backbone={name[9:]: tensor for name, tensor in tensors.items() if name.startswith("backbone.")},
        head=Layers.from_tensors(tensors),
        facts=facts,
    )


def _model_folder(path: Path) -> Path:
    """``path`` itself, or the ``model`` in it when it is a run folder."""
    if path.is_file():
        raise ModelError(
            f"{path}: expected a model folder with manifest.json, got a file; model files that may run "
            "code when opened (pickle, .pth, .joblib, .keras) are never opened"
        )
    for folder in (path, path / "model"):
        if (folder / "manifest.json").is_file():
            return folder
    raise ModelError(
        f"{path}: expected a model folder or a run folder, found no manifest.json; was the run finished?"
    )


def _verify(folder: Path) -> None:
    expected = _read_json(folder / "manifest.json").get("sha256", {})
    for name in FILES:
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: expected {name}, which is not there; copy the whole folder")
        if file_digest(folder / name) != expected.get(name):
            raise ModelError(
                f"{folder / name}: its sha256 is not the one in manifest.json; the file was changed or damaged"
            )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected JSON, got something else ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: expected a JSON object, got {type(found).__name__}")
    return found
