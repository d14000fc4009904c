"""assay plan: what more trusted labels would be worth, and which images to label."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from assay.cli import flags
from assay.cli.console import progress_bar, show, table
from assay.cli.groups import with_flags
from assay.errors import UsageError
from assay.text import percent

EXAMPLES = (
    "assay plan out/",
    "assay plan out/ --more 200,1000 --label 50 --json",
)

HEADER = ("trusted labels", "model", "gain, 95 %", "fixed labels", "gain, 95 %", "noise rate", "accuracy")


@dataclass(frozen=True)
class PlanFlags:
    """What to weigh, and how many images to name."""

    more: Annotated[
        str, flags.flag("--more", metavar="N,N", help="Numbers of further trusted labels to forecast.")
    ] = "100,500,2000"
    label: Annotated[
        int,
        flags.flag(
            "--label", metavar="N", min=1, help="How many random and how many doubtful images to name."
        ),
    ] = 100
    out: Annotated[
        Path | None,
        flags.flag(
            "--out", "-o", metavar="FOLDER", help="Folder for plan.csv and plan.json; by default the run's."
        ),
    ] = None
    cache: flags.Cache = None
    workers: flags.Workers = 2


@with_flags
def plan_command(
    run: flags.FinishedRun,
    plan: PlanFlags,
    images: flags.RunImages = None,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> int:
    """Say what more trusted labels would be worth, and which images to label."""
    more = _numbers(plan.more)

    from assay.data.write import make_folder
    from assay.pipeline.options import default_cache
    from assay.review.plan import check_numbers, plan_labels
    from assay.review.run import read_review_run

    found = read_review_run(run, images, command="plan")
    cache = plan.cache or default_cache()
    folder = plan.out or run
    check_numbers(more, plan.label)
    make_folder(folder)
    with progress_bar(quiet) as progress:
        planned = plan_labels(
            found, cache, more=more, label=plan.label, workers=plan.workers, progress=progress
        )
    planned.write(folder)
    facts = planned.to_json()
    show(json.dumps(facts, indent=1) if as_json else _text(facts, run, folder))
    return 0


def _numbers(more: str) -> list[int]:
    try:
        return [int(part) for part in more.split(",")]
    except ValueError:
        raise UsageError(f"--more: expected numbers with commas between them, got {more!r}") from None


def _text(facts: Mapping[str, Any], run: Path, folder: Path) -> str:
    random, looks = facts["random"]["images"], facts["doubtful"]
    measured = [
        (f"{row['trusted']:,}", percent(row["model"]), percent(row["labels"])) for row in facts["curve"]
    ]
    return "\n".join(
        [
            f"{facts['trusted']:,} trusted labels teach, {facts['held_out']:,} are held out. With fewer:",
            "",
            table(("trusted labels", "model", "fixed labels"), measured),
            "",
            _how_more(facts["held_out"]),
            "",
            table(HEADER, list(_rows(facts))),
            "",
            f"{folder}/plan.csv names {random:,} images at random: label them for --trusted, on which every "
            "figure rests.",
            f"And {looks['looks']:,} doubtful ones: looking at them (assay review {run}) would put about "
            f"{looks['labels_put_right']:.0f} labels right.",
        ]
    )


def _how_more(held_out: int) -> str:
    """What the second table is of."""
    if not held_out:
        return "With more, and how closely the noise rate would be known:"

    from assay.data.split import HOLDOUT_MOST

    return (
        f"With more, the same share of them held out ({max(held_out, HOLDOUT_MOST):,} at most), and how "
        "closely the noise rate and the accuracy would be known:"
    )


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in facts["expected"]:
        cells = []
        for name in ("model", "labels"):
            cells += [
                percent(row[name]["accuracy"]["estimate"]),
                _gain(row[name]["gain"]) if row["more"] else "",
            ]
        first = f"{row['more']:,} more" if row["more"] else "now"
        known = [row.get(key) for key in ("noise_rate_known_to", "accuracy_known_to")]
        yield first, *cells, *("" if half is None else f"± {100 * half:.1f}" for half in known)


def _gain(gain: Mapping[str, float]) -> str:
    points, low, high = (100 * gain[name] for name in ("estimate", "low", "high"))
    return f"+{points:.2f} ({low:.2f} to {high:.2f})"
