"""Windows: which part of a picture is seen, drawn by chance, and what enlarges just that part.

A picture that is shifted by parts of a pixel and seen a little nearer or farther is a new one each time, and
costs no more than enlarging does: the products of matrices that resize (``pixels.resized``) take another
matrix for each picture. (Pictures that are held as large as they are seen were not resized before.) What
lies outside is mirrored.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Matrices = Float[np.ndarray, "B S s"]
"""What resizes columns or rows of s pixels to S, one for each of B pictures."""

SHARPEST = -0.5
"""Of Keys' cubic kernel: Pillow's, and torch's with antialias."""


@dataclass(frozen=True)
class Crops:
    """Of B pictures, down and right; as shares of a picture's side."""

    middle: Float[np.ndarray, "2 B"]
    """0.5 is the picture's own."""
    extent: Float[np.ndarray, "2 B"]
    """1 is all of the picture."""

    def matrices(self, side: int, size: int) -> tuple[Matrices, Matrices]:
        """What resizes the windows' columns and rows of ``side`` pixels to ``size``: twice (B, S, s)."""
        down, right = (_resizing(side, size, *each) for each in zip(self.middle, self.extent, strict=True))
        return down, right


def draw_crops(n: int, rng: np.random.Generator, *, shift: float, zoom: float, stretch: float) -> Crops:
    """``n`` windows by chance.

    Parameters
    ----------
    shift : how far the middle may move, as a share of the side
    zoom : how many times nearer or farther at most, 1 or more
    stretch : how many times wider than high at most, or higher than wide, 1 or more
    """
    middle = 0.5 + rng.uniform(-shift, shift, (2, n))
    nearer, wider = (math.log(most) * rng.uniform(-1, 1, n) for most in (zoom, stretch))
    return Crops(middle, np.exp([-nearer - wider / 2, -nearer + wider / 2]))


def _resizing(
    side: int, size: int, middle: Float[np.ndarray, "B"], extent: Float[np.ndarray, "B"]
) -> Matrices:
    """Bicubic (Keys 1981, doi:10.1109/TASSP.1981.1163711), wider where it shrinks, so nothing is aliased.

    Each row of a matrix has weights for few places, some of them outside: those fall on what they mirror.
    """
    places = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    wanted = side * (middle[:, None] + extent[:, None] * places).astype(np.float32) - 0.5
    widths = np.maximum(1.0, extent * side / size).astype(np.float32)[:, None, None]
    far = math.ceil(2 * float(widths.max(initial=1.0)))
    taps = np.floor(wanted)[:, :, None] + np.arange(1 - far, far + 1, dtype=np.float32)
    weights = _cubic(np.abs(wanted[:, :, None] - taps) / widths)
    weights /= weights.sum(axis=2, keepdims=True)
    inside = _mirrored(taps.astype(np.int64), side)
    rows = np.arange(wanted.size).reshape(*wanted.shape, 1)
    summed = np.bincount((rows * side + inside).ravel(), weights.ravel(), wanted.size * side)
    return summed.astype(np.float32).reshape(*wanted.shape, side)


def _cubic(x: Float[np.ndarray, "B S T"]) -> Float[np.ndarray, "B S T"]:
    """Keys' kernel at distances of 0 or more."""
    near = ((SHARPEST + 2) * x - (SHARPEST + 3)) * x * x + 1
    away = SHARPEST * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, away, np.float32(0)))


def _mirrored(places: Int[np.ndarray, "B S T"], side: int) -> Int[np.ndarray, "B S T"]:
    """Places inside the picture; the border itself comes once, as in NumPy's ``reflect``."""
    if side == 1:
        return np.zeros_like(places)
    found: np.ndarray = side - 1 - np.abs(places % (2 * side - 2) - (side - 1))
    return found
