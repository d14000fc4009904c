"""Augmentation: random changes of an image, and random crops of it, that leave its class as it is.

Phones send JPEGs, sometimes small, blurred or badly lit, and a network that never saw such images in training
loses ten points on them. So a share of the images is compressed, blurred and relit: one in ten keeps most of
the gain of one in three and costs nothing measurable on clean images, where one in three costs a point
(benchmarks/LOG.md). All chance comes from the generator passed in: a batch is the same whichever thread makes
it.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from assay.types import Batch, Pixels

Matrices = Float[np.ndarray, "B S s"]
"""What resizes columns or rows of s pixels to S, one matrix for each of B images."""

KEYS = -0.5
"""The parameter of Keys' cubic kernel: Pillow's, and torch's with antialias."""


@dataclass(frozen=True)
class Augment:
    """How often and how strongly images are changed; a share of 0 leaves a step out."""

    shift: float = 1 / 8
    """How far a crop may move, as a share of the side; outside, the image is mirrored."""
    zoom: float = 1.2
    """How many times nearer or farther it may be, 1 or more."""
    stretch: float = 1.1
    """How many times wider or higher, 1 or more."""
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
        """The images (B, S, S, 3) changed by chance, float32 from 0 to 255, half of them mirrored."""
        changed = images.copy()
        mirrored = rng.random(len(images)) < 0.5
        changed[mirrored] = changed[mirrored, :, ::-1]
        values = self._relight(self._damage(changed, rng), rng)
        n, side = values.shape[:2]
        offsets = np.arange(side) + 0.5 - rng.uniform(0, side, (2, n, 1))
        down, right = np.abs(offsets) < self.square * side / 2
        hidden = down[:, :, None] & right[:, None, :] & (rng.random((n, 1, 1)) < self.hidden)
        values[hidden] = 127.5
        return values

    def crops(self, n: int, rng: np.random.Generator) -> "Crops":
        """Random crops for ``n`` images."""
        middle = 0.5 + rng.uniform(-self.shift, self.shift, (2, n))
        # Evenly in the logarithm, so that half of them are nearer and half are farther.
        nearer, wider = (math.log(most) * rng.uniform(-1, 1, n) for most in (self.zoom, self.stretch))
        return Crops(middle, np.exp([-nearer - wider / 2, -nearer + wider / 2]))

    def _damage(self, images: Batch, rng: np.random.Generator) -> Batch:
        n = len(images)
        blurred, compressed = rng.random(n) < self.blurred, rng.random(n) < self.compressed
        softness, quality = rng.random(n), rng.integers(*self.quality, n, endpoint=True)
        for i in np.flatnonzero(blurred):
            images[i] = soften(images[i], float(softness[i]))
        for i in np.flatnonzero(compressed):
            images[i] = compress(images[i], int(quality[i]))
        return images

    def _relight(self, images: Batch, rng: np.random.Generator) -> Float[np.ndarray, "B S S 3"]:
        values = images.astype(np.float32)
        if self.light == 0:
            return values
        factors = 1 + self.light * rng.uniform(-1, 1, (3, len(images), 1, 1, 1)).astype(np.float32)
        brightness, contrast, saturation = factors
        values *= brightness
        middle = values.mean(axis=(1, 2, 3), keepdims=True)
        values = middle + contrast * (values - middle)
        grey = values.mean(axis=3, keepdims=True)
        relit: np.ndarray = np.clip(grey + saturation * (values - grey), 0, 255, dtype=np.float32)
        return relit


def compress(image: Pixels, quality: int) -> Pixels:
    """The image after it was a JPEG of that quality, 1 to 95."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file, formats=["JPEG"]))


def soften(image: Pixels, strength: float) -> Pixels:
    """The image with less detail, ``strength`` from 0 to 1: below a half blurred, above shrunk in between."""
    picture, bicubic = Image.fromarray(image), Image.Resampling.BICUBIC
    if strength < 0.5:
        side = max(picture.size)
        return np.asarray(picture.filter(ImageFilter.GaussianBlur((0.3 + strength) * side / 32)))
    # From the whole side to a half.
    width, height = (max(round(side * (1.5 - strength)), 1) for side in picture.size)
    return np.asarray(picture.resize((width, height), bicubic).resize(picture.size, bicubic))


@dataclass(frozen=True)
class Crops:
    """Crops of B images, each down and right, as shares of the side; the image is mirrored outside.

    A crop by parts of a pixel, a little nearer or farther, costs no more than resizing does: the matrix
    products that resize (``student.network_input``) take another matrix for each image.
    """

    middle: Float[np.ndarray, "2 B"]
    """0.5 is the image's own."""
    extent: Float[np.ndarray, "2 B"]
    """1 is the whole image."""

    def matrices(self, side: int, size: int) -> tuple[Matrices, Matrices]:
        """What resizes the crops' columns and rows of ``side`` pixels to ``size``: twice (B, S, s)."""
        down, right = (_resizing(side, size, *each) for each in zip(self.middle, self.extent, strict=True))
        return down, right


def _resizing(
    side: int, size: int, middle: Float[np.ndarray, "B"], extent: Float[np.ndarray, "B"]
) -> Matrices:
    """Bicubic (Keys 1981, doi:10.1109/TASSP.1981.1163711), wider where it shrinks, so nothing is aliased."""
    places = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    wanted = side * (middle[:, None] + extent[:, None] * places).astype(np.float32) - 0.5
    widths = np.maximum(1.0, extent * side / size).astype(np.float32)[:, None, None]
    far = math.ceil(2 * float(widths.max(initial=1.0)))
    taps = np.floor(wanted)[:, :, None] + np.arange(1 - far, far + 1, dtype=np.float32)  # (B, S, T)
    x = np.abs(wanted[:, :, None] - taps) / widths
    near = ((KEYS + 2) * x - (KEYS + 3)) * x * x + 1
    away = KEYS * (((x - 5) * x + 8) * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, away, np.float32(0)))
    weights /= weights.sum(axis=2, keepdims=True)
    # Weights of places outside are added to those of the places that they mirror; the border itself comes
    # once, as in NumPy's "reflect".
    places, border = taps.astype(np.int64), side - 1
    inside = border - np.abs(places % (2 * border) - border) if border else np.zeros_like(places)
    rows = np.arange(wanted.size).reshape(*wanted.shape, 1)
    summed = np.bincount((rows * side + inside).ravel(), weights.ravel(), wanted.size * side)
    return summed.astype(np.float32).reshape(*wanted.shape, side)
