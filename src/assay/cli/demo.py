"""assay demo: the whole job in about a minute, on images that it draws."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli import flags
from assay.cli.console import percent, progress_bar, say, table

if TYPE_CHECKING:
    from assay.recipes.demo import DemoResult

TITLES = {
    "histogram": "baseline: colour histograms",
    "noisy-only": "trusting the noisy labels",
    "assay": "assay",
    "given": "given labels",
    "fixed": "fixed by assay",
}


def demo_command(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for images and results.")] = Path(
        "out/demo"
    ),
    backbone: flags.Backbone = "tf_efficientnet_lite0",
    size: flags.Size = 96,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Draw 1,797 digits, spoil 60 % of their labels, trust a fifth, and run the whole job, offline."""
    from assay.recipes.demo import run_demo
    from assay.recipes.options import RunOptions

    if not quiet:
        say("1,297 digits to learn from, 60 % of their labels wrong, 259 trusted; 500 new ones to predict")
    with progress_bar(quiet) as progress:
        found = run_demo(out, RunOptions(backbone=backbone, size=size, seed=seed), progress=progress)
    print(json.dumps(_as_json(found), indent=1) if as_json else _as_text(found, out))


def _as_text(found: "DemoResult", out: Path) -> str:
    from assay.estimate import describe

    counts = " · ".join(f"{action} {n:,}" for action, n in found.run.learned.fixed.counts.items())
    return "\n".join(
        [
            describe(found.run.learned.noise),
            "",
            _rows("accuracy on 500 new images", found.new_images),
            "",
            _rows("right labels, of those not trusted", found.labels),
            "",
            f"Labels: {counts}.",
            f"Look into {out / 'run'}/: labels.csv, noise.json, evaluation.json, model/.",
        ]
    )


def _rows(title: str, found: dict[str, Any]) -> str:
    rows = [
        (TITLES[name], percent(share.estimate), f"{100 * share.low:.1f} to {100 * share.high:.1f}")
        for name, share in found.items()
    ]
    return table((title, "", "95 % interval"), rows)


def _as_json(found: "DemoResult") -> dict[str, Any]:
    return {
        "noise": found.run.learned.noise.to_json(),
        "new_images": {name: share.to_json() for name, share in found.new_images.items()},
        "labels": {name: share.to_json() for name, share in found.labels.items()},
    }
