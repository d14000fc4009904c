"""write_report: report.html and report.json of a finished run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.data.dataset import ImageSource
from assay.data.write import write_json, write_text_atomic
from assay.errors import DataError, UsageError
from assay.pipeline.finished import FinishedRun, open_images, read_finished_run
from assay.report.drawings import read_drawings
from assay.report.facts import KIND, gather, to_json
from assay.report.galleries import Gallery, Picture, choose_galleries, draw_pictures


@dataclass(frozen=True)
class WrittenReport:
    """The two files of a report."""

    page: Path
    """One HTML file that needs nothing beside it."""
    facts: Path
    """The same facts as JSON."""
    page_bytes: int
    notes: tuple[str, ...]
    """What the report lacks, and why."""


def write_report(
    run: Path | str,
    out: Path | str | None = None,
    *,
    images: Path | str | None = None,
    follow_symlinks: bool = False,
) -> WrittenReport:
    """Write what a finished run found as one HTML file, and the same facts as JSON beside it.

    Parameters
    ----------
    run : the folder of the run; one of ``assay compare`` that has the recipe ``assay`` is one too
    out : the HTML file; by default ``report.html`` in that folder. The JSON file has its name, with ``.json``
    images : where the images are, if not where they were for the run; if they are in neither place the
        report has no images and says so
    follow_symlinks : links may leave the folder of images

    Raises
    ------
    DataError : no finished run, files of it that do not fit each other, other images than the run's
    UsageError : a name that does not end in .html, or would replace another JSON file
    MissingExtraError : jinja2 is not installed
    """
    from assay.report.page import draw_page  # jinja2 is part of an extra, and this room is not

    page = Path(run) / "report.html" if out is None else Path(out)
    facts_file = _beside(page)
    finished = read_finished_run(Path(run))
    galleries, pictures, notes = _galleries(
        finished, None if images is None else Path(images), follow_symlinks
    )
    drawings = read_drawings(finished.folder)
    facts = gather(finished, galleries, pictures, drawings, notes)
    text = draw_page(facts, pictures, drawings if facts["drawings"] else ())
    write_text_atomic(page, text)
    write_json(facts_file, to_json(facts))
    return WrittenReport(page, facts_file, len(text.encode()), tuple(facts["notes"]))


def _beside(page: Path) -> Path:
    """The JSON file of a page; a run's own files are never written over."""
    if page.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"--out: expected a name ending in .html, got {page}")
    file = page.with_suffix(".json")
    if file.exists() and not _is_ours(file):
        raise UsageError(
            f"--out: {page} would come with {file.name}, and there is a {file} already that no report wrote; "
            "choose another name"
        )
    return file


def _is_ours(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _galleries(
    run: FinishedRun, images: Path | None, follow_symlinks: bool
) -> tuple[Sequence[Gallery], Mapping[int, Picture | str], tuple[str, ...]]:
    """What to show; without the images nothing, and a note that says so."""
    source, notes = _open(run, images, follow_symlinks)
    if source is None:
        return (), {}, notes
    galleries = choose_galleries(run, int(run.record["settings"]["seed"]))
    rows = [row for one in galleries for row in one.rows]
    return galleries, draw_pictures(source, rows, run.reading.limits), notes


def _open(
    run: FinishedRun, images: Path | None, follow_symlinks: bool
) -> tuple[ImageSource | None, tuple[str, ...]]:
    if images is not None:
        return open_images(run, images, follow_symlinks=follow_symlinks), ()
    advice = "so none is shown; name their place with --images"
    stored = run.stored_place
    if stored is None:
        return None, (f"The run does not say where its images are, {advice}.",)
    try:
        return open_images(run, stored, follow_symlinks=follow_symlinks), ()
    except (DataError, UsageError):
        return None, (f"The images are no longer at {stored}, {advice}.",)
