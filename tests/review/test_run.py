"""Reading a finished run, with its images."""

import json
import re
import shutil

import numpy as np
import pytest
from review_runs import TITLES, draw_images, write_run
from small_runs import draw_data, quick_learning

from assay.data.dataset import ReadOptions, Skipped
from assay.data.decision_store import FILE, open_decisions
from assay.data.decode import decode
from assay.errors import DataError, UsageError
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run as run_assay
from assay.review.run import read_review_run


def edit(run, **changes):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | changes))


def test_rows_are_those_of_the_labels_file(run):
    """Names, labels, what was found and which image may be decided."""
    found = read_review_run(run)
    assert found.names == tuple(f"{row}.png" for row in range(40))
    assert (found.labels, found.titles) == (TITLES, TITLES)
    assert found.noisy[:6].tolist() == [1, 1, 2, 0, 2, 2]
    assert found.trusted[:4].tolist() == [0, 1, -1, -1]
    assert found.proposed[:6].tolist() == [0, 1, 2, -1, 1, 2]
    assert np.flatnonzero(~found.is_open).tolist() == [0, 1, 2, 3]
    assert found.transition[0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert found.title(-1) == "no label"
    assert found.label(-1) is None


def test_what_was_decided_is_still_without_a_trusted_label(run):
    """It teaches, and is no part of the file of trusted labels: a fair sample may draw it."""
    rows = (run / "labels.csv").read_text().splitlines()
    cells = rows[6].split(",")
    rows[6] = ",".join([*cells[:2], TITLES[2], *cells[3:-1], "decided"])
    (run / "labels.csv").write_text("\n".join(rows) + "\n")
    found = read_review_run(run)
    assert (found.decided, found.is_open[5]) == ({5: 2}, False)
    assert np.flatnonzero(~found.is_unlabelled).tolist() == [0, 1, 2, 3]


def test_images_that_were_looked_at_are_known(run):
    """Decided or skipped; none that was taken back, and none without a review."""
    assert not read_review_run(run).is_looked_at.any()
    store = open_decisions(run / FILE)
    for row, label in ((4, TITLES[2]), (5, None), (6, TITLES[2])):
        store.decide(f"{row}.png", label, noisy=TITLES[0], revision=0, who="me", client="here")
    store.undo(who="me", client="here")
    store.close()
    assert np.flatnonzero(read_review_run(run).is_looked_at).tolist() == [4, 5]


def test_a_real_run_is_read(tmp_path):
    """What ``assay run`` leaves behind, with its trusted images and its holdout."""
    data = draw_data(tmp_path / "data", 120)
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    with quick_learning():
        options = RunOptions(read=read, backbone="tiny", cache=tmp_path / "cache")
        result = run_assay(data.images, tmp_path / "out", options)
    found = read_review_run(tmp_path / "out", data.images)
    assert found.names == result.dataset.names
    assert found.is_open.tolist() == (np.arange(120) % 2 == 1).tolist()
    assert found.proposed.tolist() == result.learned.corrected.corrected.tolist()
    assert found.images.read(7) == result.dataset.source.read(7)


def test_titles_are_for_people(tmp_path, images):
    """Labels stay what they are; the page says their names."""
    run = write_run(tmp_path / "out", labels=("0", "1", "2"), titles=TITLES, images=images)
    found = read_review_run(run)
    assert (found.label(1), found.title(1)) == ("1", "birch")


def test_images_are_found_by_the_names_of_the_labels_file(tmp_path):
    """The order in the folder does not matter."""
    root, names = tmp_path / "images", ["b/1.png", "a/2.png", "a/10.png"]
    draw_images(root, names)
    found = read_review_run(write_run(tmp_path / "out", names), root)
    for row, name in enumerate(names):
        assert found.images.read(row) == (root / name).read_bytes()


def test_an_image_that_is_gone_is_skipped(tmp_path, images):
    """One missing file does not end the review of the others."""
    shutil.copytree(images, tmp_path / "copy")
    (tmp_path / "copy" / "7.png").unlink()
    found = read_review_run(write_run(tmp_path / "out"), tmp_path / "copy")
    assert isinstance(found.images.read(7), Skipped)
    assert not isinstance(decode(found.images.read(8)), Skipped)


def test_a_place_that_moved_is_asked_for(run, tmp_path, images):
    """The run says where its images were; where they are no more, or it does not, one has to say."""
    edit(run, images=str(tmp_path / "gone"))
    message = f"were at {tmp_path / 'gone'} and are there no more; name their place now: assay review"
    with pytest.raises(UsageError, match=re.escape(message)):
        read_review_run(run)
    edit(run, images=None)
    with pytest.raises(
        UsageError, match=r"does not say where its images are; name them: assay review .* IMAGES"
    ):
        read_review_run(run)
    assert len(read_review_run(run, images)) == 40


def test_other_images_are_refused(run, tmp_path):
    """Not one of the run's images is there."""
    draw_images(tmp_path / "other", ["x.png"])
    with pytest.raises(DataError, match=r"contains none of the 40 images of the run, such as '0\.png'"):
        read_review_run(run, tmp_path / "other")


@pytest.mark.parametrize("status", ["running", None])
def test_a_run_that_is_not_finished_is_refused(run, status):
    """There is nothing to look at yet."""
    edit(run, status=status)
    with pytest.raises(DataError, match="expected the folder of a finished run; run 'assay run' to its end"):
        read_review_run(run)


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
    ],
)
def test_files_that_do_not_fit_are_refused(run, file, before, after, message):
    """The message names the file."""
    path = run / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(DataError, match=re.escape(message)):
        read_review_run(run)


def test_without_a_transition_the_rest_is_there(run):
    """noise.json is for words beside an image."""
    (run / "noise.json").unlink()
    assert read_review_run(run).transition is None


def test_another_run_has_another_key(run):
    """Addresses of images never mean those of an earlier run."""
    before = read_review_run(run).key
    edit(run, seed=1)
    assert read_review_run(run).key != before


def test_which_images_are_open_is_found_out_once(run):
    """Each card asks; over 50,000 rows that would be felt in each page of fifty."""
    found = read_review_run(run)
    assert found.is_open is found.is_open
