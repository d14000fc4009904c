"""assay demo: the whole job in about a minute, on images that it draws."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from assay.cli import flags
from assay.cli.console import notify, progress_bar, show, table
from assay.cli.groups import with_flags
from assay.text import percent, percent_range

if TYPE_CHECKING:
    from assay.noise import Interval
    from assay.pipeline.demo import DemoResult

EXAMPLES = ("assay demo", "assay demo --backbone tiny -o digits/")

TITLES = {
    "histogram": "baseline: colour histograms",
    "noisy-only": "trusting the noisy labels",
    "assay": "assay",
    "noisy": "given labels",
    "corrected": "fixed by assay",
}


@with_flags
def demo_command(
    out: Annotated[Path, flags.flag("--out", "-o", metavar="FOLDER", help="For images and results.")] = Path(
        "out/demo"
    ),
    backbone: flags.Backbone = "tf_efficientnet_lite0",
    size: flags.Size = 96,
    seed: flags.Seed = 0,
    cache: flags.Cache = None,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> int:
    """Spoil the labels of 1,797 digits and run the whole job, offline."""
    from assay.pipeline.demo import DIGITS, N_NEW, NOISE, TRUSTED_SHARE, run_demo
    from assay.pipeline.options import RunOptions, default_cache

    if not quiet:
        known = DIGITS - N_NEW
        notify(
            f"{known:,} digits to learn from, {NOISE:.0%} of their labels wrong, "
            f"{int(TRUSTED_SHARE * known):,} trusted; {N_NEW:,} new ones to predict"
        )
    options = RunOptions(backbone=backbone, size=size, seed=seed, cache=cache or default_cache())
    with progress_bar(quiet) as progress:
        found = run_demo(out, options, progress=progress)
    show(json.dumps(_as_json(found), indent=1) if as_json else _as_text(found, out))
    return 0


def _as_text(found: "DemoResult", out: Path) -> str:
    from assay.noise import describe

    counts = " · ".join(f"{action} {n:,}" for action, n in found.run.facts["labels"]["counts"].items())
    return "\n".join(
        [
            describe(found.run.noise),
            "",
            _rows("accuracy on 500 new images", found.new_images),
            "",
            _rows("right labels, of those not trusted", found.labels),
            "",
            f"Labels: {counts}.",
            f"Look into {out / 'run'}/: labels.csv, noise.json, evaluation.json, model/.",
        ]
    )


def _rows(title: str, found: Mapping[str, "Interval"]) -> str:
    rows = [
        (TITLES[name], percent(share.estimate), percent_range(share.low, share.high))
        for name, share in found.items()
    ]
    return table((title, "", "95 % interval"), rows)


def _as_json(found: "DemoResult") -> dict[str, Any]:
    return {
        "noise": found.run.noise.to_json(),
        "new_images": {name: share.to_json() for name, share in found.new_images.items()},
        "labels": {name: share.to_json() for name, share in found.labels.items()},
    }
