"""assay export: a run's model as one file for another machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from assay.cli import options
from assay.cli.console import notifier, progress_bar, show, show_json, table
from assay.cli.targets import check_apart, check_file
from assay.errors import UsageError
from assay.text import percent, percent_range

if TYPE_CHECKING:
    from assay.pipeline.export_run import Exported

EXAMPLES = (
    "assay export out/ -o classifier.onnx",
    "assay export out/ --precision float16 -o classifier.float16.onnx --json",
)

HEADER = ("", "MB", "accuracy, 95 %", "same class", "largest difference", "ms, one image", "ms, 32 images")


def command(
    run: options.Run,
    images: options.RunImages = None,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    precision: Literal["int8", "float16", "float32"] = "int8",
    workers: options.Workers = 2,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a run's model as one small ONNX file, after comparing the two on images.

    Parameters
    ----------
    out
        The ONNX file to write. Its model card goes to the same name with .md added.
    precision
        Number format of the file. int8 is the smallest and fastest.
    """
    card = out.with_name(f"{out.name}.md")
    for target in (out, card):
        check_file(target)
        check_apart(target, run)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out: expected a name ending in .onnx, by which commands know a model, got {out}")

    from assay.data.write import write_bytes_atomic, write_text_atomic
    from assay.pipeline.export_run import export_card, export_run
    from assay.pipeline.finished import open_run

    found = open_run(run, images, command="export")
    with progress_bar(quiet) as progress:
        exported = export_run(found, found.images, precision, workers=workers, progress=progress)
    write_bytes_atomic(out, exported.graph)
    # Class names of old folders may not be UTF-8; their bytes stay as they are.
    run_card = (run / "model" / "README.md").read_text(encoding="utf-8", errors="surrogateescape")
    write_text_atomic(card, export_card(out.name, run_card, exported))
    if as_json:
        show_json({"file": str(out), "card": str(card), **exported.to_json()})
    else:
        show(_text(exported))
    if exported.trained_on:
        notifier(quiet)(
            "The model was trained on these images: compare the rows, but do not take them as its accuracy."
        )
    return 0


def _text(exported: "Exported") -> str:
    rows = []
    for found in exported.figures:
        accuracy, low, high = found.accuracy
        rows.append(
            (
                found.precision,
                f"{found.bytes / 1e6:.1f}",
                f"{percent(accuracy)} ({percent_range(low, high)})",
                percent(found.same_class),
                f"{found.largest_difference:.4f}",
                f"{found.milliseconds_one:.1f}",
                f"{found.milliseconds_batch:.1f}",
            )
        )
    how = f"; int8 by {exported.quantized.how}" if exported.quantized else ""
    return f"{table(HEADER, rows)}\nn = {exported.figures[0].n:,}{how}"
