"""A frozen pretrained network as a Backbone, at one image size, as fast as this machine runs it."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from assay.data.resize import FILTERS
from assay.embed.device import (
    Plan,
    check_address_space,
    cores,
    deterministic,
    fastest_plan,
    one_torch_thread,
    prepare,
)
from assay.embed.tiny import TinyBackbone
from assay.embed.weights import PACKAGED, find_weights
from assay.errors import MissingExtraError, UsageError
from assay.types import Backbone, Batch

DEFAULT_BACKBONE = "tf_efficientnet_lite2"
DEFAULT_SIZE = 160
LEVELS = 4
"""Stages whose outputs are the features; chosen by cross-validation, see benchmarks/LOG.md."""

FEATURES = ("stages", "map")
"""What a network may give: the means of its last stages' outputs, or its last map (C, H, W) flattened."""


@dataclass(frozen=True)
class Preprocessing:
    """A network's input: ``(pixel / 255 - mean) / std`` per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Of the packaged Lite weights' training; ImageNet's mean and std cost them 4 points."""

FROM_ZERO_TO_ONE = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def preprocessing_of(name: str) -> Preprocessing:
    """Mean and std that the weights of timm's model ``name`` were trained with."""
    import timm

    config: Any = None if name in PACKAGED else timm.get_pretrained_cfg(name)
    return Preprocessing(tuple(config.mean), tuple(config.std)) if config else HALF


