"""assay run: the whole job, from noisy labels to a measured model."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.errors import GateError
from assay.progress import progress_bar
from assay.text import FEW, interval, megabytes, p_equals, percent_range, share_of

if TYPE_CHECKING:
    from assay.pipeline.dry_run import DryRun

EXAMPLES = (
    "assay run images/ --noisy noisy.csv --trusted trusted.csv -o out/",
    "assay run images.zip --noisy labels.csv --trusted checked.csv -o out/ --json",
    "assay run --features vectors.npy --noisy noisy.csv --trusted trusted.csv -o out/",
    "assay run class_folders/ --trusted checked.csv -o out/ --dry-run",
    "assay run images/ --noisy noisy.csv --trusted trusted.csv --decisions out/decisions.sqlite -o out2/",
)
HEADER = ("accuracy of", "", "95 % interval", "balanced accuracy", "images", "measured on")


def command(
    images: options.SomeImages = None,
    /,
    *,
    features: options.Features = None,
    out: options.RunFolder,
    labels: options.LabelOptions = options.LabelOptions(),
    reading: options.ImageOptions = options.ImageOptions(),
    training: options.TrainingOptions = options.TrainingOptions(),
    scale: options.EngineOptions = options.EngineOptions(),
    decisions: Path | None = None,
    excel_safe: options.ExcelSafe = False,
    overwrite: options.Overwrite = False,
    dry_run: bool = False,
    strict: options.Strict = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    words: options.Words = (),
) -> int:
    """Estimate the label noise, correct the labels, train a model and measure it.

    Parameters
    ----------
    decisions
        Decisions made in assay review (.sqlite, .csv, .json), used as trusted labels.
    dry_run
        Print the plan with its time and disk space, and stop.
    """
    read = reading.read_options(features=features, decisions=decisions, **vars(labels))
    settings = replace(training.run_options(read), excel_safe=excel_safe)
    if dry_run:
        from assay.pipeline.dry_run import dry_run as plan_run

        sample = scale.sample if scale.engine else None
        plan = plan_run(images, out, settings, overwrite=overwrite, notify=notifier(quiet), sample=sample)
        show_json(plan.to_json()) if as_json else show(plan_text(plan, str(out)))
        return 0

    from assay.pipeline.run import run
    from assay.pipeline.run_files import read_facts

    start: Callable[..., object] = run
    if (engine := scale.chosen(settings.workers)) is not None:
        from assay.pipeline.sharded import run_sharded

        start = partial(run_sharded, engine=engine, sample=scale.sample)
    with progress_bar(quiet) as progress:
        start(
            images,
            out,
            settings,
            overwrite=overwrite,
            command=("assay", *words),
            notify=notifier(quiet),
            progress=progress,
        )
    facts = read_facts(out)  # from the files, so that a finished run prints the same again
    show_json(facts) if as_json else show(_text(facts))
    if strict and facts["skipped"]:  # first, as whoever passes --strict waits for it
        return options.SKIPPED
    return GateError.exit_code if facts["better_than_baseline"] is False else 0


def _text(facts: Mapping[str, Any]) -> str:
    from assay.evaluate import balanced_figures
    from assay.pipeline.run_files import FIRST_LABELS
    from assay.pipeline.shown import TITLES, why_not_measured

    rows = []
    for name, title in TITLES.items():
        if (found := facts["systems"].get(name)) is not None:
            share = found["accuracy"]
            ends = percent_range(share["low"], share["high"])
            n = found["n"]
            balanced = interval(balanced_figures(found).to_json()) if n >= FEW else "–"
            rows.append((title, share_of(share["estimate"], n), ends, balanced, f"{n:,}", found["source"]))
    paired = facts["systems"].get("assay", {}).get("paired")
    if paired and facts["systems"]["assay"]["n"] < FEW:
        ours, theirs = (paired["both_right"] + paired[f"only_{one}"] for one in ("second", "first"))
        verdict = (
            f"Of {facts['systems']['assay']['n']} held-out images assay is right on {ours} and the baseline "
            f"on {theirs}: too few to tell how good they are. Add trusted labels."
        )
    elif paired:
        points, low, high = (100 * paired["difference"][name] for name in ("estimate", "low", "high"))
        verdict = (
            f"assay is {abs(points):.1f} points {'better' if points >= 0 else 'worse'} than the baseline "
            f"({low:+.1f} to {high:+.1f}), McNemar {p_equals(paired['p_value'])}."
        )
    elif not rows:
        verdict = (
            f"No trusted label: nothing is measured. {facts['folder']}/plan.csv lists "
            f"{FIRST_LABELS} random images. Decide their labels with "
            f"'assay review {facts['folder']} --strategy random', write them with "
            f"'assay labels {facts['folder']} --policy checked -o checked.csv', and run again with "
            "'--trusted checked.csv'."
        )
    else:
        why = why_not_measured(facts["systems"], facts.get("held_out", 0))
        verdict = f"{why}: the accuracy of this model is not measured."
    model, cost = facts["model"], facts["cost"]
    network = f"{model['architecture']} at {model['size']} px"
    if "width" in model:
        network = f"Features of {model['width']:,} numbers"
    return "\n".join(
        [
            facts["noise"]["summary"],
            label_counts(facts),
            *annotator_counts(facts),
            *(["", table(HEADER, rows)] if rows else []),
            *(["", _by_groups(facts)] if "groups" in facts else []),
            "",
            verdict,
            f"{network}, {cost['model_bytes'] / 1e6:.1f} MB. "
            f"{cost['seconds']:.0f} s, {cost['peak_memory_bytes'] / 2**30:.2f} GiB. "
            f"Results: {facts['folder']}/",
        ]
    )


def _by_groups(facts: Mapping[str, Any]) -> str:
    measured = facts["systems"].get("assay", {}).get("groups", 0)
    held_out = f", {measured:,} of which are in the holdout" if measured else ""
    return f"Splits and intervals are by group: {facts['groups']:,} groups{held_out}."


def label_counts(facts: Mapping[str, Any]) -> str:
    """How many labels were kept, changed and so on, as one line."""
    from assay.correct.result import ACTIONS

    counts, everything = facts["labels"]["counts"], facts.get("everything")
    of = ""
    if everything is not None:
        counts = everything["actions"]
        of = f" of {everything['images']:,} images, {everything['learned_from']:,} of them learned from"
    return f"Labels{of}: {' · '.join(f'{action} {counts.get(action, 0):,}' for action in ACTIONS)}."


def annotator_counts(facts: Mapping[str, Any]) -> list[str]:
    """How many annotators there were, as one line; none without any."""
    if (found := facts.get("annotators")) is None:
        return []
    spam = f"; {found['spam']:,} may be labelling at random" if found["spam"] else ""
    return [f"Annotators: {found['annotators']:,} with {found['labels']:,} labels{spam} (annotators.csv)."]


def plan_text(plan: "DryRun", out: str) -> str:
    """What ``--dry-run`` prints."""
    time = f"{plan.seconds:.0f} s" if plan.seconds < 90 else f"{plan.seconds / 60:.0f} min"
    embedding = (
        f"Features: every image{' and its mirror image' if plan.mirrored else ''}, {plan.backbone} at "
        f"{plan.size} px ({plan.milliseconds_per_image:.1f} ms each, {plan.milliseconds_to_decode:.1f} ms to "
        "decode)."
    )
    lines = [
        f"{plan.images:,} images, {plan.classes:,} classes, {plan.trusted:,} trusted labels",
        f"Trusted labels: {plan.holdout:,} for the holdout, {plan.trusted - plan.holdout:,} for training and "
        "for estimating the noise.",
        embedding if plan.size else "Features: as they are given.",
        plan.fine_tuning,
        f"Results: {out}/" + (" (a part of this run is there already and is not repeated)" * plan.resumes),
        f"Takes about {time}, reads {megabytes(plan.bytes_to_read)} and needs "
        f"{megabytes(plan.cache_bytes)} of cache if nothing is cached.",
    ]
    return "\n".join(line for line in lines if line)
