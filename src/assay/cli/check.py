"""assay check: is a new batch of images like those of a run, and are its labels right?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.errors import GateError, UsageError
from assay.progress import progress_bar
from assay.text import interval, p_equals

if TYPE_CHECKING:
    from assay.pipeline.check import Checked

EXAMPLES = (
    "assay check out/ new_images/",
    "assay check out/ new_images/ --labels new_labels.csv -o findings.csv",
    "assay check out/ new.zip --labels new_labels.csv --max-wrong 0.05 --json",
)


def command(
    run: options.Run,
    images: options.SomeImages = None,
    /,
    *,
    features: options.Features = None,
    labels: Path | None = None,
    labelling: options.NewLabelOptions = options.NewLabelOptions(),
    reading: options.ImageOptions = options.ImageOptions(),
    max_wrong: Annotated[float | None, Parameter(validator=Number(gte=0, lt=1))] = None,
    run_images: options.RunData = None,
    weights: options.Weights = None,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    excel_safe: options.ExcelSafe = False,
    seed: options.Seed = 0,
    cache: options.Cache = None,
    workers: options.Workers = 2,
    strict: options.Strict = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Find wrong labels, outliers, duplicates and drift in new images, without training.

    Parameters
    ----------
    labels
        Labels of the new images, to be checked: CSV, JSON lines or Parquet.
    max_wrong
        Exit with code 5 if a larger share of the labels is wrong, as far as can be measured.
    out
        CSV file for the findings, one row each.
    """
    from assay.pipeline.check import check_images, write_findings

    place = options.check_one_place(images, features)
    if max_wrong is not None and labels is None:
        raise UsageError("--max-wrong: expected --labels FILE with the labels to be checked, got none")
    if out is not None:
        options.check_file(out)
        options.check_apart(out, run, place)
    settings = reading.read_options(features=features, trusted=labels, **vars(labelling))
    with progress_bar(quiet) as progress:
        found = check_images(
            run,
            images,
            settings,
            run_images=run_images,
            weights=weights,
            cache=cache,
            seed=seed,
            workers=workers,
            notify=notifier(quiet),
            progress=progress,
        )
    if out is not None:
        write_findings(found, out, excel_safe=excel_safe)
    show_json(found.to_json()) if as_json else show(_text(found, out))
    if strict and found.dataset.skipped:
        return options.SKIPPED
    if max_wrong is None:
        return 0
    if found.wrong_labels is None:
        raise UsageError(
            "--max-wrong: expected a run with 100 held-out images or more and labels of classes that these "
            "have, by which wrong labels are counted; run again with a larger --holdout"
        )
    return GateError.exit_code if found.wrong_labels.share.low > max_wrong else 0


def _text(found: "Checked", out: Path | None) -> str:
    from assay.pipeline.check import KINDS, LEVEL, TESTS

    facts, rows = found.to_json(), []
    n_used = facts["images"] - facts["skipped"]
    for kind, title in KINDS.items():
        first = next((one for one in found.findings if one.kind == kind), None)
        words = "" if first is None else first.file
        if first is not None and first.others:
            words += f" = {first.others[0]}"
        if first is not None and first.label:
            words += f" is {first.label}"
        rows.append((title, f"{facts['counts'][kind]:,}", words))
    lines = [
        f"{n_used:,} images checked, {facts['skipped']:,} skipped.",
        "",
        table(("found", "", "first"), rows),
    ]
    wrong, outliers = found.wrong_labels, found.outliers
    tests = []
    if wrong is not None:
        tests.append(
            (
                "wrong labels",
                f"{interval(wrong.share.to_json())}; {wrong.found:,} of {wrong.labelled:,} contradicted, "
                f"{wrong.expected:.0f} expected of right ones",
                wrong.p_value,
            )
        )
    if outliers is not None:
        words = f"{outliers.found:,} far out, {outliers.expected:.0f} expected"
        tests.append(("outliers", words, outliers.p_value))
    for title, drift in (("shares of classes", found.class_drift), ("features", found.feature_drift)):
        if drift is not None:
            tests.append((title, drift.largest, drift.p_value))
    least = LEVEL / len(TESTS)
    verdicts = [
        (title, words, p_equals(p_value), "differs" * (p_value < least)) for title, words, p_value in tests
    ]
    lines += ["", table(("compared with the run", "", "", ""), verdicts)]
    n = len(found.reported)
    lines += [
        "",
        f"{n} of {len(tests)} tests report a difference; of a batch like the run none does, 19 times in 20.",
    ]
    if found.wrong_labels is None and found.outliers is None:
        lines.append(
            "Wrong labels, outliers and classes are not tested: the run has fewer than 100 held-out images."
        )
    if out is not None:
        lines.append(f"All findings: {out}")
    return "\n".join(lines)
