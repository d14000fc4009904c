"""What a run found, as text for a person: made of the facts that ``--json`` prints."""

from collections.abc import Iterator, Mapping
from typing import Any

from assay.cli.console import table
from assay.correct.result import ACTIONS
from assay.pipeline.dry_run import DryRun
from assay.pipeline.measure import TITLES, why_not_measured
from assay.text import percent, percent_range

Facts = Mapping[str, Any]
"""See ``systems.outputs.read_facts``."""


def run_text(facts: Facts) -> str:
    """The table that ``assay run`` prints."""
    counts = " · ".join(f"{action} {facts['labels']['counts'][action]:,}" for action in ACTIONS)
    return "\n".join(
        [
            facts["noise"]["summary"],
            f"Labels: {counts}.",
            "",
            table(("accuracy of", "", "95 % interval", "images", "measured on"), list(_accuracies(facts))),
            "",
            _comparison(facts),
            _costs(facts),
        ]
    )


def _accuracies(facts: Facts) -> Iterator[tuple[str, ...]]:
    for name, title in TITLES.items():
        if name in facts["systems"]:
            found = facts["systems"][name]
            accuracy = found["accuracy"]
            yield (
                title,
                percent(accuracy["estimate"]),
                percent_range(accuracy["low"], accuracy["high"]),
                f"{found['n']:,}",
                found["source"],
            )


def _comparison(facts: Facts) -> str:
    if "assay" not in facts["systems"]:
        why = why_not_measured(facts["systems"], facts.get("held_out", 0))
        return f"{why}: the accuracy of this very model is not measured."
    paired = facts["systems"]["assay"]["paired"]
    difference, p = paired["difference"], paired["p_value"]
    points, low, high = (100 * difference[name] for name in ("estimate", "low", "high"))
    word = "better" if points >= 0 else "worse"
    return (
        f"assay is {abs(points):.1f} points {word} than the baseline ({low:+.1f} to {high:+.1f}), "
        f"McNemar p {'< 1e-300' if p < 1e-300 else f'= {p:.2g}'}."
    )


def _costs(facts: Facts) -> str:
    model, cost = facts["model"], facts["cost"]
    return (
        f"{model['architecture']} at {model['size']} px, {cost['model_bytes'] / 1e6:.1f} MB. "
        f"{cost['seconds']:.0f} s, {cost['peak_memory_bytes'] / 2**30:.2f} GiB. "
        f"Results: {facts['folder']}/"
    )


def plan_text(plan: DryRun, out: str) -> str:
    """What ``assay run --dry-run`` prints."""
    begun = f"{out} holds this run already, so less of it is left to do\n" if plan.resumes else ""
    return (
        f"{plan.images:,} images, {plan.classes:,} classes, {plan.trusted:,} trusted labels\n"
        f"would hold out {plan.holdout:,} of them, estimate the noise from {plan.trusted - plan.holdout:,}, "
        f"embed every image{' and its mirror' if plan.mirrored else ''} with\n"
        f"{plan.backbone} at {plan.size} px ({plan.milliseconds_per_image:.1f} ms each, "
        f"{plan.milliseconds_to_decode:.1f} ms to decode), fix the labels, train, measure, and write {out}/\n"
        f"{plan.fine_tuning}{chr(10) if plan.fine_tuning else ''}"
        f"{begun}about {_duration(plan.seconds)} and {plan.cache_bytes / 1e6:,.0f} MB of cache "
        "if nothing is cached"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
