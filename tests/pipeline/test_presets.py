"""Schedules: more epochs for few images, fewer for little time."""

import pytest

pytest.importorskip("timm", reason="needs the train extra")

from assay.pipeline.options import PRESET_NAMES
from assay.pipeline.presets import FINAL_PREDICTIONS, PRESETS, Preset, Schedule, fit_schedule, tuning_for
from assay.train.finetune import Phase
from assay.train.loop import Pace

PHASES = (Phase(64, 2), Phase(96, 3))
PACE = {64: Pace(3.0, 1.0), 96: Pace(6.0, 2.0)}


def fitted(limit_s: float | None) -> Schedule:
    return fit_schedule(PHASES, PACE, limit_s, n_images=20_000, n_train=10_000)


def test_without_a_limit_there_are_all_epochs():
    """The time is that of training, and of predicting all images at the end."""
    schedule = fitted(None)
    assert schedule.phases == PHASES
    assert schedule.seconds == pytest.approx(2 * 30 + 3 * 60 + FINAL_PREDICTIONS * 40)


@pytest.mark.parametrize(
    ("limit_s", "phases"),
    [
        (300.0, PHASES),
        (299.0, (Phase(64, 2), Phase(96, 2))),
        (239.0, (Phase(64, 2), Phase(96, 1))),
        (179.0, (Phase(64, 1), Phase(96, 1))),
        (149.0, (Phase(64, 1),)),
        (59.0, ()),
        (-5.0, ()),
    ],
)
def test_less_time_takes_fewer_epochs(limit_s, phases):
    """The longest phase is shortened first, and what is left fits."""
    schedule = fitted(limit_s)
    assert schedule.phases == phases
    assert not phases or schedule.seconds <= limit_s


def test_few_images_have_more_epochs_and_many_larger_batches():
    """A network learns by steps, but not without end; the average reaches back over as many images."""
    preset = PRESETS["balanced"]
    assert preset.phases_for(50_000) == preset.phases_for(12_000) == preset.phases
    assert [phase.epochs for phase in preset.phases_for(6_000)] == [2 * s.epochs for s in preset.phases]
    assert preset.phases_for(100) == preset.phases_for(1)
    few, many = tuning_for(23_999), tuning_for(24_000)
    assert many.batch == 2 * few.batch
    assert 1 - many.averaged == pytest.approx(2 * (1 - few.averaged))
    assert few.learning_rate < many.learning_rate < 2 * few.learning_rate


@pytest.mark.parametrize(
    ("size", "phases"),
    [
        (None, PHASES),
        (96, PHASES),
        (160, (Phase(64, 2), Phase(160, 3))),
        (65, (Phase(64, 2), Phase(65, 3))),
        (64, (Phase(64, 5),)),
        (48, (Phase(48, 5),)),
    ],
)
def test_a_schedule_ends_at_the_size_that_was_asked_for(size, phases):
    """In as many epochs; a phase at images as large or larger gives its epochs to the last."""
    assert Preset("x", PHASES).at(size).phases == phases


def test_a_schedule_is_read_back_and_described():
    """As run.json keeps it; each preset but ``fast`` has one."""
    schedule = Schedule(PHASES, 120.0)
    assert Schedule.from_json(schedule.to_json()) == PHASES
    words = "fine-tuning x on 5 images, epochs: 2 at 64 px, 3 at 96 px; about 2 min"
    assert schedule.words("x", 5) == words
    assert ("fast", *PRESETS) == PRESET_NAMES
