"""Schedules: more epochs for few images, fewer for little time."""

import pytest

pytest.importorskip("timm")

from assay.pipeline.options import PRESET_NAMES
from assay.pipeline.presets import (
    LAST_LOOKS,
    PRESETS,
    ImageCounts,
    Preset,
    Schedule,
    fit_schedule,
    fit_schedules,
    tuning_for,
)
from assay.train.finetune import Phase
from assay.train.pace import Pace

PHASES = (Phase(64, 2), Phase(96, 3))
PACE = {64: Pace(3.0, 1.0), 96: Pace(6.0, 2.0)}


BALANCED = PRESETS["balanced"]
MANY = ImageCounts(12_000, 12_000, 12_000)


def fitted(limit_s: float | None) -> Schedule:
    return fit_schedule(PHASES, PACE, ImageCounts(20_000, 10_000, 10_000), limit_s)


def test_without_a_limit_all_epochs_are_done():
    """And the time is that of learning, of asking after each epoch, and of the last looks at all images."""
    schedule = fitted(None)
    assert schedule.phases == PHASES
    assert schedule.seconds == pytest.approx(2 * 40 + 3 * 80 + LAST_LOOKS * 40)


@pytest.mark.parametrize(
    ("limit_s", "phases"),
    [
        (380.0, PHASES),
        (379.0, (Phase(64, 2), Phase(96, 2))),
        (299.0, (Phase(64, 2), Phase(96, 1))),
        (219.0, (Phase(64, 1), Phase(96, 1))),
        (179.0, (Phase(64, 1),)),
        (69.0, ()),
        (-5.0, ()),
    ],
)
def test_less_time_takes_fewer_epochs(limit_s, phases):
    """The longest phase gives way first, and what is left fits."""
    schedule = fitted(limit_s)
    assert schedule.phases == phases
    assert not phases or schedule.seconds <= limit_s


def test_few_images_are_seen_more_often():
    """A network learns by steps; but not without end."""
    preset = PRESETS["balanced"]
    assert preset.phases_for(50_000) == preset.phases_for(12_000) == preset.phases
    assert [phase.epochs for phase in preset.phases_for(6_000)] == [2 * s.epochs for s in preset.phases]
    assert preset.phases_for(100) == preset.phases_for(1)


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


def test_a_schedule_is_read_back():
    """As run.json keeps it."""
    schedule = Schedule(PHASES, 12.0)
    assert Schedule.from_json(schedule.to_json()) == PHASES
    assert "epochs: 2 at 64 px, 3 at 96 px; about 2 min" in Schedule(PHASES, 120.0).words("x", 5)


def test_each_effort_has_its_schedule():
    """But for fast, which fine-tunes nothing."""
    assert ("fast", *PRESETS) == PRESET_NAMES


def test_only_images_that_are_not_settled_are_asked_about():
    """They cost less time than all would."""
    some = fit_schedule(PHASES, PACE, ImageCounts(20_000, 10_000, 1_000), None)
    assert fitted(None).seconds - some.seconds == pytest.approx(9 * (2 * 1 + 3 * 2))


def test_a_limit_is_shared_by_teacher_and_student():
    """The student may have half of it, the teacher what is left; without a limit both have all epochs."""
    paced = {"teacher": PACES, "student": PACES}
    free = fit_schedules(BALANCED, paced, None, MANY)
    assert {role: schedule.phases for role, schedule in free.items()} == dict.fromkeys(paced, FULL)
    whole = free["student"].seconds
    assert fit_schedules(BALANCED, paced, 2 * whole, MANY) == free
    less = fit_schedules(BALANCED, paced, 1.6 * whole, MANY)
    assert less["student"].seconds <= 0.8 * whole
    assert less["student"].seconds + less["teacher"].seconds <= 1.6 * whole
    alone = fit_schedules(BALANCED, {"student": PACES}, whole, MANY)
    assert alone == {"student": free["student"]}


def test_where_time_is_short_nobody_teaches():
    """All of it is the student's, where a half would be too short for it or the rest for a teacher."""
    alone = {"student": {phase.size: Pace(5.0, 1.0) for phase in FULL}}
    slow = {"teacher": {phase.size: Pace(500.0, 100.0) for phase in FULL}}
    for paced, limit_s in (({"teacher": PACES, **alone}, 100.0), (slow | alone, 400.0)):
        found = fit_schedules(BALANCED, paced, limit_s, MANY)
        assert [*found] == ["teacher", "student"]
        assert found["teacher"] == Schedule((), 0.0)
        assert found["student"] == fit_schedules(BALANCED, alone, limit_s, MANY)["student"]
        assert found["student"].phases


FULL = BALANCED.phases

PACES = {phase.size: Pace(phase.size / 20, phase.size / 60) for phase in FULL}


def test_many_images_are_learned_from_more_at_a_time():
    """Twice the batch, and the average reaches back over as many images; few images keep their steps."""
    few, many = tuning_for(23_999), tuning_for(24_000)
    assert many.batch == 2 * few.batch
    assert 1 - many.averaged == pytest.approx(2 * (1 - few.averaged))
    assert few.learning_rate < many.learning_rate < 2 * few.learning_rate
    assert many.augment == few.augment
