"""Augmentation: what may happen to a picture before it reaches the network, without changing its class.

Phones send JPEGs, sometimes small ones, blurred or badly lit. A network that never saw such images while
it learned loses ten points more on them, so a share of the images is compressed, blurred and relit. A small
share: one in ten keeps most of what one in three would, and costs images as they are nothing that could be
measured, where one in three costs a point (benchmarks/LOG.md).

All chance comes from the generator that is handed in: a batch is the same whichever thread makes it.
"""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from assay.train.crops import Crops, draw_crops
from assay.types import Batch, Pixels


@dataclass(frozen=True)
class Augment:
    """How often and how strongly; a share of 0 leaves a step out."""

    shift: float = 1 / 8
    """How far what is seen may move, as a share of the side; what comes in from outside is mirrored."""
    zoom: float = 1.2
    """How many times nearer or farther it may be."""
    stretch: float = 1.1
    """How many times wider, or higher."""
    compressed: float = 0.15
    """Share of the images that become JPEGs."""
    quality: tuple[int, int] = (20, 90)
    """Of those JPEGs, drawn evenly."""
    blurred: float = 0.05
    """Share of the images that lose detail: by a Gaussian, or by a smaller size in between."""
    light: float = 0.1
    """How far brightness, contrast and saturation may be from 1, as a share."""
    hidden: float = 0.3
    """Share of the images of which a square is hidden."""
    square: float = 0.4
    """Its side, as a share of the image's."""

    def __call__(self, images: Batch, rng: np.random.Generator) -> Float[np.ndarray, "B S S 3"]:
        """The images changed by chance, float32 from 0 to 255, half of them mirrored.

        Parameters
        ----------
        images : (B, S, S, 3)
        rng : the source of all chance
        """
        seen = images.copy()
        mirrored = rng.random(len(images)) < 0.5
        seen[mirrored] = seen[mirrored, :, ::-1]
        damaged = self._damaged(seen, rng)
        return self._hide(self._relit(damaged, rng), rng)

    def crops(self, n: int, rng: np.random.Generator) -> Crops:
        """What is seen of ``n`` images."""
        return draw_crops(n, rng, shift=self.shift, zoom=self.zoom, stretch=self.stretch)

    def _damaged(self, images: Batch, rng: np.random.Generator) -> Batch:
        n = len(images)
        blurred, compressed = rng.random(n) < self.blurred, rng.random(n) < self.compressed
        softness, quality = rng.random(n), rng.integers(*self.quality, n, endpoint=True)
        for i in np.flatnonzero(blurred):
            images[i] = soften(images[i], float(softness[i]))
        for i in np.flatnonzero(compressed):
            images[i] = compress(images[i], int(quality[i]))
        return images

    def _relit(self, images: Batch, rng: np.random.Generator) -> Float[np.ndarray, "B S S 3"]:
        values = images.astype(np.float32)
        if self.light == 0:
            return values
        factors = 1 + self.light * rng.uniform(-1, 1, (3, len(images), 1, 1, 1)).astype(np.float32)
        bright, contrast, saturation = factors
        values *= bright
        middle = values.mean(axis=(1, 2, 3), keepdims=True)
        values = middle + contrast * (values - middle)
        grey = values.mean(axis=3, keepdims=True)
        relit: np.ndarray = np.clip(grey + saturation * (values - grey), 0, 255, dtype=np.float32)
        return relit

    def _hide(
        self, values: Float[np.ndarray, "B S S 3"], rng: np.random.Generator
    ) -> Float[np.ndarray, "B S S 3"]:
        n, side = values.shape[:2]
        offsets = np.arange(side) + 0.5 - rng.uniform(0, side, (2, n, 1))
        down, right = np.abs(offsets) < self.square * side / 2
        hidden = down[:, :, None] & right[:, None, :] & (rng.random((n, 1, 1)) < self.hidden)
        values[hidden] = 127.5
        return values


def compress(image: Pixels, quality: int) -> Pixels:
    """The image after it was a JPEG of that quality, 1 to 95."""
    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held, formats=["JPEG"]))


def soften(image: Pixels, strength: float) -> Pixels:
    """The image with less detail, ``strength`` from 0 to 1: below a half blurred, above shrunk in between."""
    picture, bicubic = Image.fromarray(image), Image.Resampling.BICUBIC
    if strength < 0.5:
        side = max(picture.size)
        return np.asarray(picture.filter(ImageFilter.GaussianBlur((0.3 + strength) * side / 32)))
    # From the whole side to a half.
    width, height = (max(round(side * (1.5 - strength)), 1) for side in picture.size)
    return np.asarray(picture.resize((width, height), bicubic).resize(picture.size, bicubic))
