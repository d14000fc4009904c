"""The recipes by name."""

from assay.notebook.listing import SYSTEMS, TITLES


def test_every_recipe_has_a_title():
    """In the notebook's order, our own last."""
    assert [*SYSTEMS, "assay"] == list(TITLES)
    assert list(TITLES.values()) == ["Baseline", "CNN 1", "CNN 2", "Model I", "Model II", "Assay"]


def test_each_is_a_function_of_a_task():
    """Whatever a recipe is made of, it is called in one way."""
    from inspect import signature

    assert {tuple(signature(system).parameters) for system in SYSTEMS.values()} == {("task",)}
