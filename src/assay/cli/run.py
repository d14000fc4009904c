"""assay run: the whole job."""

import json
from typing import Any

from assay.cli import flags
from assay.cli.console import progress_bar, say
from assay.cli.reading import read_options


def run_command(
    images: flags.Images,
    out: flags.Out,
    noisy: flags.Noisy = None,
    trusted: flags.Trusted = None,
    classes: flags.Classes = None,
    path_col: flags.PathColumn = None,
    label_col: flags.LabelColumn = None,
    duplicates: flags.Duplicates = "refuse",
    class_map: flags.ClassMap = None,
    allow_new_classes: flags.NewClasses = False,
    normalize_labels: flags.Normalize = False,
    follow_symlinks: flags.FollowSymlinks = False,
    allow_empty_classes: flags.EmptyClasses = False,
    backbone: flags.Backbone = "tf_efficientnet_lite2",
    weights: flags.WeightsFile = None,
    size: flags.Size = 160,
    dtype: flags.Dtype = "auto",
    holdout: flags.Holdout = None,
    holdout_split: flags.HoldoutSplit = "stratified",
    folds: flags.Folds = 5,
    threshold: flags.Threshold = 0.8,
    seed: flags.Seed = 0,
    effort: flags.Effort = "fast",
    workers: flags.Workers = 2,
    overwrite: flags.Overwrite = False,
    strict: flags.Strict = False,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
    dry_run: flags.DryRun = False,
) -> int:
    r"""Estimate the noise, fix the labels, train a model and measure it.

    \b
    assay run images/ --noisy noisy.csv --trusted trusted.csv -o out/
    assay run images.zip --noisy labels.csv --trusted checked.csv -o out/ --json
    """
    from assay._errors import UsageError
    from assay.cli.summary import run_json, run_text
    from assay.recipes.options import RunOptions
    from assay.recipes.plan_run import plan_run
    from assay.recipes.run import run

    if trusted is None:
        raise UsageError(
            "expected --trusted with the labels that you checked: everything rests on them; "
            "200 to 500 of a random choice will do"
        )
    options = RunOptions(
        read=read_options(
            noisy=noisy,
            trusted=trusted,
            classes=classes,
            path_column=path_col,
            label_column=label_col,
            duplicates=duplicates,
            class_map=class_map,
            allow_new_classes=allow_new_classes,
            normalize_labels=normalize_labels,
            follow_symlinks=follow_symlinks,
            allow_empty_classes=allow_empty_classes,
        ),
        backbone=backbone,
        weights=weights,
        size=size,
        dtype=dtype,
        holdout=holdout,
        holdout_split=holdout_split,
        folds=folds,
        threshold=threshold,
        seed=seed,
        effort=effort,
        workers=workers,
    )
    if dry_run:
        print(plan_run(images, out, options))
        return 0
    with progress_bar(quiet) as progress:
        result = run(images, out, options, overwrite=overwrite, progress=progress)
    if not quiet:
        _say_notes(result)
    print(json.dumps(run_json(result), indent=1) if as_json else run_text(result))
    return 4 if strict and result.dataset.skipped else 0


def _say_notes(result: Any) -> None:
    for note in result.dataset.notes:
        if not note.startswith("warning"):
            say(note)
    for warning in result.warnings:
        say(f"warning: {warning.removeprefix('warning: ')}")
