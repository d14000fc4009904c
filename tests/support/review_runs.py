"""Folders of finished runs, made by hand in a moment, with any names and labels."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from small_runs import draw_image

from assay.data.decisions import DecisionRequest, open_decisions
from assay.data.write import write_json, write_rows
from assay.pipeline.folder import SCHEMA
from assay.pipeline.run_files import HOLDOUT_COLUMNS, LABEL_COLUMNS, OUTLIER_COLUMN
from assay.review.neighbours import Neighbours
from assay.review.run import order_images, read_review_run
from assay.review.session import ReviewSession

N = 40

TITLES = ("ash", "birch", "cedar")


def draw_images(folder: Path, names: Sequence[str]) -> None:
    """An image for each name, its class in turn."""
    generator = np.random.default_rng(0)
    for row, name in enumerate(names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_image(row % 3, generator)).save(target, "PNG")


def write_run(
    folder: Path,
    names: Sequence[str] = tuple(f"{row}.png" for row in range(N)),
    labels: Sequence[str] = TITLES,
    *,
    titles: Sequence[str] = (),
    images: Path | None = None,
) -> Path:
    """Row i is truly of class i mod 3; every fourth has the next class as its noisy label, and is corrected.

    Rows 0 and 1 are trusted, row 2 is held out, row 3 was skipped; the others may be decided.
    """
    rows = np.arange(len(names))
    truth = rows % 3
    noisy = np.where(rows % 4 == 0, (truth + 1) % 3, truth)
    words = np.array(labels, dtype=object)
    confidence = np.round(0.5 + 0.4 * np.random.default_rng(1).random(len(names)), 4)
    special = {0: "trusted", 1: "trusted", 2: "kept", 3: "skipped"}
    action = [special.get(row, "unsure" if confidence[row] < 0.8 else "changed") for row in rows.tolist()]
    columns = [
        list(names),
        words[noisy].tolist(),
        [words[truth[row]] if row < 2 else "" for row in rows.tolist()],
        ["" if row == 3 else words[truth[row]] for row in rows.tolist()],
        confidence.tolist(),
        np.where(noisy == truth, confidence, 0.1).tolist(),
        action,
        ["holdout" if row == 2 else "truncated" if row == 3 else "" for row in rows.tolist()],
        ["" if row == 3 else "0.25" for row in rows.tolist()],
    ]
    (folder / "model").mkdir(parents=True)
    held = [[names[2]], [words[truth[2]]], [words[truth[1]]], ["0.6"], [""]]
    write_rows(folder / "holdout.csv", HOLDOUT_COLUMNS, held)
    write_rows(folder / "labels.csv", (*LABEL_COLUMNS, OUTLIER_COLUMN), columns)
    write_json(folder / "model" / "labels.json", {"labels": list(labels), "titles": list(titles)})
    write_json(folder / "noise.json", {"transition": (np.full((3, 3), 0.1) + 0.7 * np.eye(3)).tolist()})
    stored = {} if images is None else {"images": str(images)}
    (folder / "run.json").write_text(json.dumps({"schema": SCHEMA, "status": "done", **stored}))
    return folder


def write_reviewed_run(folder: Path, images: Path) -> Path:
    """The same with 4.png to 6.png decided by mia: ash, cedar, and skipped."""
    out = write_run(folder, images=images)
    store = open_decisions(out / "decisions.sqlite")
    labels = {"4.png": "ash", "5.png": "cedar", "6.png": None}
    requests = [DecisionRequest(name, label, "birch", 0) for name, label in labels.items()]
    store.decide(requests, who="mia", client="one")
    store.close()
    return out


def open_review(run: Path, strategy: str = "mixed") -> ReviewSession:
    """A review of it by mia; its store is to be closed."""
    found = read_review_run(run)
    facts = (found.noisy, found.proposed, found.confidence, found.is_open)
    order = order_images(*facts, strategy=strategy)
    store = open_decisions(run / "decisions.sqlite")
    return ReviewSession(found, store, order, Neighbours(found, run / "no cache"), "mia")
