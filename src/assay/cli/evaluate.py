"""assay evaluate: a model on labelled images that it never saw."""

import json
from pathlib import Path
from typing import Annotated

import typer

from assay.cli import flags
from assay.cli.console import percent, progress_bar
from assay.cli.reading import read_options


def evaluate_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder or a model folder.")],
    images: flags.Images,
    labels: Annotated[
        Path, typer.Option(help="True labels of the images, in any form that --trusted takes.")
    ],
    path_col: flags.PathColumn = None,
    label_col: flags.LabelColumn = None,
    dtype: flags.Dtype = "auto",
    workers: flags.Workers = 2,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    r"""The classification report of a model on a labelled test set.

    \b
    assay evaluate out/ test_images/ --labels test_labels.csv
    """
    from assay.learn.model import load_model
    from assay.measure import format_report
    from assay.predict.test_set import evaluate_model
    from assay.recipes.options import default_cache

    options = read_options(class_map=None, trusted=labels, path_column=path_col, label_column=label_col)
    with progress_bar(quiet) as progress:
        found = evaluate_model(
            load_model(model),
            images,
            options,
            default_cache(),
            dtype=dtype,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
        return
    accuracy = found.accuracy
    print(format_report(found.report).rstrip())
    print(
        f"\naccuracy {percent(accuracy.estimate)} "
        f"(95 % interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}, "
        f"n = {found.n:,}); calibration error {found.calibration_error:.3f}; skipped {found.skipped:,}"
    )
