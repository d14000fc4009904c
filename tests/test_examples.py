"""The examples run as they are."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from small_runs import quick_learning

from assay.notebook.systems import TITLES

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICK = Path(__file__).parent / "support" / "small_runs.py"


@pytest.fixture
def _quick_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m assay` trains a head in a moment, and a comparison's systems in its own process."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{QUICK}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("WORKING_HERE", "1")


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.usefixtures("_quick_command")
def test_the_notebook_retold_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cells compare all systems, draw them, label 500 new images and measure the labels."""
    monkeypatch.chdir(tmp_path)
    # 200 to learn from instead of 1,297: it is the cells that are tried here.
    monkeypatch.setattr("assay.pipeline.demo.DIGITS", 700)
    runpy.run_path(str(EXAMPLES / "notebook.py"))
    printed = capsys.readouterr().out
    out = tmp_path / "out" / "notebook"
    compared = json.loads((out / "compared" / "compare.json").read_text())
    assert {row["system"]: row["status"] for row in compared["rows"]} == dict.fromkeys(TITLES, "done")
    for title in TITLES.values():
        assert title in printed
    predicted = (out / "label_prediction.csv").read_text().splitlines()
    assert predicted[0] == "Index,Baseline,CNN 1,CNN 2,Model I,Model II,Assay"
    assert len(predicted) == 501
    pictures = {str(file.relative_to(out / "compared")) for file in out.rglob("*.svg")}
    assert pictures == {
        "pictures/samples.svg",
        "pictures/confusion_noisy.svg",
        *(f"pictures/confusion_{system}.svg" for system in TITLES),
        *(f"models/{system}/layers.svg" for system in TITLES),
        *(f"models/{system}/history.svg" for system in ("cnn-1", "cnn-2", "model-1", "model-2")),
    }


@pytest.mark.train
def test_the_texts_run_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Features of a thousand texts are enough: labels get better, and new texts are predicted."""
    monkeypatch.chdir(tmp_path)
    with quick_learning():
        found = runpy.run_path(str(EXAMPLES / "texts.py"))
    assert found["right"]["corrected"] > found["right"]["noisy"] + 0.05
    assert found["accuracy"] > 0.6
    assert "new texts are put into the right part of SciPy" in capsys.readouterr().out


def test_an_example_is_cells() -> None:
    """Each example is a script of cells that begins with words, so that any notebook opens it."""
    for file in EXAMPLES.glob("*.py"):
        text = file.read_text("utf-8")
        assert text.startswith("# %% [markdown]\n# # ")
        assert text.count("\n# %%\n") >= 3
