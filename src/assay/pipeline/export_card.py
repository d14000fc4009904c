"""The card of an exported file: that of its run, and what became of the model on the way into the file."""

from assay.evaluate import format_report
from assay.pipeline.export_run import Exported, Figures

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
        *_flip_tta(exported),
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


def _flip_tta(exported: Exported) -> list[str]:
    below, file = exported.flip_tta_below, exported.figures[-1]
    if not below:
        return []
    return [
        f"Where the likeliest class has less than {below:g}, the image mirrored from left to right goes in "
        f"too: {100 * file.looked_twice:.0f} % of these images. The geometric mean of both answers, divided "
        "by its sum, counts. `assay` does so by itself; whoever runs the file with something else does so "
        f"around it, or goes without, and has {100 * file.right_at_first:.1f} % right.",
        "",
    ]


def _row(found: Figures) -> str:
    right, low, high = (100 * share for share in found.accuracy)
    return (
        f"| {found.precision} | {found.bytes / 1e6:.1f} | {right:.1f} % ({low:.1f} to {high:.1f}) "
        f"| {100 * found.same_class:.1f} % | {found.milliseconds_one:.1f} | {found.milliseconds_batch:.1f} |"
    )
