"""What a run found, as text for a person and as JSON for a program."""

from typing import Any

from assay.cli.console import percent, table
from assay.estimate import Interval, describe
from assay.recipes.outputs import fixed_figures
from assay.recipes.run import RunResult

TITLES = {
    "histogram": "histogram baseline",
    "assay": "assay",
    "assay_leaks_included": "assay, twins included",
    "assay_cross_validated": "assay, cross-validated",
    "labels_cross_validated": "fixed labels, cross-validated",
}


def run_text(result: RunResult) -> str:
    """The table that ``assay run`` prints."""
    figures = fixed_figures(result.learned.fixed)
    counts = " · ".join(f"{action} {n:,}" for action, n in figures["counts"].items())
    parts = [
        describe(result.learned.noise),
        f"Labels: {counts}.",
        _accuracies(result),
        *_comparison(result),
        _costs(result),
    ]
    return "\n".join(parts)


def _accuracies(result: RunResult) -> str:
    rows = []
    for name, title in TITLES.items():
        if name in result.evaluations:
            found = result.evaluations[name]
            rows.append(
                (
                    title,
                    percent(found.accuracy.estimate),
                    _range(found.accuracy),
                    f"{found.n:,}",
                    found.source,
                )
            )
    return "\n" + table(("accuracy of", "", "95 % interval", "images", "measured on"), rows) + "\n"


def _comparison(result: RunResult) -> list[str]:
    if "assay" not in result.evaluations:
        return ["No image was held out: the accuracy of this very model is not measured."]
    paired = result.evaluations["assay"].paired
    if paired is None:
        return []
    difference = paired.difference
    return [
        f"assay is {100 * difference.estimate:+.1f} points better than the baseline "
        f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f}), McNemar p {_p(paired.p_value)}."
    ]


def _costs(result: RunResult) -> str:
    model, cost = result.model, result.cost
    return (
        f"{model.architecture} at {model.size} px, {(cost.model_bytes or 0) / 1e6:.1f} MB. "
        f"{cost.seconds:.0f} s, {cost.peak_memory_bytes / 2**30:.2f} GiB. Results: {result.folder}/"
    )


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _p(value: float) -> str:
    return "< 1e-300" if value < 1e-300 else f"= {value:.2g}"


def run_json(result: RunResult) -> dict[str, Any]:
    """The same facts, and the full reports."""
    return {
        "folder": str(result.folder),
        "noise": result.learned.noise.to_json(),
        "labels": fixed_figures(result.learned.fixed),
        "recipes": {name: found.to_json() for name, found in result.evaluations.items()},
        "cost": result.cost.to_json(),
        "skipped": len(result.dataset.skipped),
        "warnings": list(result.warnings),
    }
