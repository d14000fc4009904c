"""Checkpoints: all that learning goes on from after a kill, in one file that appears whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from assay.data.write import write_bytes_atomic


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch."""

    tensors: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    """As JSON has them: the epoch, the figures so far."""


def write_checkpoint(file: Path, checkpoint: Checkpoint, identity: str) -> None:
    """Replace the checkpoint at ``file``, bytes on disk first.

    Parameters
    ----------
    identity : what the state depends on; another identity will not read it

    Raises
    ------
    ResourceError : the disk is full; the one before stays
    """
    metadata = {"facts": json.dumps(checkpoint.facts, sort_keys=True), "identity": identity}
    # ascontiguousarray would give a lone number a shape.
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in checkpoint.tensors.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(file, save(tensors, metadata))


def is_of(file: Path, identity: str) -> bool:
    """Whether the checkpoint at ``file`` can be read, and has this identity."""
    try:
        with safe_open(file, "numpy") as opened:
            return bool((opened.metadata() or {}).get("identity") == identity)
    except (OSError, SafetensorError):
        return False


def read_checkpoint(file: Path, identity: str) -> Checkpoint | None:
    """The checkpoint at ``file``; None where there is none of this identity, or it is damaged."""
    if not is_of(file, identity):
        return None
    try:
        with safe_open(file, "numpy") as opened:
            metadata = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
        return Checkpoint(tensors, json.loads(metadata["facts"]))
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
