"""Robustness: the accuracy of a model on compressed, blurred, small and dark images.

Measured on the validation images, which fine-tuning did not train on. The model was calibrated on them, so
each half is calibrated anew by the other. Each image is damaged at its own size, then predicted like any
other, and compared with itself undamaged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from assay.correct.posterior import NO_FLOOR, by_halves
from assay.data.dataset import Dataset
from assay.data.loader import load
from assay.evaluate import Paired, mcnemar, share_right
from assay.noise import Interval
from assay.predict.model import Model
from assay.predict.runtime import load_runtime
from assay.train.augment import compress, soften
from assay.types import Labels, Pixels, Probs, Rows

DAMAGE: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG, quality 75": lambda image: compress(image, 75),
    "JPEG, quality 50": lambda image: compress(image, 50),
    "JPEG, quality 30": lambda image: compress(image, 30),
    "JPEG, quality 10": lambda image: compress(image, 10),
    "blurred": lambda image: soften(image, 0.2),
    "shrunk to three quarters and back": lambda image: soften(image, 0.75),
    "brighter by 30 %": lambda image: np.clip(image * 1.3, 0, 255).astype(np.uint8),
    "darker by 40 %": lambda image: (image * 0.6).astype(np.uint8),
}

LARGEST = 512
"""Longer side in pixels to which larger images are shrunk first; damage shows less the larger an image is."""

AT_ONCE = 32
"""Images in memory at a time, each with all its damages."""


@dataclass(frozen=True)
class Robustness:
    """The accuracy that is left."""

    n: int
    """Images."""
    right: Interval
    """Share of images predicted right as they are."""
    damaged: dict[str, tuple[Interval, Paired]]
    """Damage -> share still predicted right, and the paired comparison with the images as they are."""

    def to_json(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        return {
            "n": self.n,
            "as they are": self.right.to_json(),
            "damaged": {
                name: {**right.to_json(), "change": paired.difference.to_json()}
                for name, (right, paired) in self.damaged.items()
            },
        }

    def lines(self) -> list[str]:
        """A table for a model card."""
        lines = ["| | right | change, 95 % interval |", "|---|---|---|"]
        lines.append(f"| as they are | {100 * self.right.estimate:.1f} % | |")
        for name, (right, paired) in self.damaged.items():
            change = paired.difference
            lines.append(
                f"| {name} | {100 * right.estimate:.1f} % | {100 * change.estimate:+.1f} "
                f"({100 * change.low:+.1f} to {100 * change.high:+.1f}) |"
            )
        return lines


def measure_robustness(
    model: Model,
    dataset: Dataset,
    rows: Int[np.ndarray, "W"],
    truth: Labels,
    *,
    calibrated: bool = False,
    workers: int = 2,
) -> Robustness | None:
    """The model on damaged images; None if none of them can be used.

    Parameters
    ----------
    rows : images that were not trained on
    truth : (W,) their trusted labels
    calibrated : whether the model was calibrated on them; each half is then calibrated by the other, which
        would undo the prior of a balanced model
    """
    runtime, predicted, used = load_runtime(model), list[Float[np.ndarray, "V B K"]](), list[Rows]()
    batches = load(
        dataset,
        [runtime.target],
        rows,
        at_least=LARGEST,
        damage=_variants,
        batch_size=AT_ONCE,
        workers=workers,
    )
    for batch in batches:
        if len(batch.decoded):
            predicted.append(np.stack([runtime.probabilities(images) for images in batch.images]))
            used.append(batch.decoded)
    if not predicted:
        return None
    probs = np.concatenate(predicted, axis=1)  # (1 + damages, W, K), the images as they are first
    read = np.isin(rows, np.concatenate(used))
    truth, groups = truth[read], None if dataset.groups is None else dataset.groups[rows[read]]

    def classes(of: Probs) -> Labels:
        # By halves of the undamaged predictions: calibrated on damaged ones, it would make up for damage.
        likeliest: Labels = (by_halves(probs[0], truth, NO_FLOOR, of=of) if calibrated else of).argmax(axis=1)
        return likeliest

    plain, *damaged = map(classes, probs)
    return Robustness(
        len(truth),
        share_right(plain == truth, groups),
        {
            name: (share_right(one == truth, groups), mcnemar(truth, plain, one, groups=groups))
            for name, one in zip(DAMAGE, damaged, strict=True)
        },
    )


def _variants(pixels: Pixels) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """An image as it is, and with each damage; larger ones are shrunk first."""
    longer = max(pixels.shape[:2])
    if longer > LARGEST:
        height, width = (max(round(side * LARGEST / longer), 1) for side in pixels.shape[:2])
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    return [pixels, *(damage(pixels) for damage in DAMAGE.values())]
