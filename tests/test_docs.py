"""What the documentation shows is what happens: its code runs, page after page, in one working folder.

A block of ``bash`` or ``python`` runs as it is written, unless the line above it is a comment such as
``<!-- not run: it needs a cluster -->``. Blocks of other languages show files and output.
"""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from small_runs import CLASSES, draw_data, quick_learning

import assay
from assay.cli.app import run_app
from assay.correct.audit import KINDS
from assay.correct.result import ACTIONS
from assay.data.decisions import CSV_COLUMNS as DECIDED
from assay.data.decode import FLAGS
from assay.data.write import EXCEL_SAFE
from assay.pipeline import api, run_files
from assay.pipeline.audit import COLUMNS as AUDITED
from assay.pipeline.check import KINDS as CHECKED
from assay.pipeline.result import RunResult
from assay.predict.batch import COLUMNS as PREDICTED

ROOT = Path(__file__).parents[1]
QUICK = Path(__file__).parent / "support" / "small_runs.py"

PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in re.findall(r"[a-z]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))),
]
"""In the order in which the site shows them."""

GENERATED = ("cli.md", "reference.md")
"""Examples in help texts and docstrings name places of all kinds; tests/cli/test_help.py parses those."""

RUN = ("bash", "python")
SHOWN = ("csv", "html", "java", "javascript", "json", "kotlin", "swift", "text", "toml", "yaml")

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.S | re.M
)

SHELL = re.compile(r"[|<>&;$*]")
"""What only a shell understands."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    reason: str | None
    """Why it is not run; None where nothing says so."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.language in RUN and self.reason is None and self.page.name not in GENERATED


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["language"], found["reason"], found["text"])
        for found in BLOCK.finditer(text)
    ]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folders and files that the pages name, in the working folder; and a head that learns at once."""
    truth = draw_data(tmp_path).truth
    header, *rows = (tmp_path / "noisy.csv").read_text().splitlines()
    patients = [f"{row},P{number % 40:02}" for number, row in enumerate(rows)]
    write_lines(tmp_path / "patients.csv", f"{header},patient", patients)
    generator = np.random.default_rng(3)
    given = [
        f"{row}.png,{who},{CLASSES[label if generator.random() < sure else generator.integers(3)]}"
        for row, label in enumerate(truth)
        for who, sure in (("ann", 0.9), ("ben", 0.7), ("cem", 0.4))
    ]
    write_lines(tmp_path / "long.csv", "file,annotator,label", given)
    np.save(tmp_path / "truth.npy", truth)
    vectors = np.eye(8, dtype=np.float32)[truth] * 2 + generator.normal(size=(len(truth), 8))
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float32))
    (tmp_path / "parts").mkdir()
    for part, lines in enumerate((rows[:120], rows[120:])):
        files, labels = zip(*(line.split(",") for line in lines), strict=True)
        images = [{"bytes": (tmp_path / "images" / file).read_bytes(), "path": file} for file in files]
        pl.DataFrame({"image": images, "label": labels}).write_parquet(tmp_path / f"parts/{part}.parquet")
    for name, seed in (("new", 1), ("test", 2)):
        drawn = draw_data(tmp_path / name, n=120, seed=seed)
        (tmp_path / name / "images").rename(tmp_path / f"{name}_images")
        labels = [f"{row}.png,{CLASSES[label]}" for row, label in enumerate(drawn.truth)]
        write_lines(tmp_path / f"{name}_labels.csv", "file,label", labels)
    for row in rows:
        file, label = row.split(",")
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "images" / file, tmp_path / "photos" / label / file)
    checked = (tmp_path / "trusted.csv").read_text().splitlines()[1:]
    folder_of = dict(row.split(",") for row in rows)
    moved = [f"{folder_of[row.split(',')[0]]}/{row}" for row in checked]
    write_lines(tmp_path / "photos_trusted.csv", "file,label", moved)
    shutil.make_archive(str(tmp_path / "new_images"), "zip", tmp_path / "new_images")
    for row, name in enumerate(("cat.png", "dog.png")):
        shutil.copy(tmp_path / "new_images" / f"{row}.png", tmp_path / name)
    command = tmp_path / "bin" / "assay"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{QUICK}" "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(command.parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(QUICK.parent), *sys.path]))
    monkeypatch.chdir(tmp_path)
    # The same settings from the command line and from Python: the second run reads what the first one wrote.
    monkeypatch.setenv("ASSAY_FOLDS", "3")
    monkeypatch.setattr(assay, "run", run_quickly, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))  # Hugging Face copies data sets there
    with quick_learning():
        yield tmp_path


def run_quickly(*places: object, **options: object) -> RunResult:
    """``assay.run`` as the environment has ``assay run`` do it; features need no network."""
    network = {} if "features" in options else {"backbone": "tiny"}
    return api.run(*places, **network, folds=3, **options)


def write_lines(file: Path, header: str, rows: list[str]) -> None:
    file.write_text("\n".join([header, *rows, ""]))


def names_of(data: Path) -> dict[str, object]:
    """What the Python blocks take for granted: embeddings with their labels, and pictures."""
    generator = np.random.default_rng(0)
    embeddings = np.load(data / "vectors.npy")
    n, truth = len(embeddings), np.load(data / "truth.npy")
    wrong = generator.random(n) < 0.4
    return {
        "X": embeddings,
        "X_new": embeddings[:20],
        "noisy": np.where(wrong, generator.integers(0, 3, n), truth),
        "trusted": np.where(generator.random(n) < 0.3, truth, -1),
        "picture": Image.open(data / "cat.png").copy(),  # a file that stays open is a warning
        "pixels": np.asarray(Image.open(data / "dog.png")),
    }


@pytest.mark.slow
@pytest.mark.train
def test_the_code_of_the_documentation_runs_as_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Page after page, each command ends with 0 and each Python block raises nothing."""

    def run_line(line: str) -> int:
        words = shlex.split(line, comments=True)
        # With features in place of images there is no network to choose.
        monkeypatch.setenv("ASSAY_BACKBONE", "" if "--features" in words else "tiny")
        # A process takes two seconds to start, and most commands need no shell.
        if words[:1] == ["assay"] and not SHELL.search(" ".join(words)):
            return run_app(words[1:])
        return subprocess.run(["bash", "-ec", line], check=False, timeout=60).returncode

    for page in PAGES:
        names = names_of(data)  # the blocks of a page go on from one another
        for block in blocks_of(page):
            if block.is_run and block.language == "bash":
                for line in block.text.replace("\\\n", " ").splitlines():
                    assert run_line(line) == 0, f"{block}: {line}\n{capsys.readouterr().err}"
            elif block.is_run:
                exec(compile(block.text, str(block), "exec"), names)
    assert len((data / "predictions.csv").read_text().splitlines()) == 121
    assert (data / "out" / "report.html").exists()
    assert undocumented(keys_of_runs(data)) == []


