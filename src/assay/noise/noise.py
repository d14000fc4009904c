"""Noise: what is known about how wrong the given labels are."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assay.noise.intervals import Interval
from assay.noise.shrink import Shrinkage
from assay.noise.structure import Symmetry
from assay.types import Counts, Prior, Transition


@dataclass(frozen=True)
class Noise:
    """How wrong the given labels are, with the evidence for it."""

    classes: tuple[str, ...]
    """The K class names; ``class 0``, ``class 1``… if none were given."""
    counts: Counts
    """Trusted pairs at [true, given]: all that the rest is computed from."""
    rate: Interval
    """P(given != true): the share among the pairs, and its interval."""
    transition: Transition
    """P(given | true) at [true, given], the one to use; all cells > 0, rows sum to 1."""
    low: Transition
    """Lower end of the credible interval of each cell of ``transition``."""
    high: Transition
    """Upper end. Each cell is judged by the pairs of its own class alone, in the symmetric form too, so a
    class without pairs has 0 to 1 whatever the other classes say."""
    prior: Prior
    """P(true) of each class, if the trusted images were picked at random; all > 0, sums to 1."""
    form: str
    """``symmetric`` (one noise rate, wrong labels even over the other classes) or ``full``."""
    structure: Symmetry
    """The test that chose the form."""
    shrinkage: Shrinkage
    """The pseudo-counts of the full form, also when the symmetric one was chosen."""
    notes: tuple[str, ...] = ()
    """Warnings in plain words."""

    @property
    def n_pairs(self) -> int:
        """Images with both labels."""
        return int(self.counts.sum())

    @property
    def level(self) -> float:
        """The level of all the intervals."""
        return self.rate.level

    @property
    def wrong_share_by_class(self) -> tuple[Interval, ...]:
        """P(given != true | true) of each class."""
        wrong, low, high = (1 - np.diag(matrix) for matrix in (self.transition, self.high, self.low))
        return tuple(
            Interval(float(wrong[i]), float(low[i]), float(high[i]), self.level) for i in range(len(wrong))
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as plain dicts, lists and numbers; matrices as lists of rows at [true][given]."""
        arrays = ("counts", "transition", "low", "high", "prior")
        return {
            "classes": list(self.classes),
            "n_pairs": self.n_pairs,
            "rate": self.rate.to_json(),
            "form": self.form,
            "symmetry": self.structure.to_json(),
            "shrinkage": asdict(self.shrinkage),
            **{name: getattr(self, name).tolist() for name in arrays},
            "wrong_share_by_class": [share.to_json() for share in self.wrong_share_by_class],
            "notes": list(self.notes),
        }
