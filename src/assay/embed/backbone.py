"""A frozen pretrained network as a Backbone, at one image size, as fast as this machine runs it."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from assay.data.resize import FILTERS
from assay.embed.graphics import steady
from assay.embed.preprocessing import Preprocessing, preprocessing_of
from assay.embed.threads import cores, one_torch_thread
from assay.embed.tiny import TinyBackbone
from assay.embed.weights import Weights, find_weights
from assay.errors import MissingExtraError, UsageError
from assay.types import Backbone, Batch

DEFAULT_BACKBONE = "tf_efficientnet_lite2"
DEFAULT_SIZE = 160
LEVELS = 4
"""Stages whose outputs are the features; chosen by cross-validation, see benchmarks/LOG.md."""

FEATURES = ("stages", "map")
"""What a network may give: the means of its last stages' outputs, or its last map (C, H, W) flattened."""


@dataclass(frozen=True)
class TimmBackbone:
    """One of timm's networks at one image size, as fast as this machine runs it."""

    name: str
    size: int
    width: int
    digest: str
    origin: str
    """Where the weights came from: ``package``, ``file`` or ``hub``."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    plan: Any
    """``embed.speed.Plan``."""
    network: Any
    """The torch module in float32, batch norms in place: what a saved model starts from."""
    prepared: tuple[Any, ...]
    """The same, folded and in the plan's dtype and layout: what computes features. One copy for each core,
    since hooks make a network unsafe to share between threads."""
    features: str
    """One of ``FEATURES``."""
    interpolation: str
    """How images become squares: a key of ``data.resize.FILTERS``."""

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Features of a batch, float32. A short batch is padded so that each image meets the same kernels."""
        features = np.zeros((len(images), self.width), dtype=np.float32)
        # One iterator for all: whoever is done takes the next batch, so a slow core holds nobody up.
        starts = iter(range(0, len(images), self.plan.batch))
        kind, several = self.plan.device, ThreadPoolExecutor(len(self.prepared), "embed")
        with one_torch_thread(), steady(kind), several as pool:
            workers = [
                pool.submit(self._embed_some, network, images, features, starts) for network in self.prepared
            ]
        for worker in workers:
            worker.result()
        return features

    def trunk(self) -> Any:
        """The float32 module, batch norms folded, from normalised pixels (B, 3, S, S) to features (B, D)."""
        from assay.embed.network import fold_batch_norms
        from assay.embed.trunk import make_trunk

        return fold_batch_norms(make_trunk(self.network, self.features, LEVELS), self.size)

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors that the features need, under timm's names: what a saved model holds of the network."""
        from assay.embed.trunk import make_trunk, needed_tensors

        trunk = make_trunk(self.network, self.features, LEVELS)
        return {name: tensor.numpy() for name, tensor in needed_tensors(trunk).items()}

    def retrained(self, network: Any) -> "TimmBackbone":
        """The same with another network of the same architecture, such as one that was fine-tuned."""
        from assay.embed.network import fold_batch_norms
        from assay.embed.speed import prepare_several
        from assay.embed.trunk import make_trunk

        folded = fold_batch_norms(make_trunk(network, self.features, LEVELS), self.size)
        tensors = hashlib.sha256(self.digest.encode())
        for tensor in network.state_dict().values():
            tensors.update(tensor.numpy().tobytes())
        return replace(
            self,
            digest=tensors.hexdigest(),
            network=network,
            prepared=prepare_several(folded, self.plan, self.size, len(self.prepared)),
        )

    def exact(self) -> "TimmBackbone":
        """The same in float32, as a saved model computes, where this one is quicker and rounds more."""
        if self.plan.dtype == "float32":
            return self
        return replace(self, plan=replace(self.plan, dtype="float32")).retrained(self.network)

    def _embed_some(
        self, network: Any, images: Batch, features: Float[np.ndarray, "B D"], starts: Iterator[int]
    ) -> None:
        """The batches that begin at ``starts``, as long as there are any, into the rows of ``features``."""
        import torch

        full = np.zeros((self.plan.batch, self.size, self.size, 3), dtype=np.uint8)
        for start in starts:
            part = images[start : start + self.plan.batch]
            full[: len(part)] = part
            with torch.inference_mode():
                found = network(self._normalise(full)).cpu().numpy()
            features[start : start + len(part)] = found[: len(part)]

    def _normalise(self, images: Batch) -> Any:
        import torch

        from assay.embed.speed import DTYPES, LAYOUTS

        # NHWC bytes seen as NCHW are channels_last already: no copy. In place, since fresh memory is slow.
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.plan.device).float()
        mean, std = (
            torch.tensor(values, device=self.plan.device).view(1, 3, 1, 1) for values in (self.mean, self.std)
        )
        scaled = pixels.mul_(1 / (255 * std)).sub_(mean / std)
        return scaled.to(DTYPES[self.plan.dtype]).contiguous(memory_format=LAYOUTS[self.plan.layout])


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
    name : ``tiny`` or any timm model, by default from its pip package
    cache : folder for converted weights and measured speeds
    size : side in pixels of the images it takes; ``tiny`` has a size of its own
    weights : a local safetensors file to use instead
    dtype : ``auto`` for the fastest here, or ``float32`` or ``bfloat16``
    features : one of ``FEATURES``
    interpolation : how images become squares, a key of ``data.resize.FILTERS``
    preprocessing : of the pixels; by default that which the weights were trained with

    Raises
    ------
    MissingExtraError : no timm, or no package with the weights
    UsageError : a name that timm does not know, a size that the network cannot take, a choice that there
        is not, or that the network does not have
    ModelError : weights that are damaged or do not fit the architecture
    """
    if name == "tiny":
        if weights is not None:
            raise UsageError(f"--weights: the backbone 'tiny' has none, got {weights}; leave the flag out")
        if (features, preprocessing) != ("stages", None) or interpolation == "nearest":
            raise UsageError("the backbone 'tiny' has features of its own only; name a network of timm")
        return TinyBackbone()
    _check_choice("features", features, FEATURES)
    _check_choice("interpolation", interpolation, FILTERS)
    try:
        import timm  # noqa: F401  # only asked whether the extra is installed
    except ImportError:
        raise MissingExtraError("timm", "train") from None
    return _assemble(
        name,
        find_weights(name, cache, weights),
        cache,
        size=size,
        use=preprocessing or preprocessing_of(name),
        dtype=dtype,
        features=features,
        interpolation=interpolation,
    )


def _check_choice(what: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise UsageError(f"{what}: expected {' or '.join(known)}, got {value!r}")


def _assemble(
    name: str,
    weights: Weights,
    cache: Path,
    *,
    size: int,
    use: Preprocessing,
    dtype: str,
    features: str,
    interpolation: str,
) -> TimmBackbone:
    from assay.embed.network import build_network, feature_width, fold_batch_norms
    from assay.embed.speed import fastest_plan, prepare_several
    from assay.embed.trunk import make_trunk

    network = build_network(name, weights)
    trunk = make_trunk(network, features, LEVELS)
    width = feature_width(trunk, name, size)
    folded = fold_batch_norms(trunk, size)
    plan = fastest_plan(folded, name, size, cache, dtype)
    identity = {"name": name, "weights": weights.digest, "size": size, **_settings(use)}
    return TimmBackbone(
        name=name,
        size=size,
        width=width,
        digest=_digest(identity, plan.key, features=features, interpolation=interpolation),
        origin=weights.origin,
        mean=use.mean,
        std=use.std,
        features=features,
        interpolation=interpolation,
        plan=plan,
        network=network,
        prepared=prepare_several(folded, plan, size, cores() if plan.device == "cpu" else 1),
    )


def _settings(use: Preprocessing) -> dict[str, object]:
    import torch

    return {"levels": LEVELS, "torch": torch.__version__, "mean": use.mean, "std": use.std}


def _digest(identity: Mapping[str, object], plan: str, **choices: str) -> str:
    # Features were stored before there was a choice: what they were is not named, so that they are found.
    first = {"features": "stages", "interpolation": "bicubic"}
    chosen = {name: value for name, value in choices.items() if value != first[name]}
    return hashlib.sha256(repr(({**identity, **chosen}, plan)).encode()).hexdigest()
