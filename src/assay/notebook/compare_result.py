"""What a comparison found: its rows, put together from what each recipe left in its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.dataset import Dataset
from assay.data.write import write_rows, write_text_atomic
from assay.notebook.compare_card import write_figures
from assay.notebook.compare_entry import Entry
from assay.notebook.compare_folder import TABLES, CompareFolder
from assay.notebook.compare_judge import NOT_MEASURED, judge, leaked_names
from assay.notebook.compare_table import CSV_COLUMNS, csv_columns, markdown
from assay.notebook.listing import TITLES
from assay.notebook.process import Failure
from assay.predict.model import read_model
from assay.types import Labels

COSTS = (
    "train_seconds",
    "stages_s",
    "milliseconds_alone",
    "milliseconds_in_batches",
    "peak_memory_bytes",
    "peak_memory_predicting_bytes",
    "model_bytes",
)


@dataclass(frozen=True)
class Compared:
    """What a comparison found; the same is in its folder."""

    folder: Path
    dataset: Dataset
    record: Mapping[str, Any]
    """compare.json."""
    computed: bool = True
    """False if all of it was there already."""
    exit_code: int = 0
    """0, or that of the first recipe that failed."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each recipe, in the order of ``TITLES``."""
        return list(self.record["rows"])


def finished(record: Mapping[str, Any], entries: Sequence[Entry]) -> bool:
    """Whether compare.json holds all of this very comparison, and all that it tells of is there."""
    return (
        record.get("status") == "done"
        and record["systems"] == [entry.system for entry in entries]
        and all(row["status"] == "done" for row in record["rows"])
        and all((entries[0].out / name).is_file() for name in TABLES)
        and all(entry.is_trained() and entry.is_measured() for entry in entries)
    )


def conclude(
    folder: CompareFolder,
    dataset: Dataset,
    held: Labels,
    contents: Sequence[bytes | None],
    record: dict[str, Any],
    *,
    entries: Sequence[Entry],
    failures: Mapping[str, Failure],
    twin: Mapping[str, Mapping[str, Any]],
) -> Compared:
    """Open the seal, and write the table and each model's figures.

    Parameters
    ----------
    twin : figures of partial models to carry over, by recipe
    """
    done = [entry.system for entry in entries if entry.system not in failures]
    figures = dict(twin)
    record |= {"left_out": [], "skipped": len(dataset.skipped)}
    if len(held) and done:
        # Before the labels are read: a comparison that is killed while it reads them has read them.
        record["holdout_evaluations"] += 1
        folder.write(record)
        run = folder.path if "assay" in done else None
        said = {system: folder.holdout(system) for system in done}
        verdict = judge(dataset, held, said, leaked_names(dataset, held, contents, run))
        figures, record["left_out"] = dict(verdict.figures), list(verdict.left_out)
        record["skipped"] = max(record["skipped"], verdict.skipped)
    rows = [_row(entry, failures.get(entry.system), figures.get(entry.system, {})) for entry in entries]
    for row in rows:
        place = folder.model(row["system"])
        # The run wrote its own.
        if row["status"] == "done" and row["system"] != "assay":
            write_figures(place, read_model(place), row)
    skipped = (row["facts"].get("skipped", 0) for row in rows)
    record["skipped"] = max(record["skipped"], *skipped)
    record |= {"rows": rows, "holdout_evaluations_by_run": _opened(folder, done)}
    write_rows(folder.path / "compare.csv", CSV_COLUMNS, csv_columns(rows))
    write_text_atomic(folder.path / "compare.md", markdown(record))
    record["status"] = "done"
    folder.write(record)
    return Compared(folder.path, dataset, record, exit_code=_first_code(failures))


def _opened(folder: CompareFolder, done: Sequence[str]) -> int:
    return int(folder.run.record()["holdout_evaluations"]) if "assay" in done else 0


def _first_code(failures: Mapping[str, Failure]) -> int:
    return next((failure.exit_code for failure in failures.values()), 0)


def _row(entry: Entry, failure: Failure | None, figures: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "system": entry.system,
        "title": TITLES[entry.system],
        "status": "failed" if failure else "done",
        "published": entry.options.published,
        "error": failure.message if failure else None,
    }
    costs: dict[str, Any] = {**dict.fromkeys(COSTS), "facts": {}}
    if failure:
        return row | NOT_MEASURED | costs
    found = entry.folder.row(entry.system)
    known = {**found["trained"], **found["measured"]}
    return row | NOT_MEASURED | dict(figures) | {name: known[name] for name in costs}
