"""assay report: a run's results as one HTML file."""

from assay.cli import options
from assay.cli.console import notifier, show

EXAMPLES = (
    "assay report out/",
    "assay report out/ -o report.html --images moved_images/",
)


def command(
    run: options.Run,
    /,
    *,
    out: options.Out = None,
    images: options.RunImages = None,
    follow_symlinks: options.FollowSymlinks = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a run's results as one self-contained HTML file, and as JSON beside it.

    Parameters
    ----------
    out
        The HTML file to write. Without it: report.html in the run's folder.
    """
    from assay.notebook.table import comparison_of
    from assay.report import write_report

    if out is not None:
        options.check_file(out)
    comparison, notes = comparison_of(run)
    written = write_report(
        run, out, images=images, follow_symlinks=follow_symlinks, comparison=comparison, notes=notes
    )
    show(str(written.page))
    log = notifier(quiet)
    for note in written.notes:  # such as pictures that are left out
        log(f"warning: {note}")
    log(f"{written.page_bytes / 1e6:.2f} MB; open it in a browser. The same as JSON: {written.facts}")
    return 0
