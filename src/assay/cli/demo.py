"""assay demo: the whole job in about a minute, on images of digits."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from assay.cli import options
from assay.cli.console import notifier, progress_bar, show, show_json, table
from assay.cli.run import label_counts
from assay.text import percent, percent_range

if TYPE_CHECKING:
    from assay.noise import Interval

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
    out: Annotated[Path, Parameter(name=("--out", "-o"))] = Path("out/demo"),
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
    noise = found.run.noise
    if as_json:
        new_images, labels = (
            {name: share.to_json() for name, share in shares.items()}
            for shares in (found.new_images, found.labels)
        )
        show_json({"noise": noise.to_json(), "new_images": new_images, "labels": labels})
        return 0
    parts = [
        describe(noise),
        _table(f"accuracy on {N_NEW} new images", found.new_images),
        _table("correct labels, among images without a trusted one", found.labels),
        label_counts(found.run.facts),
    ]
    results = f"Results: {out / 'run'}/ with labels.csv, noise.json, evaluation.json, model/."
    show("\n\n".join(parts) + f"\n{results}")
    return 0


def _table(title: str, shares: "Mapping[str, Interval]") -> str:
    rows = [
        (TITLES[name], percent(share.estimate), percent_range(share.low, share.high))
        for name, share in shares.items()
    ]
    return table((title, "", "95 % interval"), rows)
