"""What a comparison is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from assay.errors import UsageError
from assay.notebook.compare_options import CompareOptions, ordered
from assay.pipeline.options import RunOptions


def test_recipes_come_in_the_order_of_the_table():
    """Each once, however they were named; all by default."""
    everything = ("histogram", "cnn-1", "cnn-2", "model-1", "model-2", "assay")
    assert CompareOptions().systems == everything
    assert CompareOptions(systems=("assay", "cnn-1", "assay")).systems == ("cnn-1", "assay")
    assert ordered(reversed(everything)) == everything


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        (["cnn1"], r"--systems: expected ids of recipes, got 'cnn1'; did you mean cnn-1\?$"),
        (["xyz"], r"got 'xyz'; there are histogram, cnn-1, cnn-2, model-1, model-2, assay$"),
        ([""], r"expected ids of recipes, got ''"),
        ([], r"--systems: expected at least one of histogram, .*, got none$"),
    ],
)
def test_a_name_that_is_no_recipe_is_refused(systems, message):
    """With the nearest one, or all that there are."""
    with pytest.raises(UsageError, match=message):
        CompareOptions(systems=tuple(systems))


def test_weights_need_a_network_that_they_are_of():
    """The recipe assay has one, the others only what --backbone names."""
    run = RunOptions(weights=Path("w.safetensors"))
    with pytest.raises(UsageError, match=r"^--weights: expected --backbone .*, got neither: model-1"):
        CompareOptions(run=run, systems=("model-1", "model-2"))
    CompareOptions(run=run, systems=("model-1", "assay"))
    CompareOptions(run=run, systems=("model-1",), backbone="inception_v3")


def test_figures_are_carried_over_only_where_nothing_is_held_out():
    """Models that are measured have figures of their own."""
    with pytest.raises(UsageError, match=r"--figures-from: .* give it with --holdout 0$"):
        CompareOptions(figures_from=Path("out"))
    assert CompareOptions(run=RunOptions(holdout=0), figures_from=Path("out")).settings()["figures_from"]


def test_settings_are_what_changes_a_row():
    """Recipes, cache, workers and where figures come from are none; published and search are."""
    options = CompareOptions(run=RunOptions(holdout=0), figures_from=Path("a"))
    others = (
        replace(options, systems=("cnn-1",)),
        replace(options, figures_from=Path("b")),
        replace(options, run=replace(options.run, cache=Path("c"), workers=1)),
    )
    assert all(other.settings() == options.settings() for other in others)
    changes = ({"published": True}, {"search": True}, {"backbone": "tiny"}, {"size": 64})
    for change in changes:
        assert replace(options, **change).settings() != options.settings(), change
