"""Weights of a backbone: from a local file, a pip package, or the hub; the hash comes first."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.spelling import closest
from assay.embed.packaged import PACKAGED, read_bytes, read_packaged
from assay.errors import ModelError, UsageError


@dataclass(frozen=True)
class Weights:
    """The tensors of a backbone and where they came from."""

    tensors: Mapping[str, Any]
    """Tensors in the source's order; names may differ from timm's."""
    digest: str
    """sha256 of the file that they were read from."""
    origin: str
    """``package``, ``file`` or ``hub``, for people and for run.json."""


def find_weights(name: str, cache: Path, local: Path | None = None) -> Weights:
    """Weights for timm's model ``name``: the local file if given, else the pip package, else the hub.

    Parameters
    ----------
    cache : folder that keeps the package's weights as safetensors

    Raises
    ------
    UsageError : a name that timm does not know; or weights that only the hub has, and ``ASSAY_OFFLINE=1``
        forbids it or it cannot be reached
    ModelError : a file whose hash is not the pinned one, or that is not a set of tensors
    """
    check_name(name)
    if local is not None:
        return _from_file(local)
    if name in PACKAGED:
        packaged = PACKAGED[name]
        return Weights(read_packaged(packaged, cache), packaged.sha256, "package")
    return _from_hub(name)


def check_name(name: str) -> None:
    """UsageError unless timm knows ``name``; so no name ever leads to a stranger's repository or folder."""
    import timm

    if not timm.is_model(name):
        likely = closest(name, ["tiny", *timm.list_models()])
        hint = f"did you mean {likely!r}?" if likely else f"use one of {', '.join(PACKAGED)}"
        raise UsageError(f"--backbone: expected the name of a model of timm, got {name!r}; {hint}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        stem = name.partition(".")[0]
        raise UsageError(
            f"--backbone: expected weights of {stem!r} that timm knows, got {name!r}; "
            f"timm.list_pretrained('{stem}*') names them"
        ) from error


def _from_file(path: Path) -> Weights:
    """A safetensors file; anything else would have to be unpickled."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise UsageError(f"{path}: expected a safetensors file with the backbone's weights, found no file")
    data = read_bytes(path)
    try:
        return Weights(load(data), hashlib.sha256(data).hexdigest(), "file")
    except SafetensorError as error:
        raise ModelError(
            f"{path}: expected a safetensors file, got something else ({error}); "
            "convert it with safetensors.torch.save_file"
        ) from error


def _from_hub(name: str) -> Weights:
    """The one place that may use the network, and only for a backbone that the user named.

    timm takes safetensors where there are any, and reads the rest with ``weights_only``.
    """
    import timm

    instead = f"give a local file with --weights, or use one of {', '.join(PACKAGED)}"
    if os.environ.get("ASSAY_OFFLINE") == "1":
        raise UsageError(
            f"the weights of {name!r} would come from the hub, and ASSAY_OFFLINE=1 forbids it; {instead}"
        )
    try:
        tensors = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub client raises a dozen unrelated types
        why = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"the weights of {name!r} could not be had from the hub ({why}); {instead}"
        ) from error
    return Weights(tensors, tensors_digest(tensors), "hub")


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """sha256 over names, shapes and values, in order."""
    import torch

    digest = hashlib.sha256()
    for key, value in tensors.items():
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
