"""assay report: what a run found, as one HTML file."""

from pathlib import Path
from typing import Annotated

from assay.cli import flags
from assay.cli.console import notify, show
from assay.cli.targets import check_file

EXAMPLES = (
    "assay report out/",
    "assay report out/ -o report.html --images moved_images/",
)


def report_command(
    run: flags.FinishedRun,
    out: Annotated[
        Path | None,
        flags.flag(
            "--out",
            "-o",
            metavar="FILE",
            help="The HTML file, beside which the JSON file lies; by default report.html in RUN.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        flags.flag(
            "--images", metavar="PLACE", help="Where the images are, if not where they were for the run."
        ),
    ] = None,
    follow_symlinks: flags.FollowSymlinks = False,
    quiet: flags.Quiet = False,
) -> int:
    """Write what a run found as one HTML file that needs nothing beside it, and as JSON."""
    from assay.notebook.shown import comparison_of
    from assay.report import write_report

    if out is not None:
        check_file(out)
    comparison, notes = comparison_of(run)
    written = write_report(
        run, out, images=images, follow_symlinks=follow_symlinks, comparison=comparison, notes=notes
    )
    show(str(written.page))
    if not quiet:
        for note in written.notes:
            notify(f"warning: {note}")
        notify(f"{written.page_bytes / 1e6:.2f} MB; open it in a browser. The same facts: {written.facts}")
    return 0
