"""Array types with their shapes, protocols, and UNKNOWN.

Sizes: N images, K classes, D features, B images in a batch, S pixels a side. Probabilities lie in
[0, 1], logarithms are natural, times are seconds. The shapes are checked while the tests run.
"""

from collections.abc import Callable, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from assay.errors import LabelError

UNKNOWN = -1
"""The label of an image whose class is not known."""

Labels = Int[np.ndarray, "N"]
"""Class index of each image, or UNKNOWN."""

Groups = Int[np.ndarray, "N"]
"""The group of each image, such as its patient: equal numbers are one group."""

Rows = Int[np.ndarray, "_"]
"""Indices of some images."""

Mask = Bool[np.ndarray, "N"]
"""True or False for each image."""

PerImage = Float[np.ndarray, "N"]
"""A number for each image."""

Probs = Float[np.ndarray, "N K"]
"""P(class) of each image; rows sum to 1."""

Matrix = Float[np.ndarray, "N D"]
"""One row of features for each image."""

PerClass = Float[np.ndarray, "K"]
"""A number for each class."""

Prior = Float[np.ndarray, "K"]
"""P(true) of each class; sums to 1."""

Transition = Float[np.ndarray, "K K"]
"""P(noisy | true) at [true, noisy]; rows sum to 1."""

Counts = Int[np.ndarray, "K K"]
"""Images with both labels, or predictions, at [true, noisy] or [true, predicted]."""

Pixels = UInt8[np.ndarray, "H W 3"]
"""One RGB image."""

Batch = UInt8[np.ndarray, "B S S 3"]
"""RGB images of one square size."""


def unmasked(labels: Any) -> Labels:
    """Class indices of any integer type as a plain array, UNKNOWN where they are masked.

    Raises
    ------
    LabelError : labels that are no whole numbers
    """
    found = np.asanyarray(labels)
    if found.size and found.dtype.kind not in "iu":
        raise LabelError(f"expected class indices, whole numbers from 0, got an array of {found.dtype}")
    filled: Labels = np.ma.filled(found.astype(np.int64), UNKNOWN)
    return filled


@runtime_checkable
class Backbone(Protocol):
    """A frozen network that turns pixels into features."""

    @property
    def name(self) -> str:
        """The name a user would give, such as ``tf_efficientnet_lite2``."""

    @property
    def digest(self) -> str:
        """sha256 over the weights and all that changes the features."""

    @property
    def size(self) -> int:
        """Side in pixels of the images that ``embed`` takes."""

    @property
    def interpolation(self) -> str:
        """How those images are made of others: a key of ``data.resize.FILTERS``."""

    @property
    def width(self) -> int:
        """D, the number of features."""

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        """Features of a batch."""


@runtime_checkable
class Progress(Protocol):
    """What a long step calls to show how far it is."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` items of ``stage`` are finished."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress that shows nothing."""


Notify = Callable[[str], None]
"""What is called with a line that a person should read now."""


def ignore_message(line: str) -> None:
    """The ``Notify`` that nobody hears."""


def same_length(**named: Sized) -> int:
    """The common length of the named sequences; ValueError names those that differ."""
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected one length for all, got {lengths}")
    return next(iter(lengths.values()))
