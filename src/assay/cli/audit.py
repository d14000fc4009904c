"""assay audit: duplicates, leaks, outliers, images without information, classes that are confused."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.data.place import Place
from assay.errors import UsageError
from assay.progress import progress_bar
from assay.text import cut, percent

if TYPE_CHECKING:
    from assay.pipeline.audit import Audited

EXAMPLES = (
    "assay audit out/",
    "assay audit out/ moved_images/ --json",
    "assay audit images/ --noisy noisy.csv -o audit/",
)

N_SHOWN = 5
"""Pairs of classes that are printed; the files have all."""


def command(
    place: Annotated[
        Place,
        options.PLACE,
        Parameter(
            name="RUN|IMAGES",
            help="A finished run, with its own labels and features; or images, with options for both.",
        ),
    ],
    images: options.RunData = None,
    /,
    *,
    labels: options.LabelOptions = options.LabelOptions(),
    reading: options.ImageOptions = options.ImageOptions(),
    backbone: options.Backbone = None,
    size: options.Size = None,
    dtype: options.Dtype = "auto",
    share: Annotated[float, Parameter(validator=Number(gte=0.00001, lte=0.5))] = 0.001,
    seed: options.Seed = 0,
    out: options.Out = None,
    excel_safe: options.ExcelSafe = False,
    cache: options.Cache = None,
    workers: options.Workers = 2,
    strict: options.Strict = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    words: options.Words = (),
) -> int:
    """Find duplicates, leaks, conflicting labels, outliers and images without information.

    Parameters
    ----------
    share
        Share of the good images that may wrongly be reported as outliers.
    out
        Folder for the files. Without it: the run's folder, or none for images.
    """
    from assay.data.read import read_dataset
    from assay.data.write import make_folder
    from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE, load_backbone
    from assay.embed.images import embed_images
    from assay.pipeline.audit import audit_dataset, run_digests, write_audit
    from assay.pipeline.finished import open_run, stored_features
    from assay.pipeline.options import default_cache

    finished = place if isinstance(place, Path) and (place / "run.json").is_file() else None
    if finished is not None:
        _refuse_image_options(finished, words)
    elif images is not None:
        raise UsageError(f"{place}: expected the folder of a run before IMAGES, got none; give one place")
    folder = out or finished
    if folder is not None:
        make_folder(folder)  # before minutes of work, of which it would lose the results
    cache = cache or default_cache()
    with progress_bar(quiet) as progress:
        if finished is not None:
            follow = reading.follow_symlinks
            run = open_run(finished, images, follow_symlinks=follow, command="audit", features=True)
            # No image is decoded: the run has kept its features.
            dataset, features = stored_features(run, run.images, cache, workers=workers, progress=progress)
            audited = audit_dataset(
                dataset,
                features,
                holdout=run.held_out,
                corrected=run.proposed,
                run=run_digests(run.record),
                share=share,
                seed=seed,
            )
        else:
            dataset = read_dataset(place, reading.read_options(**vars(labels)))
            for note in dataset.notes:  # before the work: they may show that it is in vain
                notifier(quiet)(note)
            network = load_backbone(
                backbone or DEFAULT_BACKBONE, cache, size=size or DEFAULT_SIZE, dtype=dtype
            )
            features = embed_images(dataset, network, cache, workers=workers, progress=progress)
            audited = audit_dataset(dataset, features, share=share, seed=seed)
    if folder is not None:
        write_audit(audited, folder, excel_safe=excel_safe)
    show_json(audited.to_json()) if as_json else show(_text(audited, folder))
    return options.SKIPPED if strict and audited.dataset.skipped else 0


def _refuse_image_options(run: Path, words: tuple[str, ...]) -> None:
    # A run is audited with what it was made from; an option that is dropped in silence would mislead.
    names = {field.name for group in (options.LabelOptions, options.ImageOptions) for field in fields(group)}
    names = (names | {"backbone", "size", "dtype"}) - {"follow_symlinks"}
    refused = {f"--{name.replace('_', '-').replace('column', 'col')}" for name in names}
    if wrong := [flag for flag in options.flags(words) if flag in refused]:
        raise UsageError(
            f"{', '.join(wrong)}: expected with images, got the run {run}, which has its own labels and "
            "features; leave the option out, or audit the images themselves"
        )


def _text(audited: "Audited", folder: Path | None) -> str:
    from assay.correct.audit import KINDS

    facts = audited.to_json()
    rows = []
    for kind, title in KINDS.items():
        first = ""
        for finding in facts["findings"][kind][:1]:
            others = finding["others"]
            more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
            first = finding["file"] + (f" = {others[0]}{more}" if others else "")
        rows.append((title, f"{facts['counts'][kind]:,}", first))
    why = ", ".join(f"{n:,} {reason}" for reason, n in facts["skipped_because"].items())
    skipped = f"{facts['skipped']:,} skipped" + (f": {why}" if why else "")
    lines = [f"{facts['images'] - facts['skipped']:,} images audited, {skipped}.", ""]
    lines += [table(("found", "", "first"), rows), ""]
    if facts["redundant"]:
        caution = "; check them first: near-duplicates may be false positives"
        near = caution if facts["counts"]["near_duplicates"] else ""
        lines.append(f"{facts['redundant']:,} images are redundant and could be removed{near}.")
    if (outliers := facts["outliers"]) is None:
        lines.append("There are too few images to detect outliers.")
    else:
        trusted = outliers["calibrated_on"]
        source = f"measured on {trusted:,} trusted images" if trusted else "extrapolated"
        lines.append(
            f"Outliers: {outliers['found']:,}; {outliers['expected_if_all_belong']:.0f} would be expected if "
            f"all images belong (one false alarm in {1 / outliers['false_alarm_share']:,.0f}, {source})."
        )
    for title, key in (("Often confused labels", "confused_labels"), ("Similar images", "look_alikes")):
        pairs = [pair for pair in facts[key] if pair["unusual"]][:N_SHOWN]
        named = [f"{' and '.join(map(cut, pair['classes']))} ({percent(pair['share'])})" for pair in pairs]
        if named:
            lines.append(f"{title}: {', '.join(named)}.")
    if folder is not None:
        lines.append(f"All findings: {folder}/audit.csv")
    return "\n".join(lines)
