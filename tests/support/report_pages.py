"""Reports of small runs: a page as tables and text, and runs whose names are an attacker's."""

import csv
import json
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from assay.data.write import write_json, write_rows
from assay.pipeline.run_files import ISSUE_COLUMNS, LABEL_COLUMNS

HOSTILE_LABELS = (
    "<img src=x onerror=alert(1)>",
    '"onmouseover="alert(2)',
    "</style></svg><script>alert(3)</script>" + "x" * 10_000,
)

HOSTILE_NAMES = (
    '"><img src=x onerror=alert(4)>.png',
    "{{7*7}}${7*7}<svg onload=alert(5)>.png",
    "'; DROP TABLE decisions; --.png",
    "two\nlines.png",
    "\u202egnp.exe",
    "\udcff\udcfe.png",
    "e\u0301 \U0001f600 .png",
    "-" * 5_000 + ".png",
)


class Page(HTMLParser):
    """What a page says: its tables by caption, its headings, all its text, all its tags with attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))
        elif tag == "table":
            self._rows = []
        elif tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")
        elif tag in ("br", "small") and self._rows and self._rows[-1]:
            self._rows[-1][-1] += " "

    def handle_endtag(self, tag) -> None:
        while self._open and self._open.pop() != tag:
            pass
        if tag == "table":
            rows = [[" ".join(cell.split()) for cell in row] for row in self._rows]
            self.tables[" ".join(self._caption.split())] = rows

    def handle_data(self, data) -> None:
        if not {"style", "title"} & {*self._open[-1:]}:
            self.text.append(data)
        if "caption" in self._open:
            self._caption += data
        elif {"th", "td"} & {*self._open}:
            self._rows[-1][-1] += data
        if self.headings and {"h1", "h2", "h3"} & {*self._open}:
            kind, before = self.headings[-1]
            self.headings[-1] = (kind, before + data)

    def table(self, beginning: str) -> list[list[str]]:
        """The rows of the only table whose caption begins so, its header first."""
        (rows,) = [rows for caption, rows in self.tables.items() if caption.startswith(beginning)]
        return rows

    def words(self) -> str:
        """All text on one line."""
        return " ".join(" ".join(self.text).split())


def rename(run: Path, images: Path, labels: Sequence[str], names: Sequence[str]) -> None:
    """Give a run's classes other labels, and its images other names, each with its number in front.

    Parameters
    ----------
    images : a folder for copies under the new names, of those that are short enough for a file
    """
    model = json.loads((run / "model" / "labels.json").read_text())
    new = dict(zip(model["labels"], labels, strict=True)) | {"": ""}
    write_json(run / "model" / "labels.json", {"labels": list(labels), "titles": []})
    with (run / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    place = Path(json.loads((run / "run.json").read_text())["images"])
    images.mkdir()
    for number, row in enumerate(rows):
        old, row["file"] = row["file"], f"{number}{names[number % len(names)]}"
        if len(row["file"]) < 200:
            shutil.copy(place / old, images / row["file"])
        row |= {column: new[row[column]] for column in LABEL_COLUMNS[1:4]}
    columns = [[row[column] for row in rows] for column in LABEL_COLUMNS]
    write_rows(run / "labels.csv", LABEL_COLUMNS, columns)
    issues = [
        [names[1], names[4]],
        ["skipped"] * 2,
        ["truncated", "<b>"],
        ["</td><script>alert(6)</script>", names[7]],
    ]
    write_rows(run / "image_issues.csv", ISSUE_COLUMNS, issues)
    for file in ("noise.json", "evaluation.json"):
        text = (run / file).read_text()
        for label in model["labels"]:
            text = text.replace(json.dumps(label), json.dumps(new[label]))
        (run / file).write_text(text)
