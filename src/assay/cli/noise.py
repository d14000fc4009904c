"""assay noise: how wrong are the labels? Reads labels only, opens no image."""

import json

from assay.cli import flags
from assay.cli.console import say, table
from assay.cli.reading import read_options


def noise_command(
    images: flags.Images,
    trusted: flags.Trusted = None,
    noisy: flags.Noisy = None,
    classes: flags.Classes = None,
    path_col: flags.PathColumn = None,
    label_col: flags.LabelColumn = None,
    duplicates: flags.Duplicates = "refuse",
    class_map: flags.ClassMap = None,
    allow_new_classes: flags.NewClasses = False,
    normalize_labels: flags.Normalize = False,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    r"""How wrong the labels are, from the images that have both kinds; in seconds.

    \b
    assay noise images/ --noisy noisy.csv --trusted trusted.csv
    """
    from assay._errors import UsageError
    from assay.data.read import read_dataset
    from assay.estimate import check_representative, describe, estimate_noise

    if trusted is None:
        raise UsageError("expected --trusted with labels that you checked, to compare the noisy ones with")
    options = read_options(
        noisy=noisy,
        trusted=trusted,
        classes=classes,
        path_column=path_col,
        label_column=label_col,
        duplicates=duplicates,
        class_map=class_map,
        allow_new_classes=allow_new_classes,
        normalize_labels=normalize_labels,
    )
    dataset = read_dataset(images, options)
    names = dataset.titles or dataset.classes
    found = estimate_noise(dataset.given, dataset.trusted, len(names), classes=names)
    representative = check_representative(None, dataset.given, dataset.trusted, classes=names)
    if not quiet:
        for note in (*dataset.notes, *found.notes, *representative.warnings):
            say(note)
    if as_json:
        print(json.dumps({**found.to_json(), "representative": representative.to_json()}, indent=1))
        return
    print(describe(found))
    rows = [
        (
            str(name),
            f"{100 * share.estimate:.1f} %",
            f"{100 * share.low:.1f} to {100 * share.high:.1f}",
            f"{int(n):,}",
        )
        for name, share, n in zip(names, found.wrong_share_by_class, found.counts.sum(axis=1), strict=True)
    ]
    print("\n" + table(("true class", "wrong", "95 % interval", "pairs"), rows))
