"""What a command wrote and printed, read back."""

import csv
import json
import re
from pathlib import Path


def rows_of(file: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return [*csv.DictReader(Path(file).read_text(encoding="utf-8").splitlines())]


def facts_of(file: Path) -> dict:
    """A JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def change(file: Path, before: str, after: str) -> None:
    """Replace a text that is in a file."""
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def change_facts(file: Path, **changes: object) -> None:
    """Replace entries of a JSON file; those that are None go."""
    facts = {name: value for name, value in (facts_of(file) | changes).items() if value is not None}
    file.write_text(json.dumps(facts))


def without_figures(text: str) -> str:
    """Text in which numbers with a decimal point are N, and a run of spaces is one."""
    return re.sub(r" +", " ", re.sub(r"[+-]?\d+\.\d+", "N", text))
