"""assay compare: every system on the same data, in one table."""

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.errors import MissingExtraError
from assay.progress import progress_bar

EXAMPLES = (
    "assay compare images/ --noisy noisy.csv --trusted trusted.csv -o out/",
    "assay compare images/ --noisy noisy.csv --trusted trusted.csv -o out/ --systems cnn-1,assay --json",
)


def command(
    images: options.Images,
    /,
    *,
    out: options.RunFolder,
    labels: options.LabelOptions = options.LabelOptions(),
    reading: options.ImageOptions = options.ImageOptions(),
    training: options.TrainingOptions = options.TrainingOptions(),
    systems: str | None = None,
    as_published: bool = False,
    search: bool = False,
    excel_safe: options.ExcelSafe = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    words: options.Words = (),
) -> int:
    """Train the notebook's five systems and assay on the same data, and compare accuracy and cost.

    A system that fails is a row of the table that gives the reason. The exit code is then that of the first
    one that failed.

    Parameters
    ----------
    systems
        Some of histogram, cnn-1, cnn-2, model-1, model-2, assay, with commas between them. Without it: all.
    as_published
        Keep the notebook's bugs that change results.
    search
        Choose settings by grid search on trusted images; all scores are kept.
    """
    from dataclasses import replace

    from assay.notebook.compare import CompareOptions, compare_systems
    from assay.notebook.pictures import are_drawn, write_pictures
    from assay.notebook.systems import TITLES
    from assay.notebook.table import COST, QUALITY, cells, notes

    labels.check_trusted()
    settings = CompareOptions(
        run=replace(training.run_options(reading.read_options(**vars(labels))), excel_safe=excel_safe),
        systems=tuple(TITLES if systems is None else (name.strip() for name in systems.split(","))),
        backbone=training.backbone,
        size=training.size,
        published=as_published,
        search=search,
    )
    log = notifier(quiet)
    with progress_bar(quiet) as progress:
        found = compare_systems(
            images,
            out,
            settings,
            overwrite=overwrite,
            command=("assay", *words),
            notify=log,
            progress=progress,
        )
    # A comparison that was killed while it drew is complete but for its charts.
    if found.computed or not are_drawn(found.folder):
        try:
            write_pictures(found.folder, found.dataset, found.held)
        except MissingExtraError as error:  # the table stands alone
            log(f"no charts were drawn: {error}")
    if as_json:
        show_json(dict(found.record))
    else:
        tables = [
            table(
                ("", *(header for header, _ in columns)),
                [(row["title"], *cells(row, columns)) for row in found.rows],
            )
            for columns in (QUALITY, COST)
        ]
        show("\n\n".join([*tables, "\n".join(notes(found.record))]))
    return found.exit_code or (options.SKIPPED if strict and found.record["skipped"] else 0)
