"""The examples run as they are."""

import json
import runpy
from pathlib import Path

import pytest

from assay.recipes.listing import TITLES

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.train
def test_the_notebook_retold_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cells compare all systems, draw them, label 500 new images and measure the labels."""
    monkeypatch.chdir(tmp_path)
    # 500 to learn from instead of 1,297: it is the cells that are tried here.
    monkeypatch.setattr("assay.recipes.demo.DIGITS", 1_000)
    runpy.run_path(str(EXAMPLES / "notebook.py"))
    printed = capsys.readouterr().out
    out = tmp_path / "out" / "notebook"
    compared = json.loads((out / "compared" / "compare.json").read_text())
    assert {row["recipe"]: row["status"] for row in compared["rows"]} == dict.fromkeys(TITLES, "done")
    for title in TITLES.values():
        assert title in printed
    predicted = (out / "label_prediction.csv").read_text().splitlines()
    assert predicted[0] == "Index,Baseline,CNN 1,CNN 2,Model I,Model II,Assay"
    assert len(predicted) == 501
    pictures = {str(file.relative_to(out / "compared")) for file in out.rglob("*.svg")}
    assert pictures == {
        "pictures/samples.svg",
        "pictures/confusion_given.svg",
        *(f"pictures/confusion_{recipe}.svg" for recipe in TITLES),
        *(f"models/{recipe}/layers.svg" for recipe in TITLES),
        *(f"models/{recipe}/history.svg" for recipe in ("cnn-1", "cnn-2", "model-1", "model-2")),
    }


def test_an_example_is_cells(tmp_path: Path) -> None:
    """Each example is a script of cells that begins with words, so that any notebook opens it."""
    for file in EXAMPLES.glob("*.py"):
        text = file.read_text("utf-8")
        assert text.startswith("# %% [markdown]\n# # ")
        assert text.count("\n# %%\n") >= 3
