"""The options of a run; every field is a flag of ``assay run``."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from platformdirs import user_cache_path

from assay.data.dataset import Dataset, ReadOptions
from assay.data.files import file_digest
from assay.data.split import VERSION, Split, draw_holdout
from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE
from assay.errors import UsageError

PRESET_NAMES = ("fast", "balanced", "best")
"""``fast``: frozen features and a head; the others fine-tune a network, see ``pipeline.presets``."""

MOST_SEED = 2**32 - 2
"""NumPy's and scikit-learn's generators take one more at most; so does the second round of training."""

LEAST_SIZE = 32
"""Side in pixels of the smallest images that a network is fine-tuned on."""


def uses_flip_tta(preset: str) -> bool:
    """Whether the mirrored images are embedded too, in twice the time."""
    return preset == "fast"  # elsewhere a network corrects the labels afterwards


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
    """Side in pixels that images are resized to."""
    dtype: str = "auto"
    """``auto``, ``float32`` or ``bfloat16``."""
    holdout: int | None = None
    """Trusted images held out for the final figure; None: a fifth, at most 2,000."""
    holdout_split: str = "stratified"
    """``stratified`` or ``notebook``."""
    folds: int = 5
    """Folds of the cross-validation, 3 or more."""
    threshold: float = 0.8
    """Confidence from which a corrected label may be relied on, in [0, 1]."""
    seed: int = 0
    preset: str = "fast"
    """One of ``PRESET_NAMES``."""
    student: str | None = None
    """The network that is fine-tuned; None: that of the preset."""
    student_size: int | None = None
    """Side in pixels of the images that its model takes; None: the preset's."""
    time_limit: float | None = None
    """Seconds that the run may take, about, which decides the number of epochs; None: no limit."""
    cache: Path = field(default_factory=default_cache)
    """Of features and measured speeds; shared by any number of runs."""
    workers: int = 2
    """Threads that decode images, and heads fitted at the same time: the number of cores."""
    refit: bool = False
    """After measuring, train again on everything, the holdout too; the saved model carries the figures of
    before."""
    balanced: bool = False
    """The model predicts as if all classes were equally frequent; corrected labels stay as they are."""
    excel_safe: bool = False
    """Mark text in the CSV files that a spreadsheet would run as a formula."""

    def __post_init__(self) -> None:
        size, limit, preset = self.student_size, self.time_limit, self.preset
        alone = {self.student, size, limit} == {None}
        for holds, message in (
            (preset in PRESET_NAMES, f"--preset: expected {', '.join(PRESET_NAMES)}, got {preset!r}"),
            (
                0 <= self.threshold <= 1,
                f"--threshold: expected a probability from 0 to 1, got {self.threshold}",
            ),
            (self.folds >= 3, f"--folds: expected 3 or more, got {self.folds}"),
            (0 <= self.seed <= MOST_SEED, f"--seed: expected 0 to {MOST_SEED}, got {self.seed}"),
            (self.workers >= 1, f"--workers: expected 1 or more, got {self.workers}"),
            (
                self.read.features is None or preset == "fast",
                f"--preset: expected fast with --features, got {preset}: it fine-tunes a network on images",
            ),
            (
                self.read.features is None or not self._network(),
                f"{', '.join(self._network())}: expected images to embed, got --features",
            ),
            (
                preset != "fast" or alone,
                "--student, --student-size, --time-limit: expected with --preset balanced or best, got fast",
            ),
            (
                size is None or size >= LEAST_SIZE,
                f"--student-size: expected {LEAST_SIZE} pixels or more, got {size}: "
                "networks of ImageNet halve an image five times",
            ),
            (
                limit is None or limit > 0,
                f"--time-limit: must be positive, got {limit or 0:g} seconds",
            ),
            (
                not self.refit or self.holdout != 0,
                "--refit: expected a holdout to measure the model on before, got --holdout 0",
            ),
        ):
            if not holds:
                raise UsageError(message)

    def _network(self) -> list[str]:
        """The flags of the network that embeds images, as far as they were set."""
        usual = {"backbone": DEFAULT_BACKBONE, "weights": None, "size": DEFAULT_SIZE, "dtype": "auto"}
        return [f"--{name}" for name, value in usual.items() if getattr(self, name) != value]

    def split(self, dataset: Dataset) -> Split:
        """Which trusted images are held out, and which may be trained on."""
        return draw_holdout(
            dataset.trusted,
            dataset.usable,
            size=self.holdout,
            how=self.holdout_split,
            seed=self.seed,
            groups=dataset.groups,
        )

    def settings(self) -> dict[str, Any]:
        """All that changes the result besides the labels, as plain JSON; run.json keeps it to be compared."""
        apart = ("read", "weights", "cache", "workers")
        # Later options are left out where they are not set, as in records of earlier versions.
        later = ("balanced", "excel_safe")
        chosen = {
            name: value
            for name, value in vars(self).items()
            if name not in apart and (value or name not in later)
        }
        # By content: a file that was moved is the same, one that was replaced is not.
        chosen["weights"] = file_digest(self.weights) if self.weights and self.weights.is_file() else None
        # Another version draws other images from the same seed: some of them were trained on here.
        chosen["holdout_version"] = VERSION if self.holdout_split == "stratified" else None
        if self.read.features is not None:
            for name in ("backbone", "weights", "size", "dtype"):  # no network computes them
                del chosen[name]
        return chosen


class RunSettings(TypedDict, total=False):
    """The fields of ``RunOptions`` as keywords of ``assay.run``, which has its own for places."""

    backbone: str
    size: int
    dtype: str
    holdout: int | None
    holdout_split: str
    folds: int
    threshold: float
    seed: int
    preset: str
    student: str | None
    student_size: int | None
    time_limit: float | None
    refit: bool
    balanced: bool
    workers: int
    excel_safe: bool
