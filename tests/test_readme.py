"""What the README shows is what happens."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import quick_learning

from assay.cli.app import run_app
from assay.data.simulate import spoil, symmetric

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CLASSES = ("lake", "meadow", "sunset")
COLOURS = np.array([(40, 90, 200), (60, 180, 60), (230, 120, 40)])


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def draw(folder: Path, truth: np.ndarray, seed: int) -> list[str]:
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for i, label in enumerate(truth):
        pixels = COLOURS[label] + generator.normal(0, 40, (32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return [f"{i}.png" for i in range(len(truth))]


def table(file: Path, names: list[str], labels: np.ndarray) -> None:
    rows = [f"{name},{CLASSES[label]}" for name, label in zip(names, labels, strict=True)]
    file.write_text("\n".join(["file,label", *rows]) + "\n")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folders and files that the README names, in the working folder."""
    truth, test = np.arange(90) % 3, np.arange(15) % 3
    names = draw(tmp_path / "images", truth, 0)
    table(tmp_path / "noisy.csv", names, spoil(truth, symmetric(3, 0.3), 0))
    table(tmp_path / "trusted.csv", names[:45], truth[:45])
    draw(tmp_path / "new_images", test, 1)
    table(tmp_path / "test_labels.csv", draw(tmp_path / "test_images", test, 2), test)
    monkeypatch.chdir(tmp_path)
    # A smaller network on smaller pictures, and a head that learns in a moment.
    monkeypatch.setenv("ASSAY_BACKBONE", "tf_efficientnet_lite0")
    monkeypatch.setenv("ASSAY_SIZE", "64")
    with quick_learning():
        yield tmp_path


@pytest.mark.train
def test_the_commands_run_as_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `assay` line of the README does its work, though nine held-out pictures may not prove a gain."""
    (block,) = [block for block in blocks("") if "assay run " in block]
    lines = [line.split("#")[0] for line in block.splitlines() if line.startswith("assay ")]
    commands = [shlex.split(line)[1:] for line in lines]
    assert " ".join(words[0] for words in commands) == "noise run predict evaluate export audit report"
    for words in commands:
        assert run_app([*words, "--quiet"]) in (0, 5), capsys.readouterr().err
    assert len((data / "predictions.csv").read_text().splitlines()) == 16
    assert "macro avg" in capsys.readouterr().out


@pytest.mark.train
def test_the_job_runs_from_python_as_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first Python block prints the noise rate, the accuracy, the label issues and a prediction."""
    exec(blocks("python")[0], {})
    printed = capsys.readouterr().out
    assert printed.count("Interval(estimate=") == 2
    assert printed.splitlines()[-1] in {f"0.png {name}" for name in CLASSES}


@pytest.mark.train
def test_the_estimator_runs_as_written() -> None:
    """The second Python block fits embeddings of anything and predicts."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 300)
    names = {
        "X": generator.normal(size=(300, 8)).astype(np.float32) + 3 * np.eye(8, dtype=np.float32)[truth],
        "noisy": spoil(truth, symmetric(3, 0.4), 0),
        "trusted": np.where(generator.random(300) < 0.3, truth, -1),
    }
    exec(blocks("python")[1], names | {"X_new": names["X"]}, names)
    assert (names["model"].labels_ == truth).mean() > 0.9
