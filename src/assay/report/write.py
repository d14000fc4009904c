"""write_report: report.html and report.json of a finished run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.place import Place, place_of
from assay.data.write import write_json, write_text_atomic
from assay.errors import DataError, UsageError
from assay.pipeline.finished import open_images, read_finished_run
from assay.report.facts import KIND, choose_galleries, choose_groups, draw_pictures, gather, to_json


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
    images: Place | str | None = None,
    follow_symlinks: bool = False,
    comparison: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> WrittenReport:
    """Write what a finished run found as one HTML file, and the same facts as JSON beside it.

    Parameters
    ----------
    run : the folder of the run
    out : the HTML file; by default ``report.html`` in that folder. The JSON file has the same name, with
        ``.json``
    images : where the images are, if they moved since the run; a report of a run whose images are gone has
        none and says so
    follow_symlinks : links may leave the folder of images
    comparison, notes : of the systems in the same folder, see ``notebook.table.comparison_of``

    Raises
    ------
    DataError : no finished run, files of it that do not fit each other, other images than the run's
    UsageError : a name that does not end in .html, or would replace another JSON file
    MissingExtraError : jinja2 or matplotlib is not installed
    """
    from assay.report.page import draw_page  # jinja2 is part of an extra, and this module is not

    page = Path(run) / "report.html" if out is None else Path(out)
    facts_file = _beside(page)
    finished = read_finished_run(Path(run))
    place, source, missing = finished.stored_place if images is None else place_of(images), None, []
    try:
        if place is not None:
            source = open_images(finished, place, follow_symlinks=follow_symlinks)
    except (DataError, UsageError):
        if images is not None:
            raise
    if source is None:
        where = "run.json has no place of images" if place is None else f"The images are no longer at {place}"
        missing.append(f"{where}, so none is shown; name their place with --images")
    galleries = choose_galleries(finished, int(finished.record["settings"]["seed"])) if source else ()
    groups = choose_groups(finished) if source else ()
    rows = [row for one in (*galleries, *groups) for row in one.rows]
    folder = place.resolve() if isinstance(place, Path) and place.is_dir() else None

    def file_of(row: int) -> str:
        # Absolute, so that the page may lie anywhere; names may hold anything, so they are quoted.
        file = folder / finished.names[row] if folder else None
        return file.as_uri() if file and file.is_file() else ""

    pictures = draw_pictures(source, rows, finished.reading.limits, file_of) if source else {}
    facts = gather(finished, galleries, groups, pictures, comparison, [*missing, *notes])
    text = draw_page(facts, pictures, comparison)
    write_text_atomic(page, text)
    write_json(facts_file, to_json(facts))
    return WrittenReport(page, facts_file, len(text.encode()), tuple(facts["notes"]))


def _beside(page: Path) -> Path:
    """The JSON file of a page; a file that no report wrote is never replaced."""
    if page.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"--out: expected a name ending in .html, got {page}")
    file = page.with_suffix(".json")
    if not file.exists():
        return file
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise UsageError(
            f"--out: {page} comes with {file.name}, and {file} exists and is no report; choose another name"
        )
    return file
