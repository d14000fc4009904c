"""What every recipe of a comparison is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.data.dataset import Dataset
from assay.notebook.sequential import Epoch
from assay.pipeline.options import RunOptions
from assay.predict.model import Model
from assay.types import Labels, Mask, Progress, silent


@dataclass(frozen=True)
class Task:
    """One data set, its seal closed, and how to learn from it."""

    dataset: Dataset
    """The holdout's labels, given and trusted, are UNKNOWN: nothing can leak."""
    held: Mask
    """True for the held-out images."""
    options: RunOptions
    """Seed, cache, workers, dtype."""
    noisy_all: Labels
    """The noisy labels with the holdout's: the published baseline learned from them too."""
    backbone: str | None = None
    """Of the recipes that use one; None for the recipe's own."""
    size: int | None = None
    """Side in pixels of that backbone's images; None for the recipe's own."""
    published: bool = False
    """As the notebook was published, with those of its defects that change results."""
    search: bool = False
    """Choose the hyperparameters by cross-validation instead of taking the notebook's."""
    folder: Path | None = None
    """Where a search keeps its scores; None to keep none."""
    progress: Progress = silent

    @property
    def learnable(self) -> Mask:
        """True for images that are neither held out nor known to be unusable."""
        mask: Mask = self.dataset.usable & ~self.held
        return mask

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""
        return self.options.seed


@dataclass(frozen=True)
class Trained:
    """A finished model, and what it took."""

    model: Model
    """Its graph included."""
    history: tuple[Epoch, ...] = ()
    """Loss and accuracy by epoch; empty where nothing is trained by epochs."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time of each stage, such as ``embed`` and ``train``."""


System = Callable[[Task], Trained]
"""A whole way from a data set to a model; ``recipes/listing.py`` names them."""
