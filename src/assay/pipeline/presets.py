"""Presets: which network is fine-tuned, how many epochs at which size, and how long that takes here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.pipeline.options import RunOptions
from assay.train.finetune import Phase
from assay.train.loop import Pace, Tuning

MANY = 12_000
"""Images of which an epoch has steps enough."""

MOST_TIMES = 20
"""By which epochs are multiplied for few images."""

FINAL_PREDICTIONS = 1.5
"""Predictions an image when training is over: a second one, of the mirror, where the first is unsure."""

FINISH_S = 20.0
"""What follows fine-tuning: damaged images, export, writing; 16 s on two quiet cores, 33 s on busy ones."""


@dataclass(frozen=True)
class Preset:
    """A network and its schedule."""

    student: str
    """timm's name."""
    phases: tuple[Phase, ...]
    """For ``MANY`` images or more."""

    @property
    def largest(self) -> int:
        """Side in pixels of the largest images in training."""
        return max(phase.size for phase in self.phases)

    def at(self, size: int | None) -> "Preset":
        """The same with images that end at ``size`` pixels, as many epochs in all; None changes nothing."""
        if size is None:
            return self
        epochs = sum(phase.epochs for phase in self.phases)
        smaller = tuple(phase for phase in self.phases[:-1] if phase.size < size)
        left = epochs - sum(phase.epochs for phase in smaller)
        return replace(self, phases=(*smaller, Phase(size, left)))

    def phases_for(self, n: int) -> tuple[Phase, ...]:
        """The phases for ``n`` images: more epochs where these are few, since a network learns by steps."""
        times = min(max(round(MANY / max(n, 1)), 1), MOST_TIMES)
        return tuple(replace(phase, epochs=times * phase.epochs) for phase in self.phases)


PRESETS = {
    "balanced": Preset("tf_efficientnet_lite0", (Phase(64, 1), Phase(128, 7))),
    "best": Preset("tf_efficientnet_lite2", (Phase(64, 1), Phase(128, 11))),
}
"""Besides ``fast``, which fine-tunes nothing; chosen on the validation slice, see benchmarks/LOG.md."""


def chosen_preset(options: RunOptions) -> Preset:
    """The preset of a run's options, with their network and size."""
    preset = PRESETS[options.preset].at(options.student_size)
    return replace(preset, student=options.student or preset.student)


def tuning_for(n: int) -> Tuning:
    """How to train on ``n`` images: with twice the batch where there are steps enough all the same.

    An image then takes a sixth less time at 64 px; the rate grows by the root of two, and the average reaches
    back over as many images.
    """
    return Tuning(batch=128, learning_rate=1.4e-3, averaged=0.996) if n >= 2 * MANY else Tuning()


@dataclass(frozen=True)
class Schedule:
    """The epochs of a fine-tuning, and about how long they take."""

    phases: tuple[Phase, ...]
    """Empty if there is no time for any."""
    seconds: float

    def words(self, student: str, n: int) -> str:
        """For a person, before it begins."""
        epochs = ", ".join(f"{phase.epochs} at {phase.size} px" for phase in self.phases)
        return f"fine-tuning {student} on {n:,} images, epochs: {epochs}; about {self.seconds / 60:.0f} min"

    def to_json(self) -> list[list[int]]:
        """Size and epochs of each phase."""
        return [[phase.size, phase.epochs] for phase in self.phases]

    @staticmethod
    def from_json(found: Sequence[Sequence[Any]]) -> tuple[Phase, ...]:
        """The phases of ``to_json()``."""
        return tuple(Phase(int(size), int(epochs)) for size, epochs in found)


def fit_schedule(
    phases: Sequence[Phase],
    pace: Mapping[int, Pace],
    limit_s: float | None,
    *,
    n_images: int,
    n_train: int,
) -> Schedule:
    """As many of the epochs as the time allows; the longest phase is shortened first, the last one last.

    Parameters
    ----------
    pace : at each phase's size
    limit_s : seconds there are; None for as many as it takes
    n_images : all images, predicted at the end; those predicted after each epoch are few
    n_train : images trained on in an epoch
    """

    def seconds(phases: Sequence[Phase]) -> float:
        train = sum(phase.epochs * n_train * pace[phase.size].train_ms for phase in phases)
        last = FINAL_PREDICTIONS * n_images * pace[phases[-1].size].predict_ms if phases else 0.0
        return (train + last) / 1000

    kept = tuple(phases)
    while kept and limit_s is not None and seconds(kept) > limit_s:
        # The later of two equally long phases, whose epochs cost more.
        at = max(range(len(kept)), key=lambda i: (kept[i].epochs, i))
        shorter = replace(kept[at], epochs=kept[at].epochs - 1)
        kept = tuple(phase for phase in (*kept[:at], shorter, *kept[at + 1 :]) if phase.epochs)
    return Schedule(kept, seconds(kept))
