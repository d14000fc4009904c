"""assay audit: copies, leaks, off-topic images, images without information, classes that are confused."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli import flags
from assay.cli.console import notify, progress_bar, show, table
from assay.cli.endings import SKIPPED
from assay.cli.groups import with_flags
from assay.cli.typed import typed
from assay.errors import UsageError
from assay.text import percent

if TYPE_CHECKING:
    from assay.pipeline.audit import Audited
    from assay.types import Progress

EXAMPLES = (
    "assay audit out/",
    "assay audit out/ moved_images/ --json",
    "assay audit images/ --noisy noisy.csv -o audit/",
)

SHOWN = 5
"""Rows of a kind that are printed; the files have all."""


@dataclass(frozen=True)
class AuditLabels(flags.LabelFlags):
    """What the labels of images are, if there are any."""

    trusted: Annotated[
        Path | None,
        flags.flag("--trusted", metavar="FILE", help="Checked labels of a few images, if there are any."),
    ] = None


@dataclass(frozen=True)
class LookFlags:
    """How to look at images."""

    backbone: flags.Backbone = "tf_efficientnet_lite2"
    size: flags.Size = 160
    dtype: flags.Dtype = "auto"
    workers: flags.Workers = 2
    cache: flags.Cache = None
    share: Annotated[
        float,
        flags.flag(
            "--share",
            metavar="P",
            min=0.00001,
            max=0.5,
            help="Share of the good images that may be called off topic by mistake.",
        ),
    ] = 0.001
    seed: flags.Seed = 0

    @property
    def place(self) -> Path:
        """The cache."""
        from assay.pipeline.options import default_cache

        return self.cache or default_cache()


Place = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|IMAGES",
        help="A finished run, which has its labels and features; or images, with flags for both.",
    ),
]

OF_A_RUN = {"follow_symlinks", "workers", "cache", "share", "seed"}
"""Parameters of the groups that a run may be audited with; its labels and features are its own."""


@with_flags
def audit_command(
    place: Place,
    labels: AuditLabels,
    look: LookFlags,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="[IMAGES]", help="Where the images of RUN are, if they were moved."),
    ] = None,
    out: Annotated[
        Path | None,
        flags.flag("--out", "-o", metavar="FOLDER", help="Folder for the files; by default the run's."),
    ] = None,
    strict: flags.Strict = False,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> int:
    """Find copies, leaks, conflicting labels, off-topic and empty images."""
    from assay.data.write import make_folder
    from assay.pipeline.audit import write_audit

    is_run = (place / "run.json").is_file()
    if is_run:
        _check_flags(place)
    elif images is not None:
        raise UsageError(
            f"{place}: expected the folder of a run before IMAGES, got none; give one place only"
        )
    if (folder := out or (place if is_run else None)) is not None:
        make_folder(folder)
    with progress_bar(quiet) as progress:
        audited = (
            _audit_run(place, images, look, progress, follow_symlinks=labels.follow_symlinks)
            if is_run
            else _audit_images(place, labels, look, progress, quiet)
        )
    if folder is not None:
        write_audit(audited, folder)
    show(json.dumps(audited.to_json(), indent=1) if as_json else _text(audited.to_json(), folder))
    return SKIPPED if strict and audited.dataset.skipped else 0


def _check_flags(run: Path) -> None:
    """UsageError for flags of images that the command was given beside a run."""
    of_images = {field.name for group in (AuditLabels, LookFlags) for field in fields(group)} - OF_A_RUN
    if wrong := typed(of_images):
        raise UsageError(
            f"{', '.join(wrong)}: expected with images, got the run {run}, which has its own labels and "
            "features; audit it without, or the images themselves"
        )


def _audit_images(
    place: Path, labels: AuditLabels, look: LookFlags, progress: "Progress", quiet: bool
) -> "Audited":
    from assay.data.read import read_dataset
    from assay.embed.backbone import load_backbone
    from assay.embed.images import embed_images
    from assay.pipeline.audit import audit_dataset

    dataset = read_dataset(place, labels.reading())
    for note in () if quiet else dataset.notes:
        notify(note)
    backbone = load_backbone(look.backbone, look.place, size=look.size, dtype=look.dtype)
    features = embed_images(dataset, backbone, look.place, workers=look.workers, progress=progress)
    return audit_dataset(dataset, features, share=look.share, seed=look.seed)


def _audit_run(
    place: Path, images: Path | None, look: LookFlags, progress: "Progress", *, follow_symlinks: bool
) -> "Audited":
    from assay.pipeline.audit import audit_dataset, run_digests
    from assay.pipeline.finished import stored_features
    from assay.review.run import read_review_run

    run = read_review_run(place, images, follow_symlinks=follow_symlinks, command="audit")
    dataset, features = stored_features(run, run.images, look.place, workers=look.workers, progress=progress)
    return audit_dataset(
        dataset,
        features,
        holdout=run.held_out,
        corrected=run.proposed,
        run=run_digests(run.record),
        share=look.share,
        seed=look.seed,
    )


def _text(facts: dict[str, Any], folder: Path | None) -> str:
    from assay.correct.audit import KINDS

    counts = facts["counts"]
    rows = [(words, f"{counts[kind]:,}", _best(facts["findings"][kind])) for kind, words in KINDS.items()]
    why = ", ".join(f"{n:,} {reason}" for reason, n in facts["skipped_because"].items())
    skipped = f"{facts['skipped']:,} skipped" + (f": {why}" if why else "")
    lines = [
        f"{facts['images'] - facts['skipped']:,} images looked at, {skipped}.",
        "",
        table(("found", "", "first"), rows),
        "",
        *_image_warnings(facts),
    ]
    if folder is not None:
        lines.append(f"Every finding: {folder}/audit.csv")
    return "\n".join(lines)


def _best(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    others = found[0]["others"]
    more = f" = {others[0]}" if others else ""
    return f"{found[0]['file']}{more}" + (f" and {len(others) - 1:,} more" if len(others) > 1 else "")


def _image_warnings(facts: dict[str, Any]) -> Iterator[str]:
    if facts["redundant"]:
        line = f"{facts['redundant']:,} images could go if one of each picture stayed"
        near = facts["counts"]["near_duplicates"]
        yield f"{line}: look first, near copies can be strangers." if near else f"{line}."
    yield _outliers(facts["outliers"])
    for title, key in (("Labels confuse", "confused_labels"), ("Images look alike", "look_alikes")):
        pairs = [pair for pair in facts[key] if pair["unusual"]]
        if pairs:
            shown = ", ".join(
                f"{' and '.join(pair['classes'])} ({percent(pair['share'])})" for pair in pairs[:SHOWN]
            )
            yield f"{title}: {shown}."


def _outliers(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "Too few images to tell which are off topic."
    trusted = facts["calibrated_on"]
    source = f"measured on {trusted:,} trusted images" if trusted else "extrapolated"
    return (
        f"Off topic: {facts['found']:,}; {facts['expected_if_all_belong']:.0f} would be if all images belong "
        f"(a false alarm in {1 / facts['false_alarm_share']:,.0f}, {source})."
    )
