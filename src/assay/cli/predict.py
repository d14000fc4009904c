"""assay predict: new images to rows."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from assay.cli import flags
from assay.cli.console import progress_bar, say

FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}


def predict_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder or a model folder.")],
    images: flags.Images,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="A file ending in .csv, .parquet or .jsonl; - or nothing: stdout."),
    ] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help="csv, parquet or jsonl; by default from the name.")
    ] = None,
    excel_safe: Annotated[
        bool, typer.Option("--excel-safe", help="Mark text that a spreadsheet would run as a formula.")
    ] = False,
    dtype: flags.Dtype = "auto",
    workers: flags.Workers = 2,
    strict: flags.Strict = False,
    quiet: flags.Quiet = False,
) -> int:
    r"""Predict the class of every image: one row an image, in order.

    \b
    assay predict out/ new_images/ -o predictions.csv
    assay predict out/ new.zip --format jsonl | head
    """
    from assay.data.write_rows import write_rows
    from assay.predict.batch import COLUMNS, predict
    from assay.recipes.options import default_cache

    to_stdout = out is None or str(out) == "-"
    kind = format_name or ("csv" if out is None or to_stdout else FORMATS.get(out.suffix.lower(), "csv"))
    with progress_bar(quiet) as progress:
        found = predict(model, images, default_cache(), dtype=dtype, workers=workers, progress=progress)
    target = sys.stdout.buffer if out is None or to_stdout else out
    write_rows(target, COLUMNS, found.columns(), format=kind, excel_safe=excel_safe)
    if found.n_skipped and not quiet:
        say(f"{found.n_skipped:,} of {len(found.names):,} images could not be used; their status says why")
    return 4 if strict and found.n_skipped else 0
