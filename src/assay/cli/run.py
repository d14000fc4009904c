"""assay run: the whole job."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from assay.cli import flags
from assay.cli.console import notify, progress_bar, show
from assay.cli.endings import SKIPPED
from assay.cli.groups import with_flags
from assay.errors import GateError

if TYPE_CHECKING:
    from assay.pipeline.options import RunOptions

EXAMPLES = (
    "assay run images/ --noisy noisy.csv --trusted trusted.csv -o out/",
    "assay run images.zip --noisy labels.csv --trusted checked.csv -o out/ --json",
    "assay run class_folders/ --trusted checked.csv -o out/ --dry-run",
    "assay run images/ --noisy noisy.csv --trusted trusted.csv --decisions out/decisions.sqlite -o out2/",
)

Decisions = Annotated[
    Path | None,
    flags.flag(
        "--decisions",
        metavar="FILE",
        help="What was decided in assay review (.sqlite, .csv, .json), to learn from as trusted labels.",
    ),
]


@dataclass(frozen=True)
class Options:
    """How to go about it."""

    overwrite: flags.Overwrite = False
    dry_run: Annotated[
        bool, flags.flag("--dry-run", help="Print the plan with its time and disk, and stop.")
    ] = False
    strict: flags.Strict = False
    as_json: flags.Json = False
    quiet: flags.Quiet = False

    def notify(self, line: str) -> None:
        """A line for a person, who may have asked for quiet."""
        if not self.quiet:
            notify(line)


@with_flags
def run_command(
    images: flags.Images,
    out: flags.ResultsFolder,
    labels: flags.LabelFlags,
    training: flags.TrainingFlags,
    manner: Options,
    decisions: Decisions = None,
) -> int:
    """Do the whole job: noise, fixed labels, a model, its figures."""
    options = training.options(replace(labels.options(), decisions=decisions))
    if manner.dry_run:
        return _plan(images, out, options, manner)

    from assay.cli.summary import run_text
    from assay.pipeline.outputs import read_facts
    from assay.pipeline.run import run

    with progress_bar(manner.quiet) as progress:
        run(
            images,
            out,
            options,
            overwrite=manner.overwrite,
            command=("assay", *sys.argv[1:]),
            notify=manner.notify,
            progress=progress,
        )
    facts = read_facts(out)
    show(json.dumps(facts, indent=1) if manner.as_json else run_text(facts))
    if manner.strict and facts["skipped"]:
        return SKIPPED
    return GateError.exit_code if facts["better_than_baseline"] is False else 0


def _plan(images: Path, out: Path, options: "RunOptions", manner: Options) -> int:
    from assay.cli.summary import plan_text
    from assay.pipeline.dry_run import dry_run

    plan = dry_run(images, out, options, overwrite=manner.overwrite, notify=manner.notify)
    show(json.dumps(plan.to_json(), indent=1) if manner.as_json else plan_text(plan, str(out)))
    return 0