@dataclass(frozen=True)
class TimmBackbone:
    """One of timm's networks at one image size."""

    name: str
    size: int
    width: int
    digest: str
    origin: str
    """Where the weights came from: ``package``, ``file`` or ``hub``."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    plan: Plan
    network: Any
    """The torch module in float32, batch norms in place: what a saved model starts from."""
    prepared: tuple[Any, ...]
    """The same folded, in the plan's dtype and layout: what computes features. One copy for each core, since
    hooks make a network unsafe to share between threads."""
    features: str
    """One of ``FEATURES``."""
    interpolation: str
    """How images are resized to squares: a key of ``data.resize.FILTERS``."""

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Features of a batch, float32; an image's do not depend on the others in its batch."""
        import torch

        plan, features = self.plan, np.zeros((len(images), self.width), dtype=np.float32)
        mean, std = (
            torch.tensor(values, device=plan.device).view(1, 3, 1, 1) for values in (self.mean, self.std)
        )
        # One iterator for all threads: whichever is done takes the next batch, so a slow core delays nobody.
        starts = iter(range(0, len(images), plan.batch))

        def embed_batches(network: Any) -> None:
            # A short batch is padded, so that each image meets the same kernels.
            full = np.zeros((plan.batch, self.size, self.size, 3), dtype=np.uint8)
            for start in starts:
                part = images[start : start + plan.batch]
                full[: len(part)] = part
                # NHWC bytes seen as NCHW are channels_last already: no copy.
                pixels = torch.from_numpy(full).permute(0, 3, 1, 2).to(plan.device).float()
                # In place, since fresh memory is slow.
                pixels = pixels.mul_(1 / (255 * std)).sub_(mean / std).to(plan.torch_dtype)
                with torch.inference_mode():
                    found = network(pixels.contiguous(memory_format=plan.memory_format)).cpu().numpy()
                features[start : start + len(part)] = found[: len(part)]

        pool = ThreadPoolExecutor(len(self.prepared), "embed")
        with one_torch_thread(), deterministic(plan.device), pool:
            workers = [pool.submit(embed_batches, network) for network in self.prepared]
        for worker in workers:
            worker.result()
        return features

    def trunk(self) -> Any:
        """The float32 module, batch norms folded, from normalised pixels (B, 3, S, S) to features (B, D)."""
        from assay.embed.trunk import fold_batch_norms, make_trunk

        return fold_batch_norms(make_trunk(self.network, self.features, LEVELS), self.size)

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors that the features need, under timm's names: the network's part of a saved model."""
        from assay.embed.trunk import make_trunk, needed_tensors

        trunk = make_trunk(self.network, self.features, LEVELS)
        return {name: tensor.numpy() for name, tensor in needed_tensors(trunk).items()}

    def retrained(self, network: Any) -> "TimmBackbone":
        """The same with another network of the same architecture, such as one that was fine-tuned."""
        digest = hashlib.sha256(self.digest.encode())
        for tensor in network.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        fresh = replace(self, digest=digest.hexdigest(), network=network)
        return replace(fresh, prepared=_copies(fresh.trunk(), self.plan, self.size))

    def exact(self) -> "TimmBackbone":
        """The same in float32, as a saved model computes; a faster dtype rounds more."""
        if self.plan.dtype == "float32":
            return self
        return replace(self, plan=replace(self.plan, dtype="float32")).retrained(self.network)


def load_backbone(
    name: str,
    cache: Path,
    *,
    size: int = DEFAULT_SIZE,
    weights: Path | None = None,
    dtype: str = "auto",
    features: str = "stages",
    interpolation: str = "sharp",
    preprocessing: Preprocessing | None = None,
) -> Backbone:
    """The backbone of that name, ready to embed.

    Parameters
    ----------
    name : ``tiny`` or any timm model
    cache : folder for measured speeds
    size : side in pixels of its images; ``tiny`` has a size of its own
    weights : a local safetensors file, instead of the weights of its pip package or of the hub
    dtype : ``auto`` for the fastest here, or ``float32`` or ``bfloat16``
    preprocessing : by default that which the weights were trained with

    Raises
    ------
    MissingExtraError : no timm, or no package with the weights
    UsageError : a name that timm does not know, a size that the network cannot take, or an unknown choice
    ModelError : weights that are damaged or do not fit the architecture
    """
    if name == "tiny":
        if weights is not None:
            raise UsageError(f"--weights: the backbone 'tiny' has none, got {weights}; leave the flag out")
        if (features, preprocessing) != ("stages", None) or interpolation == "nearest":
            raise UsageError("the backbone 'tiny' has features of its own only; name a network of timm")
        return TinyBackbone()
    for option, value, known in (
        ("features", features, FEATURES),
        ("interpolation", interpolation, tuple(FILTERS)),
    ):
        if value not in known:
            raise UsageError(f"{option}: expected {' or '.join(known)}, got {value!r}")
    check_address_space()
    try:
        import timm  # noqa: F401  # asks whether the extra is installed

        from assay.embed.trunk import build_network, feature_width, fold_batch_norms, make_trunk
    except ImportError:
        raise MissingExtraError("timm", "train") from None
    import torch

    found, use = find_weights(name, weights), preprocessing or preprocessing_of(name)
    network = build_network(name, found)
    trunk = make_trunk(network, features, LEVELS)
    width = feature_width(trunk, name, size)
    folded = fold_batch_norms(trunk, size)
    plan = fastest_plan(folded, name, size, cache, dtype)
    # The key of cached features: names, order and defaults below must not change, or caches are lost.
    identity = {"name": name, "weights": found.digest, "size": size, "levels": LEVELS}
    identity |= {"torch": torch.__version__, "mean": use.mean, "std": use.std}
    defaults = {"features": "stages", "interpolation": "bicubic"}
    choices = {"features": features, "interpolation": interpolation}
    identity |= {key: value for key, value in choices.items() if value != defaults[key]}
    return TimmBackbone(
        name=name,
        size=size,
        width=width,
        digest=hashlib.sha256(repr((identity, plan.key)).encode()).hexdigest(),
        origin=found.origin,
        mean=use.mean,
        std=use.std,
        features=features,
        interpolation=interpolation,
        plan=plan,
        network=network,
        prepared=_copies(folded, plan, size),
    )


def _copies(trunk: Any, plan: Plan, size: int) -> tuple[Any, ...]:
    """The trunk prepared for the plan, once for each core that embeds."""
    first = prepare(trunk, plan, size)
    return (first, *(deepcopy(first) for _ in range((cores() if plan.device == "cpu" else 1) - 1)))
