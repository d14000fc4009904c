"""assay export: a run's model as one file for another machine, or as a page for a browser."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from assay.cli import options
from assay.cli.console import notifier, show, show_json, table
from assay.errors import UsageError
from assay.progress import progress_bar
from assay.text import interval, megabytes, percent

if TYPE_CHECKING:
    from assay.pipeline.export_run import Exported

EXAMPLES = (
    "assay export out/ -o classifier.onnx",
    "assay export out/ --precision float16 -o classifier.float16.onnx --json",
    "assay export out/ --web page/ --ort onnxruntime-web-1.30.0.tgz",
)

HEADER = ("", "MB", "accuracy, 95 %", "same class", "largest difference", "ms, one image", "ms, 32 images")


def command(
    run: options.Run,
    images: options.RunImages = None,
    /,
    *,
    out: options.Out = None,
    web: Path | None = None,
    ort: Path | None = None,
    precision: Literal["int8", "float16", "float32"] | None = None,
    workers: options.Workers = 2,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a run's model as one small ONNX file, after comparing the two on images.

    Parameters
    ----------
    out
        The ONNX file to write. Its model card goes to the same name with .md added.
    web
        In place of --out: the folder to write a static page to, which labels photos in the browser.
    ort
        With --web: onnxruntime-web, as npm pack onnxruntime-web or npm install wrote it.
    precision
        Number format of the file. Without it: int8, the smallest; with --web float32, the fastest there.
    """
    # Both places are checked before the work.
    if out is not None and web is None and ort is None:
        _check_file(out, run)
        file = out
    elif web is not None and out is None:
        from assay.export.web_page import check_page_folder, read_runtime

        check_page_folder(web)
        file = web / "model.onnx"
        runtime = read_runtime(ort)
    else:
        raise UsageError("expected --out FILE, or --web FOLDER with --ort, got neither or parts of both")

    from assay.data.write import write_bytes_atomic, write_text_atomic
    from assay.pipeline.export_run import export_card, export_run, page_facts
    from assay.pipeline.finished import open_run
    from assay.pipeline.folder import RunFolder

    if "features" in RunFolder(run).record():
        raise UsageError(
            f"{run}: expected the run of images, got one of features, whose model is small as it is: copy "
            f"{run}/model/model.onnx, which any ONNX runtime takes"
        )
    found = open_run(run, images, command="export")
    with progress_bar(quiet) as progress:
        # In a browser float32 is faster than int8 for a large network, and answers as the run's model does.
        kind = precision or ("int8" if web is None else "float32")
        exported = export_run(found, found.images, kind, workers=workers, progress=progress)
    card = file.with_name(f"{file.name}.md")
    log = notifier(quiet)
    if web is not None:
        from assay.export.web_page import write_page

        n_bytes = write_page(web, exported.graph, page_facts(found), runtime)
        log(
            f"{web}: {megabytes(n_bytes)} for a browser; python -m http.server --directory {web}, then "
            "http://localhost:8000"
        )
    else:
        write_bytes_atomic(file, exported.graph)
    # Class names of old folders may not be UTF-8; their bytes stay as they are.
    run_card = (run / "model" / "README.md").read_text(encoding="utf-8", errors="surrogateescape")
    write_text_atomic(card, export_card(file.name, run_card, exported))
    if as_json:
        show_json({"file": str(file), "card": str(card), **exported.to_json()})
    else:
        _show_figures(exported)
    if exported.trained_on:
        log(
            "The model was trained on these images, so they show only how far the files differ from it; its "
            f"accuracy is in {run}/model/README.md."
        )
    return 0


def _check_file(out: Path, run: Path) -> None:
    # A run's own README.md may have the card's name.
    for target in (out, out.with_name(f"{out.name}.md")):
        options.check_file(target)
        options.check_apart(target, run)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out: expected a name ending in .onnx, by which commands know a model, got {out}")


def _show_figures(exported: "Exported") -> None:
    # On images that it was trained on, no share of right ones is the accuracy of the model.
    rows = [
        (
            figures.precision,
            f"{figures.bytes / 1e6:.1f}",
            "–" if exported.trained_on else interval(figures.right, figures.n),
            percent(figures.same_class),
            f"{figures.largest_difference:.4f}",
            f"{figures.milliseconds_one:.1f}",
            f"{figures.milliseconds_batch:.1f}",
        )
        for figures in exported.figures
    ]
    how = f"; int8 by {exported.quantized.how}" if exported.quantized else ""
    show(f"{table(HEADER, rows)}\nn = {exported.figures[0].n:,}{how}")
