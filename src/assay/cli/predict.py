"""assay predict: new images to rows."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

from cyclopts import Parameter
from cyclopts.validators import Number

from assay.cli import options
from assay.cli.console import notifier
from assay.data.place import Place, Url
from assay.errors import UsageError
from assay.progress import progress_bar

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.types import Notify

EXAMPLES = (
    "assay predict out/ new_images/ -o predictions.csv",
    "assay predict out/ new.zip --format jsonl | head",
    "assay predict classifier.onnx new_images/ -o predictions.parquet",
    "assay predict out/ - --format jsonl < paths.txt",
    "assay predict out/ --features new_vectors.npy -o predictions.csv",
    "assay predict out/ new_images/ --class-prior estimate -o predictions.csv",
    "assay predict out/ new_images/ --all-systems -o label_prediction.csv",
)

MODEL_ALONE = {"--min-confidence", "--coverage", "--class-prior"}
"""Flags of one model, not of ``--all-systems``."""

FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}


def command(
    model: options.Model,
    images: Annotated[
        Place | None,
        options.PLACE,
        Parameter(
            name="IMAGES",
            help="A folder, zip, tar or Parquet file of images, or one image; also as a URL, such as "
            "s3://bucket/images. -: paths on stdin, one a line.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    /,
    *,
    features: options.Features = None,
    reading: options.ImageOptions = options.ImageOptions(),
    out: Annotated[
        Path, Parameter(name=("--out", "-o"), allow_leading_hyphen=True, show_default=False)
    ] = Path("-"),
    format_name: Annotated[Literal["csv", "jsonl", "parquet"] | None, Parameter(name="--format")] = None,
    excel_safe: options.ExcelSafe = False,
    min_confidence: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.0,
    coverage: float | None = None,
    class_prior: options.ClassPrior = None,
    all_systems: options.AllSystems = False,
    columns: str | None = None,
    workers: options.Workers = 2,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
    words: options.Words = (),
) -> int:
    """Predict the class of every image: one row per image, in order.

    Parameters
    ----------
    out
        File for the rows. Without it, or with -: stdout.
    format_name
        Without it: by the ending of the file; CSV on stdout.
    min_confidence
        Give no label to an image whose most probable class is less probable than this.
    coverage
        Add a column 'set' of labels that contains the right one for this share of images.
    columns
        With --all-systems: some of "Index,Baseline,CNN 1,CNN 2,Model I,Model II,Assay".
    """
    typed, place = options.flags(words), options.check_one_place(images, features)
    if images == Path("-") and "--path-col" in typed:
        raise UsageError("--path-col: expected a Parquet file of images, got paths on stdin")
    if wrong := [flag for flag in typed if all_systems and flag in MODEL_ALONE]:
        raise UsageError(f"{', '.join(wrong)}: expected one model, got --all-systems")
    if coverage is not None and class_prior is not None:
        raise UsageError(
            "--coverage: expected no --class-prior, got both: the sets are calibrated for images mixed as in "
            "training; leave one out"
        )
    if not all_systems and "--columns" in typed:
        raise UsageError("--columns: selects models of --all-systems; give both or neither")
    target = None if out == Path("-") else out
    if target is not None:
        options.check_file(target)
        options.check_apart(target, model, place)
    kind = format_name or _format_of(target)
    log = notifier(quiet)
    if all_systems:
        n_skipped = _predict_all(
            model, _read(images, features, reading, log), target, kind, excel_safe, columns, workers, quiet
        )
        return options.SKIPPED if strict and n_skipped else 0

    from assay.data.dataset import why_skipped
    from assay.data.decode import warning_lines
    from assay.data.remote import RemoteSource
    from assay.data.write import ResumableWriter
    from assay.predict.batch import Options, check_takes, identity_of, threshold_for, write_predictions
    from assay.predict.prior import ESTIMATE, chosen_prior
    from assay.predict.runtime import load_runtime

    runtime = load_runtime(model)  # before the images, which may take minutes to list
    prior = None
    if class_prior is not None:
        prior = chosen_prior(class_prior, runtime.prior, runtime.labels, runtime.titles)
    dataset = _read(images, features, reading, log)
    check_takes(runtime, dataset)
    least = None if coverage is None else threshold_for(coverage, runtime.thresholds)
    settings = Options(min_confidence, least, prior, outlier_score=runtime.has_outlier_score)
    # A stream cannot resume, nor can an estimate, for which all images are predicted before the first row.
    identity = uuid4().hex
    if target is not None and prior != ESTIMATE:  # a million files take seconds to look at
        versions = dataset.source.versions if isinstance(dataset.source, RemoteSource) else ()
        where = whereabouts(place, reading, dataset.names, versions)
        identity = identity_of(runtime, dataset, kind, excel_safe, settings, where)
    with (
        progress_bar(quiet) as progress,
        ResumableWriter(target or sys.stdout.buffer, settings.columns, kind, excel_safe, identity) as rows,
    ):
        if rows.n_rows:
            log(f"{target}: resuming after {rows.n_rows:,} rows")
        written = write_predictions(
            runtime, dataset, rows, settings, workers=workers, notify=log, progress=progress
        )
    n = len(dataset)
    part = f"of the {n - written.first:,} images predicted now: " if written.first else ""
    for line in warning_lines(written.image_warnings):
        log(f"{part}{line}")
    if written.n_skipped:
        # The reasons of rows that were there already are not known here.
        why = f": {why_skipped(written.reasons)}" if written.reasons.total() == written.n_skipped else ""
        log(f"{written.n_skipped:,} of {n:,} images were skipped, see their status{why}")
    return options.SKIPPED if strict and written.n_skipped else 0


def _format_of(target: Path | None) -> str:
    if target is None:
        return "csv"
    ending = target.suffix.lower()
    if ending not in FORMATS and (target.is_file() or not target.exists()):  # a device needs no ending
        raise UsageError(
            f"--out: expected a name ending in {', '.join(FORMATS)}, got {target}; or use --format"
        )
    return FORMATS.get(ending, "csv")


def _read(
    images: Place | None, features: Path | None, reading: options.ImageOptions, log: "Notify"
) -> "Dataset":
    from assay.data.read import read_images, read_listed

    settings = reading.read_options(features=features)
    on_stdin = images == Path("-")
    dataset = read_listed(sys.stdin.buffer.read(), settings) if on_stdin else read_images(images, settings)
    for note in dataset.notes:
        log(note)
    return dataset


def whereabouts(
    images: Place, reading: options.ImageOptions, names: Sequence[str], versions: Sequence[str] = ()
) -> str:
    """What images these are: rows of others are not resumed.

    Parameters
    ----------
    versions : of the objects at a URL; empty of a file there
    """
    from assay.data.files import stamps_digest

    # By place and file stamps, not by name alone: cameras reuse names every day.
    used = f" {reading.truncated} {reading.max_pixels}"
    if isinstance(images, Url):
        # Of a file there nobody knows what it was before: nothing is resumed.
        return f"{images}{used} {' '.join(versions) or uuid4().hex}"
    if images == Path("-"):
        return f"{Path.cwd()}{used} {stamps_digest(names)}"
    place = str(images.resolve())
    if not images.is_file():
        followed = " followed" if reading.follow_symlinks else ""
        return f"{place}{followed}{used} {stamps_digest(f'{place}/{name}' for name in names)}"
    column = "" if reading.path_column is None else f" {reading.path_column}"
    return f"{place}{used} {stamps_digest([place])}{column}"


def _predict_all(
    folder: Path,
    dataset: "Dataset",
    target: Path | None,
    kind: str,
    excel_safe: bool,
    columns: str | None,
    workers: int,
    quiet: bool,
) -> int:
    """Write one label of each model for each image, and return the number of skipped images."""
    from assay.data.write import write_rows
    from assay.notebook.folder import predict_lineup

    log = notifier(quiet)
    wanted = None if columns is None else [name.strip() for name in columns.split(",")]
    with progress_bar(quiet) as progress:
        found = predict_lineup(folder, dataset, wanted, workers=workers, progress=progress)
    write_rows(target or sys.stdout.buffer, found.header, found.columns, format=kind, excel_safe=excel_safe)
    if not found.has_stems:
        log("The column Index has whole file names: without folder and ending, some would be equal.")
    if found.n_skipped:
        log(f"{found.n_skipped:,} of {len(found.names):,} images were skipped; their cells are empty")
    return found.n_skipped