def keys_of_runs(data: Path) -> set[str]:
    """Every key of noise.json, evaluation.json and run.json that a reader meets first."""
    found: set[str] = set()
    for run in ("out", "untrusted", "consensus_measured", "out_patients", "out_vectors"):
        for name in ("noise.json", "evaluation.json"):
            facts = json.loads((data / run / name).read_text())
            found |= {*facts, *facts.get("systems", {}), *facts.get("labels", {})}
            found |= {key for system in facts.get("systems", {}).values() for key in system}
    return found


def undocumented(names: Iterable[str]) -> list[str]:
    """Those that files.md does not explain."""
    page = (ROOT / "docs" / "files.md").read_text("utf-8")
    return sorted(name for name in names if f"`{name}`" not in page)


def test_every_column_is_documented() -> None:
    """Each column of a table, action, reason and kind of finding is on the page about files."""
    tables = (run_files.LABEL_COLUMNS, run_files.ANNOTATED_COLUMNS, run_files.HOLDOUT_COLUMNS)
    tables += (
        run_files.ISSUE_COLUMNS,
        run_files.PLAN_COLUMNS,
        run_files.ANNOTATOR_COLUMNS,
        PREDICTED,
        AUDITED,
    )
    tables += (DECIDED, (run_files.OUTLIER_COLUMN, run_files.GROUP_COLUMN, EXCEL_SAFE, "set"))
    words = (*ACTIONS, *FLAGS, *CHECKED, *KINDS, run_files.HOLDOUT, run_files.NO_LABEL, run_files.COPY)
    assert undocumented({*itertools.chain(*tables), *words}) == []


def test_every_block_is_run_or_says_why_not() -> None:
    """A block names its language; code that is not run has its reason above it."""
    blocks = [block for page in PAGES for block in blocks_of(page) if page.name not in GENERATED]
    assert sum(block.is_run for block in blocks) > 15
    assert [str(block) for block in blocks if block.language not in RUN + SHOWN] == []
    assert [str(block) for block in blocks if block.reason and block.language not in RUN] == []
    # A comment that is not just above its block would be no reason of anything.
    comments = sum(page.read_text("utf-8").count("<!-- not run") for page in PAGES)
    assert sum(block.reason is not None for block in blocks) == comments


def test_every_page_is_in_the_navigation() -> None:
    """A page that no menu shows would not be found, and its code would not run."""
    assert {page.name for page in PAGES[1:]} == {page.name for page in (ROOT / "docs").glob("*.md")}


def anchor(heading: str) -> str:
    """As the site makes it of a heading."""
    plain = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", heading)).strip().lower()
    return re.sub(r"[-\s]+", "-", plain)


def test_links_lead_somewhere() -> None:
    """Each relative link names a file that is there, and a heading of it."""
    broken = []
    for page in [*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"))]:
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.S | re.M)
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            name, _, fragment = target.partition("#")
            file = page.parent / name if name else page
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.M) if fragment else []
            if not file.exists() or (fragment and fragment not in map(anchor, headings)):
                broken.append(f"{page.name}: {target}")
    assert broken == []
