"""assay evaluate: a model on labelled images that it never saw."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.data.place import Place, whole_name
from assay.progress import progress_bar
from assay.text import interval, of_groups, percent_range, share_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.evaluate import Evaluation

EXAMPLES = (
    "assay evaluate out/ test_images/ --labels test_labels.csv",
    "assay evaluate out/ test_images/ --labels test_labels.csv --all-systems",
    "assay evaluate out/ --features test_vectors.npy --labels test_labels.csv",
)


def command(
    model: options.Model,
    images: options.SomeImages = None,
    /,
    *,
    features: options.Features = None,
    labels: Path,
    group_column: options.GroupColumn = None,
    labelling: options.NewLabelOptions = options.NewLabelOptions(),
    reading: options.ImageOptions = options.ImageOptions(),
    all_systems: options.AllSystems = False,
    workers: options.Workers = 2,
    strict: options.Strict = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure a model on labelled images that it was not trained on.

    Parameters
    ----------
    labels
        The right labels: CSV, JSON lines or Parquet, as for --trusted of assay run.
    """
    from assay.notebook.folder import evaluate_lineup
    from assay.notebook.systems import TITLES
    from assay.predict.predictor import load_model

    place = options.check_one_place(images, features)
    settings = reading.read_options(
        features=features, trusted=labels, group_column=group_column, **vars(labelling)
    )
    log = notifier(quiet)
    if _was_made_from(model, place):
        what = "images" if features is None else "features"
        log(
            f"warning: {place} are the {what} of the run {model}, which trained on all but its holdout: "
            f"expect a lower accuracy on new {what}; the run's own figures are in evaluation.json"
        )
    with progress_bar(quiet) as progress:
        if all_systems:
            found = evaluate_lineup(model, images, settings, workers=workers, notify=log, progress=progress)
        else:
            one = load_model(model).evaluate(images, settings, workers=workers, notify=log, progress=progress)
            found = {"": one}
    if too_small := next(iter(found.values())).too_small:
        log(f"warning: {too_small}")
    if not all_systems:
        show_json(one.to_json()) if as_json else show(_text(one))
    elif as_json:
        rows = [
            {"system": system, "title": TITLES[system], **each.to_json()} for system, each in found.items()
        ]
        show_json({"rows": rows})
    else:
        show(_table(found))
    return options.SKIPPED if strict and any(each.skipped for each in found.values()) else 0


def _was_made_from(run: Path, place: Place) -> bool:
    try:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return whole_name(place) in (record["images"], record.get("features"))
    except (OSError, ValueError, TypeError, KeyError):  # a model alone, or a run without that entry
        return False


def _text(found: "Evaluation") -> str:
    from assay.evaluate import format_report

    share = found.accuracy
    return (
        f"{format_report(found.report)}\n"
        f"accuracy {share_of(share.estimate, found.n)} "
        f"(95 % interval {percent_range(share.low, share.high)}, n = {found.n:,}{of_groups(found.groups)}); "
        f"balanced accuracy {interval(vars(found.balanced_accuracy))}; "
        f"calibration error {found.calibration_error:.3f}; skipped {found.skipped:,}"
        + (f"; without a label {found.unlabelled:,}" if found.unlabelled else "")
    )


def _table(found: "Mapping[str, Evaluation]") -> str:
    from assay.notebook.systems import TITLES

    rows = [
        (
            TITLES[system],
            share_of(one.accuracy.estimate, one.n),
            percent_range(one.accuracy.low, one.accuracy.high),
            interval(vars(one.balanced_accuracy)),
            f"{one.report.macro.f1:.3f}",
            f"{one.n:,}",
        )
        for system, one in found.items()
    ]
    # All systems are given the same images, so they skip the same ones.
    skipped = next(iter(found.values())).skipped
    note = f"\n\n{skipped:,} images were skipped" if skipped else ""
    return table(("", "accuracy", "95 % interval", "balanced accuracy", "macro F1", "images"), rows) + note
