"""assay compare: every recipe on the same data, in one table."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from assay.cli import flags
from assay.cli.console import notify, progress_bar, show, table
from assay.cli.endings import SKIPPED
from assay.cli.groups import with_flags

if TYPE_CHECKING:
    from assay.data.dataset import ReadOptions
    from assay.notebook.compare_options import CompareOptions
    from assay.notebook.compare_result import Compared

EXAMPLES = (
    "assay compare images/ --noisy noisy.csv --trusted trusted.csv -o out/",
    "assay compare images/ --noisy noisy.csv --trusted trusted.csv -o out/ --systems cnn-1,assay --json",
    "assay compare images/ --noisy noisy.csv --trusted trusted.csv -o full/ --holdout 0 --figures-from out/",
)


@dataclass(frozen=True)
class CompareFlags(flags.TrainingFlags):
    """How to learn and how to measure, for all recipes."""

    backbone: Annotated[
        str | None,
        flags.flag(
            "--backbone",
            metavar="NAME",
            help="Of all recipes that use one, as in run; without: each recipe's own, Lite2 for assay and "
            "Lite0 for model-1 and model-2.",
        ),
    ] = None  # type: ignore[assignment]  # each recipe has a default of its own
    size: Annotated[
        int | None,
        flags.flag(
            "--size",
            metavar="PIXELS",
            min=16,
            max=1024,
            help="Side that its images are resized to; without: each recipe's own, 160 and 128.",
        ),
    ] = None  # type: ignore[assignment]  # the same
    systems: Annotated[
        str | None,
        flags.flag(
            "--systems",
            metavar="IDS",
            help="Some of histogram, cnn-1, cnn-2, model-1, model-2, assay, with commas between; by "
            "default all.",
        ),
    ] = None
    as_published: Annotated[
        bool, flags.flag("--as-published", help="With the notebook's defects that change results.")
    ] = False
    search: Annotated[
        bool,
        flags.flag("--search", help="Choose settings by grid search on trusted images; keeps all scores."),
    ] = False
    figures_from: Annotated[
        Path | None,
        flags.flag(
            "--figures-from",
            metavar="FOLDER",
            help="With --holdout 0: a comparison that differs in that alone; its figures are copied.",
        ),
    ] = None

    def compare_options(self, read: "ReadOptions") -> "CompareOptions":
        """The same for ``systems``."""
        from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE
        from assay.notebook.compare_options import CompareOptions
        from assay.notebook.listing import TITLES
        from assay.pipeline.options import RunOptions

        own = ("systems", "as_published", "search", "figures_from")
        shared = {name: value for name, value in self.settled().items() if name not in own}
        assay = {"backbone": self.backbone or DEFAULT_BACKBONE, "size": self.size or DEFAULT_SIZE}
        named = TITLES if self.systems is None else [name.strip() for name in self.systems.split(",")]
        return CompareOptions(
            run=RunOptions(read=read, **(shared | assay)),
            systems=tuple(named),
            backbone=self.backbone,
            size=self.size,
            published=self.as_published,
            search=self.search,
            figures_from=self.figures_from,
        )


@dataclass(frozen=True)
class Options:
    """How to go about it."""

    overwrite: flags.Overwrite = False
    strict: flags.Strict = False
    as_json: flags.Json = False
    quiet: flags.Quiet = False

    def notify(self, line: str) -> None:
        """A line for a person, who may have asked for quiet."""
        if not self.quiet:
            notify(line)


@with_flags
def compare_command(
    images: flags.Images,
    out: flags.ResultsFolder,
    labels: flags.LabelFlags,
    training: CompareFlags,
    manner: Options,
) -> int:
    """Train the notebook's five systems and assay, and say what each costs and what each is worth.

    A recipe that fails is a row that says why; the exit code is then the first such recipe's.
    """
    options = training.compare_options(labels.options())

    from assay.notebook.compare import compare

    with progress_bar(manner.quiet) as progress:
        found = compare(
            images,
            out,
            options,
            overwrite=manner.overwrite,
            command=("assay", *sys.argv[1:]),
            notify=manner.notify,
            progress=progress,
        )
    _draw(found, options, manner)
    show(json.dumps(dict(found.record), indent=1) if manner.as_json else compare_text(found.record))
    return found.exit_code or (SKIPPED if manner.strict and found.record["skipped"] else 0)


def _draw(found: "Compared", options: "CompareOptions", manner: Options) -> None:
    """Pictures are a help, not a result: without their package the table stands alone."""
    from assay.errors import MissingExtraError
    from assay.notebook.compare_entry import held_rows
    from assay.notebook.pictures import are_drawn, write_pictures

    # A comparison that was killed while it drew is finished, but for its pictures.
    if not found.computed and are_drawn(found.folder):
        return

    try:
        write_pictures(found.folder, found.dataset, held_rows(options, found.dataset))
    except MissingExtraError as error:
        manner.notify(f"no pictures were drawn: {error}")


def compare_text(record: Mapping[str, Any]) -> str:
    """What ``assay compare`` prints: how good, at what cost, and what a reader must know of it."""
    from assay.notebook.compare_table import COST, QUALITY, cells, notes

    parts = [
        table(
            ("", *(header for header, _ in columns)),
            [(row["title"], *cells(row, columns)) for row in record["rows"]],
        )
        for columns in (QUALITY, COST)
    ]
    return "\n\n".join([*parts, "\n".join(notes(record))])
