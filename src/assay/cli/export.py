"""assay export: a run's model as one file for another machine."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from assay.cli import flags
from assay.cli.console import notify, progress_bar, show, table
from assay.cli.groups import with_flags
from assay.cli.targets import check_apart, check_file
from assay.errors import UsageError
from assay.text import percent, percent_range

if TYPE_CHECKING:
    from assay.pipeline.export_run import Exported

EXAMPLES = (
    "assay export out/ -o classifier.onnx",
    "assay export out/ --precision float16 -o classifier.float16.onnx --json",
)

HEADER = ("", "MB", "right, 95 %", "same class", "largest difference", "ms, one by one", "ms, 32 together")


@dataclass(frozen=True)
class ExportFlags:
    """What to write."""

    out: Annotated[
        Path,
        flags.flag("--out", "-o", metavar="FILE", help="The ONNX file to write; its card goes to FILE.md."),
    ]
    precision: Annotated[
        Literal["int8", "float16", "float32"],
        flags.flag("--precision", help="Of the numbers; int8 is smallest and fastest."),
    ] = "int8"
    workers: flags.Workers = 2


@with_flags
def export_command(
    run: flags.FinishedRun,
    export: ExportFlags,
    images: flags.RunImages = None,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> int:
    """Write a run's model as one small file, and measure it."""
    card = export.out.with_name(f"{export.out.name}.md")
    for target in (export.out, card):
        check_file(target)
        check_apart(target, run)
    if export.out.suffix.lower() != ".onnx":
        raise UsageError(
            f"--out: expected a name that ends in .onnx, got {export.out}; by it a file is known"
        )

    from assay.data.write import write_bytes_atomic, write_text_atomic
    from assay.pipeline.export_run import export_card, export_run
    from assay.review.run import read_review_run

    found = read_review_run(run, images, command="export")
    with progress_bar(quiet) as progress:
        exported = export_run(
            found, found.images, export.precision, workers=export.workers, progress=progress
        )
    write_bytes_atomic(export.out, exported.graph)
    of_run = (run / "model" / "README.md").read_text(encoding="utf-8", errors="surrogateescape")
    write_text_atomic(card, export_card(export.out.name, of_run, exported))
    facts = {"file": str(export.out), "card": str(card), **exported.to_json()}
    show(json.dumps(facts, indent=1) if as_json else _text(exported))
    if not quiet and exported.trained_on:
        notify(
            "The model was trained on these images: compare its figures, do not take them as its accuracy."
        )
    return 0


def _text(exported: "Exported") -> str:
    rows = [_row(found) for found in exported.figures]
    how = f"int8 by {exported.quantized.how}" if exported.quantized else ""
    n = exported.figures[0].n
    return "\n".join([table(HEADER, rows), f"n = {n:,}" + (f"; {how}" if how else "")])


def _row(found: Any) -> tuple[str, ...]:
    right, low, high = found.accuracy
    return (
        found.precision,
        f"{found.bytes / 1e6:.1f}",
        f"{percent(right)} ({percent_range(low, high)})",
        percent(found.same_class),
        f"{found.largest_difference:.4f}",
        f"{found.milliseconds_one:.1f}",
        f"{found.milliseconds_batch:.1f}",
    )
