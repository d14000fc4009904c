"""assay evaluate: a model on labelled images that it never saw."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from assay.cli import flags, lineup
from assay.cli.console import notify, progress_bar, show
from assay.cli.endings import SKIPPED
from assay.cli.groups import with_flags
from assay.cli.values import class_pairs
from assay.data.limits import USUAL
from assay.text import percent, percent_range

if TYPE_CHECKING:
    from assay.data.dataset import ReadOptions
    from assay.evaluate import Evaluation

EXAMPLES = (
    "assay evaluate out/ test_images/ --labels test_labels.csv",
    "assay evaluate out/ test_images/ --labels test_labels.csv --all-systems",
)


@dataclass(frozen=True)
class TestFlags:
    """What the labels are and how to read them."""

    labels: Annotated[
        Path,
        flags.flag("--labels", metavar="FILE", help="True labels, in any form that run's --trusted takes."),
    ]
    path_col: flags.PathColumn = None
    label_col: flags.LabelColumn = None
    class_map: flags.ClassMap = None
    normalize_labels: flags.NormalizeLabels = False
    follow_symlinks: flags.FollowSymlinks = False
    truncated: flags.Truncated = "skip"
    max_pixels: flags.MaxPixels = USUAL.max_pixels

    def options(self) -> "ReadOptions":
        """The same for ``data``."""
        from assay.data.dataset import ReadOptions

        return ReadOptions(
            trusted=self.labels,
            path_column=self.path_col,
            label_column=self.label_col,
            class_map=class_pairs(self.class_map),
            normalize_labels=self.normalize_labels,
            follow_symlinks=self.follow_symlinks,
            truncated=self.truncated,
            max_pixels=self.max_pixels,
        )


@with_flags
def evaluate_command(
    model: flags.ModelPlace,
    images: flags.Images,
    labels: TestFlags,
    all_systems: lineup.AllSystems = False,
    workers: flags.Workers = 2,
    strict: flags.Strict = False,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> int:
    """Measure a model on labelled images that it never saw."""
    from assay.predict.predictor import load_model
    from assay.types import ignore_message

    options = labels.options()
    if not quiet and _is_of_run(model, images):
        notify(
            f"warning: {images} are the images of the run {model}, which learned from all but its holdout: "
            "the accuracy is higher than that of new images; evaluation.json has the run's own figures"
        )
    if all_systems:
        return lineup.evaluate_all(
            model, images, options, workers=workers, strict=strict, as_json=as_json, quiet=quiet
        )
    with progress_bar(quiet) as progress:
        found = load_model(model).evaluate(
            images,
            options,
            workers=workers,
            notify=ignore_message if quiet else notify,
            progress=progress,
        )
    show(json.dumps(found.to_json(), indent=1) if as_json else _text(found))
    return SKIPPED if strict and found.skipped else 0


def _is_of_run(place: Path, images: Path) -> bool:
    """Whether ``place`` holds a run that was made from ``images``, wherever it is called from."""
    try:
        record = json.loads((place / "run.json").read_text(encoding="utf-8"))
        return bool(record["images"] == str(images.resolve()))
    except (OSError, ValueError, TypeError, KeyError):  # a model alone, or a run that does not say
        return False


def _text(found: "Evaluation") -> str:
    from assay.evaluate import format_report

    accuracy = found.accuracy
    return (
        f"{format_report(found.report)}\n"
        f"accuracy {percent(accuracy.estimate)} (95 % interval "
        f"{percent_range(accuracy.low, accuracy.high)}, n = {found.n:,}); "
        f"calibration error {found.calibration_error:.3f}; skipped {found.skipped:,}"
        + (f"; without a label {found.unlabelled:,}" if found.unlabelled else "")
    )
