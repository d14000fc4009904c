"""A frozen pretrained network as a Backbone, at one image size, as fast as this machine runs it."""

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from assay._errors import MissingExtraError, UsageError
from assay._types import Backbone, Batch
from assay.embed.threads import cores, one_torch_thread
from assay.embed.tiny import TinyBackbone
from assay.embed.weights import Weights, find_weights

DEFAULT_BACKBONE = "tf_efficientnet_lite2"
DEFAULT_SIZE = 160
LEVELS = 4
"""Stages whose outputs are the features; chosen by cross-validation, see benchmarks/LOG.md."""


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

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Features of a batch, float32. A short batch is padded so that each image meets the same kernels."""
        features = np.zeros((len(images), self.width), dtype=np.float32)
        # One iterator for all: whoever is done takes the next batch, so a slow core holds nobody up.
        starts = iter(range(0, len(images), self.plan.batch))
        with one_torch_thread(), ThreadPoolExecutor(len(self.prepared), "embed") as pool:
            workers = [
                pool.submit(self._embed_some, network, images, features, starts) for network in self.prepared
            ]
        for worker in workers:
            worker.result()
        return features

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
    name: str, cache: Path, *, size: int = DEFAULT_SIZE, weights: Path | None = None, dtype: str = "auto"
) -> Backbone:
    """The backbone of that name, ready to embed.

    Parameters
    ----------
    name : ``tiny`` or any timm model, by default from its pip package
    cache : folder for converted weights and measured speeds
    size : side in pixels of the images it takes; ``tiny`` has a size of its own
    weights : a local safetensors file to use instead
    dtype : ``auto`` for the fastest here, or ``float32`` or ``bfloat16``

    Raises
    ------
    MissingExtraError : no timm, or no package with the weights
    UsageError : a name that timm does not know, a size that the network cannot take, an unknown dtype
    ModelError : weights that are damaged or do not fit the architecture
    """
    if name == "tiny":
        if weights is not None:
            raise UsageError(f"--weights: the backbone 'tiny' has none, got {weights}; leave the flag out")
        return TinyBackbone()
    try:
        import timm  # noqa: F401  # only asked whether the extra is installed
    except ImportError:
        raise MissingExtraError("timm", "train") from None
    return _load_timm(name, cache, size, weights, dtype)


def _load_timm(name: str, cache: Path, size: int, weights: Path | None, dtype: str) -> TimmBackbone:
    from assay.embed.network import preprocessing_of

    found = find_weights(name, cache, weights)
    return assemble_backbone(name, found, cache, size=size, use=preprocessing_of(name), dtype=dtype)


def assemble_backbone(
    name: str, weights: Weights, cache: Path, *, size: int, use: Any, dtype: str = "auto"
) -> TimmBackbone:
    """The backbone from tensors that are at hand, such as those of a saved model.

    Parameters
    ----------
    use : ``embed.network.Preprocessing``

    Raises
    ------
    UsageError : a name that timm does not know, a size that the network cannot take, an unknown dtype
    ModelError : weights that do not fit the architecture
    """
    import torch

    from assay.embed.network import Levels, build_network, feature_width, fold_batch_norms
    from assay.embed.speed import fastest_plan, prepare

    network = build_network(name, weights)
    levels = Levels(network, LEVELS)
    width = feature_width(levels, name, size)
    folded = fold_batch_norms(levels, size)
    plan = fastest_plan(folded, name, size, cache, dtype)
    identity: Mapping[str, object] = {
        "name": name,
        "weights": weights.digest,
        "size": size,
        "levels": LEVELS,
        "torch": torch.__version__,
        "mean": use.mean,
        "std": use.std,
    }
    return TimmBackbone(
        name=name,
        size=size,
        width=width,
        digest=hashlib.sha256(repr((identity, plan.key)).encode()).hexdigest(),
        origin=weights.origin,
        mean=use.mean,
        std=use.std,
        plan=plan,
        network=network,
        prepared=tuple(prepare(folded, plan) for _ in range(cores() if plan.device == "cpu" else 1)),
    )
