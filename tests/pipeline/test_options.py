"""Settings that cannot be are refused, and only what changes the result makes another run."""

from dataclasses import fields
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from assay.errors import UsageError
from assay.pipeline.options import RunOptions, RunSettings, default_cache

FINE_TUNED = r"^--student, --student-size, --time-limit: expected with --preset balanced or best, got fast$"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "careful"}, r"^--preset: expected fast, balanced, best, got 'careful'$"),
        ({"student": "x"}, FINE_TUNED),
        ({"student_size": 64}, FINE_TUNED),
        (
            {"preset": "best", "student_size": 16},
            r"^--student-size: expected 32 pixels or more, got 16: networks of ImageNet halve an image five",
        ),
        ({"time_limit": 60.0}, FINE_TUNED),
        (
            {"preset": "balanced", "time_limit": 0.0},
            r"^--time-limit: must be positive, got 0 seconds$",
        ),
        ({"seed": -1}, r"^--seed: expected 0 to 4294967294, got -1$"),
        ({"workers": 0}, r"^--workers: expected 1 or more, got 0$"),
        ({"threshold": 1.5}, r"^--threshold: expected a probability from 0 to 1, got 1.5$"),
        ({"folds": 1}, r"^--folds: expected 3 or more, got 1$"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(change, message):
    """Refused when the options are made."""
    with pytest.raises(UsageError, match=message):
        RunOptions(**change)


def test_weights_count_by_their_content(tmp_path):
    """A file that was moved is the same setting, one that was replaced is another."""
    one, moved, other = (tmp_path / name for name in ("one", "moved", "other"))
    one.write_bytes(b"x")
    moved.write_bytes(b"x")
    other.write_bytes(b"y")
    settings = [RunOptions(weights=path).settings() for path in (one, moved, other, None)]
    assert settings[0] == settings[1]
    assert settings[0] != settings[2]
    assert settings[3]["weights"] is None
    assert RunOptions(weights=tmp_path / "missing").settings()["weights"] is None


def test_the_keywords_are_the_fields():
    """``assay.run`` takes every field of ``RunOptions`` but ``read``."""
    places = {"read", "weights", "cache"}
    assert set(RunSettings.__annotations__) == {field.name for field in fields(RunOptions)} - places


def test_the_cache_is_where_the_environment_says(monkeypatch):
    """``ASSAY_CACHE``, else the user's cache folder, also where the variable is empty."""
    monkeypatch.setenv("ASSAY_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")
    monkeypatch.setenv("ASSAY_CACHE", "")
    assert default_cache() == user_cache_path("assay")
    monkeypatch.delenv("ASSAY_CACHE")
    assert default_cache() == user_cache_path("assay")
