"""assay demo: the whole job in about a minute, on images of digits."""

from pathlib import Path
from typing import Annotated

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.cli.run import label_counts
from assay.progress import progress_bar
from assay.text import percent, percent_range

EXAMPLES = ("assay demo", "assay demo --backbone tiny -o digits/")

TITLES = {
    "histogram": "baseline: colour histograms",
    "noisy-only": "trained on the noisy labels as they are",
    "assay": "assay",
    "noisy": "noisy labels",
    "corrected": "labels corrected by assay",
}


def command(
    *,
    out: Annotated[Path, options.OUT] = Path("out/demo"),
    backbone: options.Backbone = None,
    size: options.Size = None,
    seed: options.Seed = 0,
    cache: options.Cache = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Make most labels of 1,797 images of digits wrong, then run the whole job on them, offline.

    Parameters
    ----------
    out
        Folder for the images and the results.
    """
    from assay.noise import describe
    from assay.pipeline.demo import DIGITS, N_NEW, NOISE, TRUSTED_SHARE, run_demo
    from assay.pipeline.options import RunOptions, default_cache

    known = DIGITS - N_NEW
    notifier(quiet)(
        f"{known:,} images for training, {NOISE:.0%} of their labels wrong, "
        f"{int(TRUSTED_SHARE * known):,} trusted labels; {N_NEW:,} new images to predict"
    )
    settings = RunOptions(
        backbone=backbone or "tf_efficientnet_lite0",
        size=size or 96,
        seed=seed,
        cache=cache or default_cache(),
    )
    with progress_bar(quiet) as progress:
        found = run_demo(out, settings, progress=progress)
    if as_json:
        new_images, labels = (
            {name: share.to_json() for name, share in shares.items()}
            for shares in (found.new_images, found.labels)
        )
        show_json({"noise": found.run.noise.to_json(), "new_images": new_images, "labels": labels})
        return 0
    parts = [describe(found.run.noise)]
    for title, shares in (
        (f"accuracy on {N_NEW} new images", found.new_images),
        ("correct labels, among images without a trusted one", found.labels),
    ):
        rows = [
            (TITLES[name], percent(share.estimate), percent_range(share.low, share.high))
            for name, share in shares.items()
        ]
        parts.append(table((title, "", "95 % interval"), rows))
    results = f"Results: {out / 'run'}/ with labels.csv, noise.json, evaluation.json, model/."
    show("\n\n".join([*parts, label_counts(found.run.facts)]) + f"\n{results}")
    return 0
