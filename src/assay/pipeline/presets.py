"""Efforts: which network is fine-tuned, how many epochs at which size, and how long that takes here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.pipeline.options import RunOptions
from assay.train.finetune import Phase
from assay.train.loop import Tuning
from assay.train.pace import Pace

MANY = 12_000
"""Images of which an epoch has steps enough."""

LAST_LOOKS = 1.5
"""Times that an image is looked at when all is learned: at those that the student is unsure of twice."""

MOST_TIMES = 20
"""By which epochs are multiplied for few images."""


@dataclass(frozen=True)
class Preset:
    """A student and its schedule."""

    student: str
    """A network of timm."""
    phases: tuple[Phase, ...]
    """For ``MANY`` images or more."""

    @property
    def largest(self) -> int:
        """Side in pixels of the largest images that are learned from."""
        return max(phase.size for phase in self.phases)

    def at(self, size: int | None) -> "Preset":
        """The same with images that end at ``size`` pixels, as many epochs in all; None leaves them be."""
        if size is None:
            return self
        epochs = sum(phase.epochs for phase in self.phases)
        smaller = tuple(phase for phase in self.phases[:-1] if phase.size < size)
        left = epochs - sum(phase.epochs for phase in smaller)
        return replace(self, phases=(*smaller, Phase(size, left)))

    def phases_for(self, n: int) -> tuple[Phase, ...]:
        """The phases for ``n`` images: more epochs where these are few, for a network learns by steps."""
        times = min(max(round(MANY / max(n, 1)), 1), MOST_TIMES)
        return tuple(replace(phase, epochs=times * phase.epochs) for phase in self.phases)


PRESETS = {
    "balanced": Preset("tf_efficientnet_lite0", (Phase(64, 1), Phase(128, 7))),
    "best": Preset("tf_efficientnet_lite2", (Phase(64, 1), Phase(128, 11))),
}
"""Besides ``fast``, which fine-tunes nothing; chosen on the validation slice, see benchmarks/LOG.md."""


def chosen_preset(options: RunOptions) -> Preset:
    """What a run's options name."""
    return PRESETS[options.preset].at(options.student_size)


def tuning_for(n: int) -> Tuning:
    """How to learn from ``n`` images: twice as many at a time where there are steps enough all the same.

    An image then takes a sixth less time at 64 px; the rate grows by the root of two, and the average
    reaches back over as many images.
    """
    return Tuning(batch=128, learning_rate=1.4e-3, averaged=0.996) if n >= 2 * MANY else Tuning()


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images that decide how long fine-tuning takes."""

    images: int
    learned_from: int
    """In an epoch."""
    asked: int
    """About, after an epoch: those that are not settled. Later epochs leave fewer."""


@dataclass(frozen=True)
class Schedule:
    """What will be done, and about how long it takes."""

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
        """The phases that ``to_json`` gave."""
        return tuple(Phase(int(size), int(epochs)) for size, epochs in found)


def fit_schedule(
    phases: Sequence[Phase],
    pace: Mapping[int, Pace],
    counts: ImageCounts,
    limit_s: float | None,
) -> Schedule:
    """As many of the epochs as the time allows; the longest phase gives way first, the last epoch last.

    Parameters
    ----------
    pace : at each phase's size
    limit_s : seconds there are; None for as many as it takes
    """
    kept = tuple(phases)
    while kept and limit_s is not None and _seconds(kept, pace, counts) > limit_s:
        # The later of two equally long phases, whose epochs cost more.
        at = max(range(len(kept)), key=lambda i: (kept[i].epochs, i))
        shorter = replace(kept[at], epochs=kept[at].epochs - 1)
        kept = tuple(phase for phase in (*kept[:at], shorter, *kept[at + 1 :]) if phase.epochs)
    return Schedule(kept, _seconds(kept, pace, counts))


def _seconds(phases: Sequence[Phase], pace: Mapping[int, Pace], counts: ImageCounts) -> float:
    learn = sum(phase.epochs * counts.learned_from * pace[phase.size].learn_ms for phase in phases)
    look = sum(phase.epochs * counts.asked * pace[phase.size].look_ms for phase in phases)
    last = LAST_LOOKS * counts.images * pace[phases[-1].size].look_ms if phases else 0.0
    return (learn + look + last) / 1000


def fit_schedules(
    preset: Preset, paced: Mapping[str, Mapping[int, Pace]], left_s: float | None, counts: ImageCounts
) -> dict[str, Schedule]:
    """A schedule for each network, by role; of a limit the student may have half, the teacher what is left.

    Where that is too little for an epoch of either, the student has all of it and nobody teaches.

    Parameters
    ----------
    paced : role -> size -> pace
    left_s : seconds there are
    """
    phases = preset.phases_for(counts.learned_from)

    def fitted(role: str, limit_s: float | None) -> Schedule:
        return fit_schedule(phases, paced[role], counts, limit_s)

    if left_s is None or "teacher" not in paced:
        return {role: fitted(role, left_s) for role in paced}
    student = fitted("student", left_s / 2)
    teacher = fitted("teacher", left_s - student.seconds)
    if not (student.phases and teacher.phases):
        student, teacher = fitted("student", left_s), Schedule((), 0.0)
    return {"teacher": teacher, "student": student}
