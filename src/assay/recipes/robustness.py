"""How a model bears images as they arrive: compressed, blurred, small, dark.

Measured on the images that fine-tuning watched, which the student did not learn from; as its probabilities
were calibrated on them, each half is judged as the other half would have it calibrated. Each image is
damaged, then predicted as any other, and compared with itself undamaged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from assay._types import Labels, Pixels, Probs
from assay.data.dataset import Dataset
from assay.data.resize import Square, to_square
from assay.fix.calibrate import NO_FLOOR, by_halves
from assay.learn.augment import compress, soften
from assay.learn.model import Model
from assay.measure import Paired, mcnemar, wilson
from assay.predict.runtime import Runtime, load_runtime
from assay.predict.squares import read_image

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


@dataclass(frozen=True)
class Robustness:
    """What is left of the accuracy."""

    n: int
    """Images."""
    right: int
    """Of them as they are."""
    damaged: dict[str, tuple[int, Paired]]
    """Damage -> images that are still right, and the paired comparison with the images as they are."""

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and numbers."""
        return {
            "n": self.n,
            "as they are": wilson(self.right, self.n).to_json(),
            "damaged": {
                name: {**wilson(right, self.n).to_json(), "change": paired.difference.to_json()}
                for name, (right, paired) in self.damaged.items()
            },
        }

    def lines(self) -> list[str]:
        """A table for a model card."""
        rows = [
            f"| {name} | {100 * right / self.n:.1f} % | {100 * change.estimate:+.1f} "
            f"({100 * change.low:+.1f} to {100 * change.high:+.1f}) |"
            for name, right, change in (
                (name, right, paired.difference) for name, (right, paired) in self.damaged.items()
            )
        ]
        head = ["| | right | change, 95 % interval |", "|---|---|---|"]
        return [*head, f"| as they are | {100 * self.right / self.n:.1f} % | |", *rows]


def measure_robustness(
    model: Model, dataset: Dataset, rows: Int[np.ndarray, "W"], truth: Labels, *, calibrated: bool = False
) -> Robustness | None:
    """The model on damaged images; None if none of them can be used.

    Parameters
    ----------
    model : with its graph
    rows : images that were not learned from
    truth : (W,) their trusted labels
    calibrated : whether the model was calibrated on these; each half of them is then judged by the other
    """
    runtime = load_runtime(model)
    found = [_square(dataset, int(row), runtime) for row in rows]
    pairs = [(image, label) for image, label in zip(found, truth, strict=True) if image is not None]
    if not pairs:
        return None
    labels = np.array([label for _, label in pairs])

    def probabilities(damage: Callable[[Pixels], Pixels]) -> Probs:
        squares = [to_square(damage(image), runtime.size, runtime.interpolation) for image, _ in pairs]
        return runtime.probabilities(np.stack(squares))

    def predicted(probs: Probs) -> Labels:
        judged = by_halves(as_they_are, labels, NO_FLOOR, of=probs) if calibrated else probs
        likeliest: Labels = judged.argmax(axis=1)
        return likeliest

    as_they_are = probabilities(lambda image: image)
    plain = predicted(as_they_are)
    said = {name: predicted(probabilities(damage)) for name, damage in DAMAGE.items()}
    return Robustness(
        len(labels),
        int((plain == labels).sum()),
        {name: (int((one == labels).sum()), mcnemar(labels, plain, one)) for name, one in said.items()},
    )


def _square(dataset: Dataset, row: int, runtime: Runtime) -> Square | None:
    """No larger than the model's size, and than it is, so that damage is done to no enlarged picture."""
    image = read_image(dataset, row, runtime.size)
    if image is None:
        return None
    side = min(runtime.size, max(image.pixels.shape[:2]))
    return to_square(image.pixels, side, runtime.interpolation)
