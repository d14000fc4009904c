"""assay noise: how many labels are wrong, from the labels alone."""

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.text import percent, percent_range

EXAMPLES = (
    "assay noise images/ --noisy noisy.csv --trusted trusted.csv",
    "assay noise class_folders/ --trusted trusted.csv --json",
)


def command(
    images: options.SomeImages = None,
    /,
    *,
    features: options.Features = None,
    labels: options.LabelOptions = options.LabelOptions(),
    reading: options.ImageOptions = options.ImageOptions(),
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Estimate how many labels are wrong, in seconds, without opening an image."""
    settings = reading.read_options(features=features, **vars(labels))

    from assay.data.read import read_dataset
    from assay.noise import check_representative, describe, estimate_noise
    from assay.types import UNKNOWN

    log = notifier(quiet)
    dataset = read_dataset(images, settings)
    for note in dataset.notes:  # before a refusal, which they may explain
        log(note)
    dataset.check_noisy()
    if (dataset.trusted == UNKNOWN).all():  # a manifest may have them
        labels.check_trusted()
    names = dataset.titles or dataset.classes
    noise = estimate_noise(
        dataset.noisy, dataset.trusted, len(names), classes=names, seed=seed, groups=dataset.groups
    )
    sample = check_representative(
        None, dataset.noisy, dataset.trusted, classes=names, seed=seed, groups=dataset.groups
    )
    for line in (*noise.notes, *sample.warnings):
        log(f"warning: {line}")
    if as_json:
        show_json({**noise.to_json(), "representative": sample.to_json(), "summary": describe(noise)})
        return 0
    of = noise.counts.sum(axis=1)
    wrong = of - noise.counts.diagonal()
    rows = [
        (name, f"{bad:,} of {n:,}", percent_range(share.low, share.high), percent(share.estimate))
        for name, bad, n, share in zip(
            noise.classes, wrong.tolist(), of.tolist(), noise.wrong_share_by_class, strict=True
        )
    ]
    how = (
        "that of all classes, since the test found no difference"
        if noise.form == "symmetric"
        else "the count drawn towards the average of all classes, the more so the fewer images it has"
    )
    show(
        f"{describe(noise)}\n\n{table(('true class', 'wrong', '95 % interval', 'estimate'), rows)}\n\n"
        f"Estimate of a class: {how}.\nassay run gives a somewhat different rate: it leaves the held-out "
        "labels out, and adds what its predictions say of all images."
    )
    return 0
