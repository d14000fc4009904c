"""Reading a finished run for a review."""

import json
import re

import numpy as np
import pytest
from review_runs import TITLES, draw_images, write_run

from assay.data.dataset import Skipped
from assay.errors import DataError, UsageError
from assay.review.run import read_review_run


def edit(run, **changes):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | changes))


def test_a_run_is_read_with_its_images(run, images):
    """Labels, the transition matrix, the holdout, and which images may be decided."""
    found = read_review_run(run)
    assert found.noisy[:6].tolist() == [1, 1, 2, 0, 2, 2]
    assert found.trusted[:4].tolist() == [0, 1, -1, -1]
    assert found.proposed[:6].tolist() == [0, 1, 2, -1, 1, 2]
    assert np.flatnonzero(~found.is_open).tolist() == [0, 1, 2, 3]
    assert found.held_out_labels == {2: 2}
    assert found.transition[0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert (found.title(-1), found.label(-1)) == ("no label", None)
    assert found.images.read(7) == (images / "7.png").read_bytes()
    assert found.is_open is found.is_open  # computed once: a page of fifty images reads it fifty times


def test_decided_images_are_still_unlabelled(run):
    """A decision is not in the file of trusted labels: a fair sample may draw its image."""
    rows = (run / "labels.csv").read_text().splitlines()
    cells = rows[6].split(",")
    rows[6] = ",".join([*cells[:2], TITLES[2], *cells[3:-1], "decided"])
    (run / "labels.csv").write_text("\n".join(rows) + "\n")
    found = read_review_run(run)
    assert (found.decided, found.is_open[5]) == ({5: 2}, False)
    assert np.flatnonzero(~found.is_unlabelled).tolist() == [0, 1, 2, 3]


def test_titles_are_for_people(tmp_path, images):
    """Labels stay as they are in the files."""
    found = read_review_run(write_run(tmp_path / "out", labels=("0", "1", "2"), titles=TITLES, images=images))
    assert (found.label(1), found.title(1)) == ("1", "birch")


def test_images_are_found_by_name(tmp_path):
    """In any order; a missing one is skipped."""
    root, names = tmp_path / "images", ["b/1.png", "a/2.png", "a/10.png", "c.png"]
    draw_images(root, names)
    (root / "c.png").unlink()
    found = read_review_run(write_run(tmp_path / "out", names), root)
    for row, name in enumerate(names[:3]):
        assert found.images.read(row) == (root / name).read_bytes()
    assert isinstance(found.images.read(3), Skipped)
    assert found.names_in_order == ("a/2.png", "a/10.png", "b/1.png")


def test_images_that_moved_are_asked_for(run, tmp_path, images):
    """The message says where they were, if the run knows, and the command with their place."""
    edit(run, images=str(tmp_path / "gone"))
    message = f"are no longer at {tmp_path / 'gone'}; name their place: assay review {run} IMAGES"
    with pytest.raises(UsageError, match=re.escape(message)):
        read_review_run(run)
    edit(run, images=None)
    message = f"does not record where its images are; name the place: assay review {run} IMAGES"
    with pytest.raises(UsageError, match=re.escape(message)):
        read_review_run(run)
    assert len(read_review_run(run, images)) == 40


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("labels.csv", "file,noisy", "file,noise", "expected the columns file, noisy_label, trusted_label"),
        (
            "labels.csv",
            "5.png,cedar",
            "5.png,larch",
            "'larch' is not a class of the run's model; run it again",
        ),
        ("labels.csv", "unsure", "unsure,x,y", "expected 8 cells"),
        ("labels.csv", ",0.1,", ",many,", "expected probabilities"),
        ("model/labels.json", "labels", "lables", "expected the labels of the run's model"),
        ("holdout.csv", "2.png", "x.png", "holdout.csv: 'x.png' is not of this run; run it again"),
        ("holdout.csv", "cedar", "larch", "holdout.csv: 'larch' is not of this run; run it again"),
        ("run.json", '"done"', '"running"', "expected the folder of a finished run; run 'assay run' to its"),
    ],
)
def test_files_that_do_not_match_are_refused(run, file, before, after, message):
    """The message names the file, or what to do."""
    path = run / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(DataError, match=re.escape(message)):
        read_review_run(run)


def test_a_run_without_a_transition_is_read(run):
    """It is only shown beside an image."""
    (run / "noise.json").unlink()
    assert read_review_run(run).transition is None


def test_another_run_has_another_key(run):
    """URLs of images never mean those of an earlier run."""
    before = read_review_run(run).key
    edit(run, seed=1)
    assert read_review_run(run).key != before
