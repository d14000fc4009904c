"""The card of an exported file: that of its run, and what became of the model on the way into the file."""

from assay.measure import format_report
from assay.recipes.export_run import Exported, Figures

HEAD = (
    "| | MB | right, 95 % interval | same class as the model | ms an image, one by one | 32 together |",
    "|---|---|---|---|---|---|",
)


def export_card(file: str, run_card: str, exported: Exported) -> str:
    """Text in Markdown.

    Parameters
    ----------
    file : name of the file
    run_card : README.md of the run's model
    """
    how = f", by {exported.quantised.how}" if exported.quantised else ""
    n = exported.figures[0].n
    tried = f"Tried on {n:,} trusted images" + (
        ", which the model learned from: compare the rows, do not take them as its accuracy."
        if exported.learned_from
        else " that the model did not learn from."
    )
    lines = [
        f"# {file}",
        "",
        f"The model below in {exported.precision}{how}.",
        tried,
        "Milliseconds are those of the machine that exported it.",
        "",
        *HEAD,
        *map(_row, exported.figures),
        "",
        f"Each class by {file}, on the same images:",
        "",
        "```",
        format_report(exported.report).rstrip(),
        "```",
        "",
        run_card.rstrip(),
        "",
    ]
    return "\n".join(lines)


def _row(found: Figures) -> str:
    right, low, high = (100 * share for share in found.accuracy)
    return (
        f"| {found.precision} | {found.bytes / 1e6:.1f} | {right:.1f} % ({low:.1f} to {high:.1f}) "
        f"| {100 * found.same_class:.1f} % | {found.milliseconds_one:.1f} | {found.milliseconds_batch:.1f} |"
    )
