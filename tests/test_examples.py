"""The examples run as they are."""

import ast
import contextlib
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from small_runs import quick_learning, work_here

from assay.cli.app import run_app
from assay.notebook.systems import TITLES

EXAMPLES = Path(__file__).parents[1] / "examples"


def command_here(
    command: list[str], *, run: Callable[..., Any], **options: Any
) -> subprocess.CompletedProcess[str]:
    """`python -m assay …` in this process, which has imported what it needs; other commands as ever."""
    if command[:3] != [sys.executable, "-m", "assay"]:
        return run(command, **options)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run_app(command[3:]) == 0
    return subprocess.CompletedProcess(command, 0, printed.getvalue())


@pytest.mark.slow
@pytest.mark.train
def test_the_notebook_retold_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cells compare all systems, draw them, label 500 new images and measure the labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", partial(command_here, run=subprocess.run))
    monkeypatch.setattr("assay.notebook.compare.run_apart", work_here)
    # 200 to learn from instead of 1,297: it is the cells that are tried here.
    monkeypatch.setattr("assay.pipeline.demo.DIGITS", 700)
    with quick_learning():
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


def run_cells(name: str) -> dict[str, Any]:
    """Runs a notebook's cells as Jupyter does, results shown as HTML included; gives its names."""
    names: dict[str, Any] = {"shown": []}
    for cell in json.loads((EXAMPLES / name).read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []  # they would grow stale
        *body, last = ast.parse("".join(cell["source"])).body
        final = [last] if isinstance(last, ast.Expr) else []
        exec(compile(ast.Module([*body, *([] if final else [last])], []), name, "exec"), names)
        for line in final:
            value = eval(compile(ast.Expression(line.value), name, "eval"), names)
            if value is not None:
                show = getattr(value, "_repr_html_", value.__repr__)
                names["shown"].append(show())
    return names


@pytest.fixture
def _quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own a head is trained in a moment, on 400 digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("assay.pipeline.demo.DIGITS", 900)
    with quick_learning():
        yield


@pytest.mark.usefixtures("_quick_run")
def test_your_own_photos_from_top_to_bottom() -> None:
    """A frame goes in; its rows get corrected labels; a result shows pictures; new photos are predicted."""
    found = run_cells("photos.ipynb")
    assert "Likeliest label errors, 8 of" in found["shown"][1]
    assert found["photos"]["file"].tolist() == found["labels"]["file"].tolist()
    assert (found["photos"]["corrected"] == found["labels"]["corrected_label"]).all()
    assert len(found["found"].predicted) == 500


@pytest.mark.usefixtures("_quick_run")
def test_a_hugging_face_data_set_from_top_to_bottom() -> None:
    """It comes back with all labels, and those that are sure can be kept."""
    pytest.importorskip("datasets")
    found = run_cells("huggingface.ipynb")
    corrected = found["corrected"]
    assert corrected["file"][:] == found["columns"]["image"]
    assert corrected["noisy_label"][:] == found["columns"]["label"]
    assert 0 < len(found["sure"]) < len(corrected)
    assert corrected[3]["image"].tobytes() == found["data"][3]["image"].tobytes()


@pytest.mark.usefixtures("_quick_run")
def test_your_own_embeddings_from_top_to_bottom() -> None:
    """Features of a thousand texts are enough: labels get better, and new texts are predicted."""
    found = run_cells("embeddings.ipynb")
    assert found["right"]["corrected"] > found["right"]["noisy"] + 0.05
    assert found["accuracy"] > 0.6


def test_an_example_is_cells() -> None:
    """A script of cells begins with words, so that any notebook opens it; so does a notebook."""
    for file in EXAMPLES.glob("*.py"):
        text = file.read_text("utf-8")
        assert text.startswith("# %% [markdown]\n# # ")
        assert text.count("\n# %%\n") >= 3
    for file in EXAMPLES.glob("*.ipynb"):
        first, *others = json.loads(file.read_text("utf-8"))["cells"]
        assert first["source"][0].startswith("# ")
        assert sum(cell["cell_type"] == "code" for cell in others) >= 3
