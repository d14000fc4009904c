"""assay labels: the corrected labels of a finished run as a file, a folder of images, or for another tool."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from assay.cli import options
from assay.cli.console import notifier, show
from assay.errors import UsageError
from assay.progress import progress_bar

EXAMPLES = (
    "assay labels out/ -o corrected.csv",
    "assay labels out/ -o corrected.parquet --policy all",
    "assay labels out/ -o corrected.csv --like noisy.csv",
    "assay labels out/ -o sorted/ --format folders --link",
    "assay labels out/ -o dataset/ --format huggingface",
    "assay labels out/ -o tasks.json --format label-studio",
    "assay labels out/ -o checked.csv --policy checked",
)


def command(
    run: options.Run,
    images: options.RunImages = None,
    /,
    *,
    out: Annotated[Path, options.OUT],
    format_name: Annotated[
        Literal["csv", "jsonl", "parquet", "folders", "huggingface", "coco", "fiftyone", "label-studio"]
        | None,
        Parameter(name="--format"),
    ] = None,
    policy: Literal["sure", "all", "checked"] | None = None,
    like: Path | None = None,
    link: bool = False,
    decisions: Path | None = None,
    excel_safe: options.ExcelSafe = False,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    follow_symlinks: options.FollowSymlinks = False,
    quiet: options.Quiet = False,
) -> int:
    """Write the corrected labels of a run for other programs.

    Parameters
    ----------
    out
        File to write; of folders and huggingface a new or empty folder.
    format_name
        Without it: csv, jsonl or parquet by the ending of --out.
    policy
        sure: labels to rely on, others left out. all: every label. checked: labels that people gave.
    like
        Write a copy of this label file (CSV, JSON lines) in which only labels differ.
    link
        In a folder, put links to the images in place of copies.
    decisions
        A database, CSV or Label Studio's export to use in place of the decisions in the run.
    """
    kind = format_name
    if like is not None and (kind is not None or excel_safe):
        raise UsageError("--like: expected without --format and --excel-safe: the copy keeps all other bytes")
    if kind not in ("folders", "huggingface"):
        options.check_file(out)
    options.check_apart(out, run, *(place for place in (like, decisions, images) if place is not None))

    from assay.pipeline.labels_out import export_labels

    with progress_bar(quiet) as progress:
        found = export_labels(
            run,
            out,
            format=kind,
            policy=policy,
            like=like,
            link=link,
            decisions=decisions,
            images=images,
            excel_safe=excel_safe,
            path_column=path_column,
            label_column=label_column,
            follow_symlinks=follow_symlinks,
            progress=progress,
        )
    show(str(found))
    for warning in found.facts.get("warnings", ()):
        notifier(quiet)(f"warning of the run: {warning}")
    return options.SKIPPED if found.unreadable else 0
