"""assay noise: how wrong are the labels? Reads labels only, opens no image."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from assay.cli import flags
from assay.cli.console import notify, show, table
from assay.cli.groups import with_flags
from assay.text import percent, percent_range

if TYPE_CHECKING:
    from assay.noise import Noise

EXAMPLES = (
    "assay noise images/ --noisy noisy.csv --trusted trusted.csv",
    "assay noise class_folders/ --trusted trusted.csv --json",
)


@with_flags
def noise_command(
    images: flags.Images,
    labels: flags.LabelFlags,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> int:
    """Say how wrong the labels are, in seconds; opens no image."""
    options = labels.options()

    from assay.data.read import read_dataset
    from assay.noise import check_representative, describe, estimate_noise

    dataset = read_dataset(images, options)
    for note in () if quiet else dataset.notes:  # before a refusal, which they may explain
        notify(note)
    names = dataset.titles or dataset.classes
    found = estimate_noise(dataset.noisy, dataset.trusted, len(names), classes=names, seed=seed)
    alike = check_representative(None, dataset.noisy, dataset.trusted, classes=names, seed=seed)
    if not quiet:
        for line in (*found.notes, *alike.warnings):
            notify(f"warning: {line}")
    if as_json:
        facts = {**found.to_json(), "representative": alike.to_json(), "summary": describe(found)}
        show(json.dumps(facts, indent=1))
    else:
        show(describe(found))
        show("")
        show(table(("true class", "wrong", "95 % interval", "pairs"), list(_rows(found))))
    return 0


def _rows(noise: "Noise") -> Iterator[tuple[str, ...]]:
    pairs = noise.counts.sum(axis=1).tolist()
    for name, share, n in zip(noise.classes, noise.wrong_share_by_class, pairs, strict=True):
        yield name, percent(share.estimate), percent_range(share.low, share.high), f"{n:,}"
