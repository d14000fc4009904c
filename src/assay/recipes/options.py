"""What a run is told; every field is a flag of ``assay run``."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_cache_path

from assay.data.dataset import ReadOptions
from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE


def default_cache() -> Path:
    """``$ASSAY_CACHE``, else the user's cache folder."""
    named = os.environ.get("ASSAY_CACHE")
    return Path(named) if named else user_cache_path("assay")


@dataclass(frozen=True)
class RunOptions:
    """Settings of a run. Two runs with equal settings and data write equal bytes."""

    read: ReadOptions = field(default_factory=ReadOptions)
    backbone: str = DEFAULT_BACKBONE
    weights: Path | None = None
    """A local safetensors file for the backbone."""
    size: int = DEFAULT_SIZE
    dtype: str = "auto"
    holdout: int | None = None
    """Trusted images sealed for the final figure; None: a fifth, at most 2,000."""
    holdout_split: str = "stratified"
    """``stratified`` or ``notebook``."""
    folds: int = 5
    threshold: float = 0.8
    """Confidence from which a fixed label may be relied on."""
    seed: int = 0
    effort: str = "fast"
    cache: Path = field(default_factory=default_cache)
    workers: int = 2
    """Threads that decode images, and heads fitted at the same time: the number of cores."""

    def settings(self) -> dict[str, object]:
        """What changes the result, as plain values: kept in run.json, compared on resume."""
        chosen: dict[str, object] = {
            name: getattr(self, name)
            for name in (
                "backbone",
                "size",
                "dtype",
                "holdout",
                "holdout_split",
                "folds",
                "threshold",
                "seed",
                "effort",
            )
        }
        chosen["weights"] = str(self.weights) if self.weights else None
        return chosen
