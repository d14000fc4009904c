"""assay plan: what more trusted labels would gain, and which images to label."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from assay.cli import options
from assay.cli.console import show, show_json, table
from assay.errors import UsageError
from assay.progress import progress_bar
from assay.text import percent

EXAMPLES = (
    "assay plan out/",
    "assay plan out/ --more 200,1000 --label 50 --json",
)

HEADER = ("trusted labels", "model", "gain, 95 %", "labels", "gain, 95 %", "noise rate", "accuracy")


def command(
    run: options.Run,
    images: options.RunData = None,
    /,
    *,
    more: str = "100,500,2000",
    label: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
    out: options.Out = None,
    excel_safe: options.ExcelSafe = False,
    cache: options.Cache = None,
    workers: options.Workers = 2,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Forecast what more trusted labels would gain, and choose images to label.

    Parameters
    ----------
    more
        Numbers of additional trusted labels to forecast, with commas between them; at most all images.
    label
        How many random and how many doubtful images to choose.
    out
        Folder for plan.csv and plan.json. Without it: the run's folder.
    """
    try:
        numbers = [int(part) for part in more.split(",")]
    except ValueError:
        raise UsageError(f"--more: expected numbers with commas between them, got {more!r}") from None

    from assay.data.write import make_folder
    from assay.pipeline.finished import open_run
    from assay.pipeline.options import default_cache
    from assay.pipeline.plan import check_numbers, plan_labels

    found = open_run(run, images, command="plan", features=True)
    check_numbers(numbers, label)
    folder = out or run
    make_folder(folder)
    with progress_bar(quiet) as progress:
        plan = plan_labels(
            found, cache or default_cache(), more=numbers, label=label, workers=workers, progress=progress
        )
    plan.write(folder, excel_safe=excel_safe)
    facts = plan.to_json()
    show_json(facts) if as_json else show(_text(facts, run, folder))
    return 0


def _text(facts: Mapping[str, Any], run: Path, folder: Path) -> str:
    from assay.data.split import HOLDOUT_MOST

    doubtful, random = facts["doubtful"], facts["random"]
    lists = [
        f"{folder}/plan.csv lists {random['images']:,} random images: label them and add them to the "
        "--trusted file, on which all results rest.",
        f"It also lists {doubtful['images']:,} doubtful images: reviewing them (assay review {run}) would "
        f"correct about {doubtful['expected_corrections']:.0f} labels.",
    ]
    if "curve" not in facts:
        return "\n".join(["No trusted label: what more are worth can be measured from about 30 on.", *lists])
    held_out = facts["held_out"]
    measured = [
        (f"{row['trusted']:,}", percent(row["model"]), percent(row["labels"])) for row in facts["curve"]
    ]
    rows = []
    for row in facts["expected"]:
        cells = [f"{row['more']:,} more" if row["more"] else "now"]
        for name in ("model", "labels"):
            gain = [100 * row[name]["gain"][key] for key in ("estimate", "low", "high")]
            cells.append(percent(row[name]["accuracy"]["estimate"]))
            cells.append("+{:.2f} ({:.2f} to {:.2f})".format(*gain) if row["more"] else "")
        # Without a holdout no accuracy is known to any margin.
        margins = (row.get(key) for key in ("noise_rate_known_to", "accuracy_known_to"))
        cells += ["" if margin is None else f"± {100 * margin:.1f}" for margin in margins]
        rows.append(cells)
    forecast = "With more trusted labels, and the margin of error of the noise rate:"
    if held_out:
        forecast = (
            "With more trusted labels, of which the same share is held out "
            f"({max(held_out, HOLDOUT_MOST):,} at most), and the margins of error of the noise rate and the "
            "accuracy:"
        )
    return "\n".join(
        [
            f"{facts['trusted']:,} trusted labels are used for training, {held_out:,} are held out. "
            "Measured accuracy with fewer:",
            "",
            table(("trusted labels", "model", "labels"), measured),
            "",
            forecast,
            "",
            table(HEADER, rows),
            "",
            *lists,
        ]
    )
