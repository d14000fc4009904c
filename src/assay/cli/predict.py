"""assay predict: new images to rows."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assay.cli import flags, lineup
from assay.cli.console import notify, progress_bar
from assay.cli.endings import SKIPPED
from assay.cli.groups import with_flags
from assay.cli.targets import check_apart, check_file
from assay.cli.typed import typed
from assay.data.limits import USUAL
from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.data.dataset import Dataset, ReadOptions
    from assay.predict.batch import Written

EXAMPLES = (
    "assay predict out/ new_images/ -o predictions.csv",
    "assay predict out/ new.zip --format jsonl | head",
    "assay predict classifier.onnx new_images/ -o predictions.parquet",
    "assay predict out/ - --format jsonl < paths.txt",
    "assay predict out/ new_images/ --all-systems -o label_prediction.csv",
)

FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class RowFlags:
    """Where the rows go and how they are written."""

    out: Annotated[
        Path | None,
        flags.flag("--out", "-o", metavar="FILE", help="File for the rows; - or nothing: stdout."),
    ] = None
    format_name: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        flags.flag("--format", help="By default from the name of the file, csv on stdout."),
    ] = None
    excel_safe: Annotated[
        bool, flags.flag("--excel-safe", help="Mark text that a spreadsheet would run as a formula.")
    ] = False

    @property
    def target(self) -> Path | None:
        """The file; None for stdout."""
        return None if self.out is None or str(self.out) == "-" else self.out

    @property
    def kind(self) -> str:
        """The format; a name that asks for none is refused here, before any image is read."""
        return self.format_name or _format_of(self.target)

    def writer(self) -> "lineup.Writer":
        """What writes a header and columns there."""
        from assay.data.write import write_rows

        place = self.target or sys.stdout.buffer
        return partial(write_rows, place, format=self.kind, excel_safe=self.excel_safe)


@dataclass(frozen=True)
class PlaceFlags:
    """How to find the images."""

    path_col: flags.PathColumn = None
    follow_symlinks: flags.FollowSymlinks = False
    truncated: flags.Truncated = "skip"
    max_pixels: flags.MaxPixels = USUAL.max_pixels

    def read(self, images: Path) -> "Dataset":
        """The images of a place, or of paths on stdin."""
        from assay.data.read import read_images
        from assay.data.sources import read_listed

        if str(images) == "-":
            if typed({"path_col"}):
                raise UsageError("--path-col: expected with a Parquet file of images, got paths on stdin")
            return read_listed(sys.stdin.buffer.read(), self.options())
        return read_images(images, self.options())

    def options(self) -> "ReadOptions":
        """The same for ``data``."""
        from assay.data.dataset import ReadOptions

        return ReadOptions(
            path_column=self.path_col,
            follow_symlinks=self.follow_symlinks,
            truncated=self.truncated,
            max_pixels=self.max_pixels,
        )

    def whereabouts(self, images: Path, names: Sequence[str]) -> str:
        """Tells images from others of the same names: where they are, and the files as they are now."""
        from assay.data.paths import stamps_digest

        used = f" {self.truncated} {self.max_pixels}"
        if str(images) == "-":
            return f"{Path.cwd()}{used} {stamps_digest(names)}"
        place = str(images.resolve())
        if not images.is_file():
            followed = " followed" if self.follow_symlinks else ""
            return f"{place}{followed}{used} {stamps_digest(f'{place}/{name}' for name in names)}"
        column = "" if self.path_col is None else f" {self.path_col}"
        return f"{place}{used} {stamps_digest([place])}{column}"


@dataclass(frozen=True)
class OptionFlags:
    """When to say nothing, and how sure a set must be."""

    min_confidence: Annotated[
        float,
        flags.flag(
            "--min-confidence",
            metavar="P",
            min=0,
            max=1,
            help="Give no label to an image whose likeliest class is less probable.",
        ),
    ] = 0.0
    coverage: Annotated[
        float | None,
        flags.flag(
            "--coverage",
            metavar="SHARE",
            help="Add a column 'set': enough labels to contain the right one for this share of images.",
        ),
    ] = None


@with_flags
def predict_command(
    model: flags.ModelPlace,
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES",
            help="A folder, zip, tar or Parquet file of images, or an image; -: paths on stdin, one a line.",
        ),
    ],
    place: PlaceFlags,
    rows: RowFlags,
    manner: OptionFlags,
    all_systems: lineup.AllSystems = False,
    columns: lineup.Columns = None,
    workers: flags.Workers = 2,
    strict: flags.Strict = False,
    quiet: flags.Quiet = False,
) -> int:
    """Predict the class of every image: one row an image, in order."""
    if rows.target is not None:
        check_file(rows.target)
        check_apart(rows.target, model, images)
    if all_systems:
        if wrong := typed({field.name for field in fields(OptionFlags)}):
            raise UsageError(f"{', '.join(wrong)}: expected one model, got --all-systems")
        return lineup.predict_all(
            model,
            place.read(images),
            rows.writer(),
            columns=columns,
            workers=workers,
            strict=strict,
            quiet=quiet,
        )
    if typed({"columns"}):
        raise UsageError("--columns: it picks among the models of --all-systems; give both or neither")
    n, written = _predict(model, images, place, rows, manner, workers=workers, quiet=quiet)
    if not quiet:
        _tell(n, written)
    return SKIPPED if strict and written.n_skipped else 0


def _tell(n: int, written: "Written") -> None:
    """What is unusual about the images, and how many could not be used."""
    from assay.data.dataset import why_skipped
    from assay.data.images import image_warning_lines

    now = f"of the {n - written.first:,} images predicted now: " if written.first else ""
    for line in image_warning_lines(written.image_warnings):
        notify(f"{now}{line}")
    if written.n_skipped:
        more = f": {why_skipped(written.reasons)}" if written.reasons.total() == written.n_skipped else ""
        notify(f"{written.n_skipped:,} of {n:,} images could not be used, see their status{more}")


def _predict(
    model: Path,
    images: Path,
    place: PlaceFlags,
    rows: RowFlags,
    manner: OptionFlags,
    *,
    workers: int,
    quiet: bool,
) -> tuple[int, "Written"]:
    """Write the rows; how many images there are, and what was told of them."""
    kind = rows.kind

    from assay.data.write import ResumableWriter
    from assay.predict.batch import Options, identity_of, write_predictions
    from assay.predict.conformal import threshold_for
    from assay.predict.runtime import load_runtime

    runtime = load_runtime(model)
    dataset = place.read(images)
    for note in () if quiet else dataset.notes:
        notify(note)
    least = None if manner.coverage is None else threshold_for(manner.coverage, runtime.thresholds)
    asked = Options(manner.min_confidence, least)
    sink, identity = rows.target or sys.stdout.buffer, ""
    if rows.target is not None:  # nobody goes on with a stream, and a million files take seconds to look at
        where = place.whereabouts(images, dataset.names)
        identity = identity_of(runtime, dataset, kind, rows.excel_safe, asked, where)
    with (
        progress_bar(quiet) as progress,
        ResumableWriter(sink, asked.columns, kind, rows.excel_safe, identity) as table,
    ):
        if table.n_rows and not quiet:
            notify(f"{rows.target}: going on after {table.n_rows:,} rows of the same command")
        written = write_predictions(runtime, dataset, table, asked, workers=workers, progress=progress)
    return len(dataset), written


def _format_of(target: Path | None) -> str:
    """The format that a file's name asks for; refused before any image is read."""
    if target is None:
        return "csv"
    if target.suffix.lower() not in FORMATS and (target.is_file() or not target.exists()):
        raise UsageError(f"--out: expected a name ending in {', '.join(FORMATS)}, got {target}; or --format")
    return FORMATS.get(target.suffix.lower(), "csv")
