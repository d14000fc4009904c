"""A run that trains on what was decided in a review."""

import shutil
from dataclasses import replace

import pytest
from small_runs import CLASSES, quick_learning, read_record, read_rows, write_labels

from assay.errors import LabelError
from assay.pipeline.export_run import measured_rows
from assay.pipeline.finished import open_images, read_finished_run, stored_features
from assay.pipeline.run import run
from assay.types import UNKNOWN

ROWS = (1, 3, 5, 7, 9, 11)
"""Images without a trusted label."""


@pytest.fixture(scope="module")
def decided(small_data, options, tmp_path_factory):
    """A run with six decisions that are all right, and its options."""
    place = tmp_path_factory.mktemp("decided")
    file = write_labels(place / "decisions.csv", ROWS, small_data.truth[[*ROWS]])
    decided = replace(options, read=replace(options.read, decisions=file))
    with quick_learning():
        return run(small_data.images, place / "out", decided), decided


def test_decisions_are_trusted_labels_with_their_reason(small_data, decided):
    """In labels.csv they are the corrected labels; record and card count them apart."""
    out = decided[0].path
    rows = read_rows(out)
    for row in ROWS:
        right = CLASSES[small_data.truth[row]]
        assert (rows[row]["trusted_label"], rows[row]["corrected_label"]) == (right, right)
        assert (rows[row]["confidence"], rows[row]["action"]) == ("1.0", "trusted")
        assert rows[row]["reason"] == "decided"
    record = read_record(out)
    assert (record["data"]["decided"], len(record["data"]["decisions"])) == (6, 64)
    card = (out / "model" / "README.md").read_text()
    assert "96 with a trusted label\noutside the holdout, 6 decided by a person." in card


def test_no_figure_counts_decisions(finished, decided):
    """Picked images are no sample: holdout, noise and all figures rest on the trusted file alone."""
    result, _ = decided
    before, after = finished.out, result.path
    assert (after / "noise.json").read_bytes() == (before / "noise.json").read_bytes()
    counts = [{name: one.n for name, one in found.evaluation.items()} for found in (result, finished.result)]
    assert counts[0] == counts[1]
    held = [[row["file"] for row in read_rows(out) if row["reason"] == "holdout"] for out in (before, after)]
    assert held[0] == held[1]
    rows, trained_on = measured_rows(read_finished_run(after))  # by assay export
    assert (trained_on, len(rows)) == (True, 96)
    assert not {*rows} & {*ROWS}


def test_the_model_is_trained_on_decisions(finished, small_data, decided, tmp_path):
    """With right decisions it is another model, with wrong ones a third."""
    result, options = decided
    file = write_labels(tmp_path / "wrong.csv", ROWS, (small_data.truth[[*ROWS]] + 1) % 3)
    run(small_data.images, tmp_path / "out", replace(options, read=replace(options.read, decisions=file)))
    places = finished.out, result.path, tmp_path / "out"
    assert len({(out / "model" / "model.safetensors").read_bytes() for out in places}) == 3


def test_a_decided_duplicate_of_a_held_out_image_is_a_leak(finished, own_data, options, tmp_path):
    """The held-out image is left out of the evaluation; a decision that contradicts it is refused."""
    held = next(row["file"] for row in read_rows(finished.out) if row["reason"] == "holdout")
    shutil.copy(own_data.images / held, own_data.images / "1.png")
    truth = own_data.truth[int(held.removesuffix(".png"))]
    file = write_labels(tmp_path / "d.csv", [1], [truth])
    changed = replace(options, read=replace(options.read, decisions=file))
    assert held in run(own_data.images, tmp_path / "out", changed).facts["left_out"]
    write_labels(file, [1], [(truth + 1) % 3])
    with pytest.raises(LabelError, match="conflicting_trusted"):
        run(own_data.images, tmp_path / "again", changed)


def test_a_finished_run_still_tells_decisions_apart(small_data, decided):
    """Later work on its stored features, such as a plan, may train on them and does not count them."""
    result, options = decided
    found = read_finished_run(result.path)
    dataset, _ = stored_features(found, open_images(found, small_data.images), options.cache)
    assert dataset.decided == {row: small_data.truth[row] for row in ROWS}
    assert (dataset.trusted[[*ROWS]] == UNKNOWN).all()
    assert (found.trusted[[*ROWS]] != UNKNOWN).all()


def test_an_image_of_no_class_teaches_nothing(own_data, options, tmp_path):
    """Its noisy label is neither trained on nor corrected, and it is an outlier because somebody said so."""
    file = tmp_path / "decisions.csv"
    file.write_text("file,label,status\n1.png,,no_class\n3.png,,skipped\n")
    results = []
    for name, label in (("one", 0), ("two", 1)):
        noisy = own_data.noisy.copy()
        noisy[1] = label
        write_labels(own_data.folder / "noisy.csv", range(len(noisy)), noisy)
        given = replace(own_data.read, decisions=file)
        results.append(run(own_data.images, tmp_path / name, replace(options, read=given)).path)
    row = read_rows(results[0])[1]
    assert (row["noisy_label"], row["corrected_label"], row["confidence"]) == (CLASSES[0], "", "0.0")
    assert (row["action"], row["reason"]) == ("outlier", "decided")
    assert read_rows(results[0])[3]["action"] != "outlier"
    models = {(out / "model" / "model.safetensors").read_bytes() for out in results}
    assert len(models) == 1
    found = read_finished_run(results[0])
    dataset, _ = stored_features(found, open_images(found, own_data.images), options.cache)
    assert dataset.decided == {1: UNKNOWN}
    assert not found.is_open[1]
