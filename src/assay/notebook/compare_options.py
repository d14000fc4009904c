"""What a comparison is told; every field is a flag of ``assay compare``."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.data.classes import closest
from assay.errors import UsageError
from assay.notebook.listing import TITLES
from assay.pipeline.options import RunOptions


@dataclass(frozen=True)
class CompareOptions:
    """Settings of a comparison. Two with equal settings and data train equal models."""

    run: RunOptions = field(default_factory=RunOptions)
    """What all recipes share: labels, holdout, seed, cache; assay's own backbone."""
    systems: tuple[str, ...] = tuple(TITLES)
    """Ids, in the order of ``TITLES``."""
    backbone: str | None = None
    """Of all recipes that use one; None: each recipe's own."""
    size: int | None = None
    """Side in pixels that their images are resized to; None: each recipe's own."""
    published: bool = False
    """With the notebook's defects that change results."""
    search: bool = False
    """Choose what the notebook says it chose by grid search."""
    figures_from: Path | None = None
    """With ``holdout=0``: the same comparison with a holdout, whose figures are carried over."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "systems", ordered(self.systems))
        if self.run.refit:
            raise UsageError("--refit: a comparison measures the models that it saves; leave it out")
        if self.figures_from is not None and self.run.holdout != 0:
            raise UsageError(
                "--figures-from: models that are measured on a holdout have figures of their own; "
                "give it with --holdout 0"
            )
        if self.run.weights is not None and self.backbone is None and "assay" not in self.systems:
            raise UsageError(
                "--weights: expected --backbone with the name of their network, or the recipe assay, got "
                f"neither: {', '.join(self.systems)} have networks of their own"
            )

    def settings(self) -> dict[str, Any]:
        """What changes a row besides the data; kept in compare.json to be compared."""
        own = {
            "backbone": self.backbone,
            "size": self.size,
            "as_published": self.published,
            "search": self.search,
            "figures_from": True if self.figures_from else None,
        }
        return self.run.settings() | own


def ordered(systems: Iterable[str]) -> tuple[str, ...]:
    """The named recipes, each once, in the order in which they are shown.

    Raises
    ------
    UsageError : a name that is no recipe, or none at all
    """
    named = list(systems)
    strange = [name for name in named if name not in TITLES]
    if strange:
        near = closest(strange[0], tuple(TITLES))
        hint = f"did you mean {near}?" if near else f"there are {', '.join(TITLES)}"
        raise UsageError(f"--systems: expected ids of recipes, got {strange[0]!r}; {hint}")
    if not named:
        raise UsageError(f"--systems: expected at least one of {', '.join(TITLES)}, got none")
    return tuple(name for name in TITLES if name in named)
