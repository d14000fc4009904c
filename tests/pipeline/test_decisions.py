"""A run that learns from what was decided in a review."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
from small_runs import CLASSES, write_labels

from assay.data.write import write_rows
from assay.errors import LabelError, OtherRunError
from assay.pipeline.export_run import _measured_rows
from assay.pipeline.finished import open_images, read_finished_run, stored_features
from assay.pipeline.run import run
from assay.types import UNKNOWN

ROWS = (1, 3, 5, 7, 9, 11)
"""Images without a trusted label."""


@pytest.fixture
def decided(small_data, options, tmp_path):
    """The options of the finished run, with six decisions that are all right."""
    file = tmp_path / "decisions.csv"
    names = [f"{row}.png" for row in ROWS]
    write_rows(file, ("file", "label"), [names, [CLASSES[label] for label in small_data.truth[[*ROWS]]]])
    return replace(options, read=replace(options.read, decisions=file))


def rows_of(out) -> list[dict[str, str]]:
    with (out / "labels.csv").open() as file:
        return [*csv.DictReader(file)]


def test_decisions_are_relied_on(small_data, decided, tmp_path):
    """In labels.csv they are trusted labels with their reason, and the record has their digest."""
    run(small_data.images, tmp_path / "out", decided)
    rows = rows_of(tmp_path / "out")
    for row in ROWS:
        right = CLASSES[small_data.truth[row]]
        assert (rows[row]["trusted_label"], rows[row]["corrected_label"], rows[row]["confidence"]) == (
            right,
            right,
            "1.0",
        )
        assert (rows[row]["action"], rows[row]["reason"]) == ("trusted", "decided")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["data"]["decided"], len(record["data"]["decisions"])) == (6, 64)


def test_no_figure_counts_them(finished, small_data, decided, tmp_path):
    """Picked images are no sample: holdout, noise and all that is counted rest on the trusted file alone."""
    result = run(small_data.images, tmp_path / "out", decided)
    before = finished.result
    assert (tmp_path / "out" / "noise.json").read_bytes() == (finished.out / "noise.json").read_bytes()
    for name, found in result.evaluation.items():
        assert found.n == before.evaluation[name].n, name
    holdout = [row["file"] for row in rows_of(tmp_path / "out") if row["reason"] == "holdout"]
    assert holdout == [row["file"] for row in rows_of(finished.out) if row["reason"] == "holdout"]


def test_the_card_tells_them_apart(small_data, decided, tmp_path):
    """They are no trusted labels of the file, neither there nor where an export is tried."""
    run(small_data.images, tmp_path / "out", decided)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    words = "96 with a trusted label\noutside the holdout, 6 decided by a person."
    assert words in card
    rows, learned_from = _measured_rows(read_finished_run(tmp_path / "out"))
    assert learned_from
    assert len(rows) == 96
    assert not {*rows} & {*ROWS}


def test_they_teach(finished, small_data, decided, tmp_path):
    """The model is another one; with wrong decisions it is a third."""
    run(small_data.images, tmp_path / "right", decided)
    wrong = (small_data.truth[[*ROWS]] + 1) % 3
    file = write_labels(tmp_path / "wrong.csv", ROWS, wrong)
    run(small_data.images, tmp_path / "wrong", replace(decided, read=replace(decided.read, decisions=file)))
    models = {
        out: (out / "model" / "model.safetensors").read_bytes()
        for out in (finished.out, tmp_path / "right", tmp_path / "wrong")
    }
    assert len(set(models.values())) == 3


def test_a_decided_twin_of_a_held_out_image_is_a_leak(finished, own_data, options, tmp_path):
    """Deciding an image that equals a held-out one leaves that one out of the evaluation."""
    held = next(row["file"] for row in rows_of(finished.out) if row["reason"] == "holdout")
    shutil.copy(own_data.images / held, own_data.images / "1.png")
    truth = CLASSES[own_data.truth[int(held.removesuffix(".png"))]]
    (tmp_path / "d.csv").write_text(f"file,label\n1.png,{truth}\n")
    read = replace(options.read, decisions=tmp_path / "d.csv")
    result = run(own_data.images, tmp_path / "out", replace(options, read=read))
    assert held in result.facts["left_out"]
    other = next(label for label in CLASSES if label != truth)
    (tmp_path / "d.csv").write_text(f"file,label\n1.png,{other}\n")
    with pytest.raises(LabelError, match="conflicting_trusted"):
        run(own_data.images, tmp_path / "again", replace(options, read=read))


def test_other_decisions_are_another_run(small_data, decided, options, tmp_path):
    """A resume with more decisions, or without them, is refused; with the same ones it goes on."""
    run(small_data.images, tmp_path / "out", decided)
    before = (tmp_path / "out" / "labels.csv").stat().st_mtime_ns
    with pytest.raises(OtherRunError, match="holds a run with other decisions"):
        run(small_data.images, tmp_path / "out", options)
    text = decided.read.decisions.read_text()
    decided.read.decisions.write_text(text + "13.png,ash\n")
    with pytest.raises(OtherRunError, match="holds a run with other decisions"):
        run(small_data.images, tmp_path / "out", decided)
    decided.read.decisions.write_text(text)
    run(small_data.images, tmp_path / "out", decided)
    assert (tmp_path / "out" / "labels.csv").stat().st_mtime_ns == before


def test_a_finished_run_still_tells_them_apart(small_data, decided, tmp_path):
    """What works on its stored features, such as a plan, may learn from them and does not count them."""
    run(small_data.images, tmp_path / "out", decided)
    found = read_finished_run(tmp_path / "out")
    dataset, _ = stored_features(found, open_images(found, small_data.images), decided.cache)
    assert dataset.decided == {row: small_data.truth[row] for row in ROWS}
    assert (dataset.trusted[[*ROWS]] == UNKNOWN).all()
    assert (found.trusted[[*ROWS]] != UNKNOWN).all()
