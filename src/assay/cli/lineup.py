"""``--all-systems`` of predict and evaluate: every model of a comparison on the same images."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from assay.cli import flags
from assay.cli.console import notify, progress_bar, show, table
from assay.cli.endings import SKIPPED
from assay.text import percent, percent_range

if TYPE_CHECKING:
    from assay.data.dataset import Dataset, ReadOptions
    from assay.evaluate import Evaluation

AllSystems = Annotated[
    bool, flags.flag("--all-systems", help="With every model of the folder that assay compare made.")
]
Columns = Annotated[
    str | None,
    flags.flag(
        "--columns",
        metavar="NAMES",
        help='With --all-systems: some of "Index,Baseline,CNN 1,CNN 2,Model I,Model II,Assay".',
    ),
]

Writer = Callable[..., None]
"""Takes a header and columns."""


def predict_all(
    folder: Path,
    images: "Dataset",
    write: Writer,
    *,
    columns: str | None,
    workers: int,
    strict: bool,
    quiet: bool,
) -> int:
    """Write the label that each model gives each image; the exit code."""
    from assay.notebook.systems import predict_lineup

    for note in () if quiet else images.notes:
        notify(note)
    wanted = None if columns is None else [name.strip() for name in columns.split(",")]
    with progress_bar(quiet) as progress:
        found = predict_lineup(folder, images, wanted, workers=workers, progress=progress)
    write(found.header, found.columns())
    if not quiet and not found.has_stems:
        notify("Index has the whole names: without folder and ending some images would have one name")
    if not quiet and found.n_skipped:
        notify(f"{found.n_skipped:,} of {len(found.names):,} images could not be used; their cells are empty")
    return SKIPPED if strict and found.n_skipped else 0


def evaluate_all(
    folder: Path,
    images: Path,
    options: "ReadOptions",
    *,
    workers: int,
    strict: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Print how good each model is on a labelled test set; the exit code."""
    from assay.notebook.listing import TITLES
    from assay.notebook.systems import evaluate_lineup
    from assay.types import ignore_message

    with progress_bar(quiet) as progress:
        found = evaluate_lineup(
            folder,
            images,
            options,
            workers=workers,
            notify=ignore_message if quiet else notify,
            progress=progress,
        )
    if as_json:
        rows = [{"system": system, "title": TITLES[system], **one.to_json()} for system, one in found.items()]
        show(json.dumps({"rows": rows}, indent=1))
    else:
        show(_text({TITLES[system]: one for system, one in found.items()}))
    return SKIPPED if strict and any(one.skipped for one in found.values()) else 0


def _text(found: "Mapping[str, Evaluation]") -> str:
    rows = [
        (
            title,
            percent(one.accuracy.estimate),
            percent_range(one.accuracy.low, one.accuracy.high),
            f"{one.report.macro.f1:.3f}",
            f"{one.n:,}",
        )
        for title, one in found.items()
    ]
    skipped = next(iter(found.values())).skipped
    left = f"\n\n{skipped:,} images could not be used" if skipped else ""
    return table(("", "accuracy", "95 % interval", "macro F1", "images"), rows) + left
