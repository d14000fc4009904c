"""The rows of a comparison as CSV for a program and as Markdown for a page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.notebook.compare_judge import RIVALS
from assay.text import p_value, percent

Row = Mapping[str, Any]
"""A row of compare.json."""

ABSENT = "–"

CSV_COLUMNS = (
    "recipe",
    "title",
    "status",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "n",
    "macro_f1",
    "source",
    "against_baseline",
    "against_baseline_low",
    "against_baseline_high",
    "against_baseline_p",
    "against_model_2",
    "against_model_2_low",
    "against_model_2_high",
    "against_model_2_p",
    "train_seconds",
    "milliseconds_alone",
    "milliseconds_in_batches",
    "peak_memory_bytes",
    "model_bytes",
    "published",
    "error",
)


def csv_columns(rows: Sequence[Row]) -> list[list[Any]]:
    """The columns of compare.csv, in the order of ``CSV_COLUMNS``: the numbers as they are."""
    flat = [_flat(row) for row in rows]
    return [[row[name] for row in flat] for name in CSV_COLUMNS]


def _flat(row: Row) -> dict[str, Any]:
    flat = dict(row)
    for column in RIVALS:
        paired = row[column]
        difference = paired["difference"] if paired else {}
        flat[column] = difference.get("estimate")
        flat[f"{column}_low"], flat[f"{column}_high"] = difference.get("low"), difference.get("high")
        flat[f"{column}_p"] = paired["p_value"] if paired else None
    return flat


def points(paired: Mapping[str, Any]) -> str:
    """``+12.3``: percentage points that the row is above its rival."""
    return f"{100 * paired['difference']['estimate']:+.1f}"


def seconds(value: float) -> str:
    """``0.4`` or ``1,907``."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def milliseconds(value: float) -> str:
    """``0.04`` or ``12.3``."""
    return f"{value:.2f}" if value < 1 else f"{value:,.1f}"


Cell = Callable[[Row], str]

Columns = tuple[tuple[str, Cell], ...]
"""Header and the cell of a row."""

QUALITY: Columns = (
    ("accuracy", lambda row: percent(row["accuracy"])),
    ("95 % interval", lambda row: f"{100 * row['accuracy_low']:.1f} to {100 * row['accuracy_high']:.1f}"),
    ("macro F1", lambda row: f"{row['macro_f1']:.3f}"),
    ("against Baseline", lambda row: points(row["against_baseline"])),
    ("McNemar p", lambda row: p_value(row["against_baseline"]["p_value"])),
    ("against Model II", lambda row: points(row["against_model_2"])),
    ("McNemar p", lambda row: p_value(row["against_model_2"]["p_value"])),
)
"""How good."""

COST: Columns = (
    ("train, s", lambda row: seconds(row["train_seconds"])),
    ("one image alone, ms", lambda row: milliseconds(row["milliseconds_alone"])),
    ("in batches, ms", lambda row: milliseconds(row["milliseconds_in_batches"])),
    ("peak memory, GiB", lambda row: f"{row['peak_memory_bytes'] / 2**30:.2f}"),
    ("on disk, MB", lambda row: f"{row['model_bytes'] / 1e6:.1f}"),
)
"""At what cost."""


def cells(row: Row, columns: Columns) -> list[str]:
    """The cells of a row; ``ABSENT`` where there is nothing to say."""
    return [_cell(row, cell) for _, cell in columns]


def _cell(row: Row, cell: Cell) -> str:
    try:
        return cell(row)
    except TypeError:  # a None among the values: not measured, or failed before it was
        return ABSENT


def markdown(record: Mapping[str, Any]) -> str:
    """compare.md: the whole table, and what a reader must know of it."""
    columns = (*QUALITY, *COST)
    lines = [
        f"| | {' | '.join(header for header, _ in columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(f"| {row['title']} | {' | '.join(cells(row, columns))} |" for row in record["rows"]),
    ]
    return "\n".join([*lines, "", *(f"{note}  " for note in notes(record))]).rstrip() + "\n"


def notes(record: Mapping[str, Any]) -> list[str]:
    """What the table rests on, line by line."""
    rows = record["rows"]
    found = [_basis(record)]
    if record["settings"]["as_published"]:
        found.append("As published: with the notebook's defects that change results.")
    warm = [row["title"] for row in rows if row["facts"].get("features_computed") == 0]
    if warm:
        found.append(f"Trained on features that were in the cache already: {', '.join(warm)}.")
    return found + [f"{row['title']} failed: {row['error']}" for row in rows if row["status"] == "failed"]


def _basis(record: Mapping[str, Any]) -> str:
    measured = [row for row in record["rows"] if row["n"]]
    if not measured:
        return "Accuracy is not measured: no held-out image could judge the models."
    n, left_out = measured[0]["n"], len(record["left_out"])
    if measured[0]["source"] != "holdout":
        return (
            f"Accuracy is that of the partial models on {n:,} images that they did not learn from; these "
            "very models learned from all images and were not measured."
        )
    why = f"; {left_out:,} whose picture was learned from are left out" if left_out else ""
    return f"Accuracy on {n:,} held-out images, the same for all{why}."
