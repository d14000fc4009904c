"""A finished run as it is reviewed, and the order of its images."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_runs import TITLES, draw_images, write_run

from assay.data.dataset import Skipped
from assay.errors import DataError, UsageError
from assay.review.run import STRATEGIES, order_images, read_review_run


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
    assert np.flatnonzero(found.held_out).tolist() == [2]
    assert found.transition[0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert (found.title(-1), found.label(-1)) == ("no label", None)
    assert found.images.read(7) == (images / "7.png").read_bytes()
    assert found.is_open is found.is_open  # computed once: a page of fifty images reads it fifty times
    (run / "noise.json").unlink()
    assert read_review_run(run).transition is None  # it is only shown beside an image


def test_decided_images_are_still_unlabelled(run):
    """A decision is not in the file of trusted labels: a fair sample may draw its image."""
    rows = (run / "labels.csv").read_text().splitlines()
    cells = rows[6].split(",")
    rows[6] = ",".join([*cells[:2], TITLES[2], *cells[3:-2], "decided", cells[-1]])
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
    for place, message in (
        (str(tmp_path / "gone"), f"are no longer at {tmp_path / 'gone'}; name their place"),
        (None, "does not record where its images are; name the place"),
    ):
        edit(run, images=place)
        with pytest.raises(UsageError, match=re.escape(f"{message}: assay review {run} IMAGES")):
            read_review_run(run)
    assert len(read_review_run(run, images)) == 40


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("labels.csv", "file,noisy", "file,noise", "expected the columns file, noisy_label, trusted_label"),
        ("labels.csv", "5.png,cedar", "5.png,larch", "'larch' is not a class of the run's model; run it"),
        ("labels.csv", "unsure", "unsure,x,y", "expected 9 cells"),
        ("labels.csv", ",0.1,", ",many,", "expected numbers"),
        ("model/labels.json", "labels", "lables", "expected the labels of the run's model"),
        ("run.json", '"done"', '"running"', "expected the folder of a finished run; run 'assay run' to its"),
    ],
)
def test_files_that_do_not_match_are_refused(run, file, before, after, message):
    """The message names the file, or what to do."""
    text = (run / file).read_text()
    assert before in text
    (run / file).write_text(text.replace(before, after))
    with pytest.raises(DataError, match=re.escape(message)):
        read_review_run(run)


def test_another_run_has_another_key(run):
    """URLs of images never mean those of an earlier run."""
    before = read_review_run(run).key
    edit(run, seed=1)
    assert read_review_run(run).key != before


def draw(n, seed=0):
    """Noisy labels, proposed labels, confidences, and which images may be decided."""
    generator = np.random.default_rng(seed)
    noisy, proposed = generator.integers(-1, 4, n), generator.integers(0, 4, n)
    return noisy, proposed, generator.random(n), generator.random(n) < 0.7


@given(st.integers(0, 80), st.sampled_from(STRATEGIES), st.integers(0, 5))
def test_every_open_image_comes_once(n, strategy, seed):
    """With each strategy, in the same order for the same seed."""
    data = draw(n, seed)
    order, again = (order_images(*data, strategy=strategy, seed=seed) for _ in range(2))
    assert sorted(order.rows.tolist()) == sorted(order.sample.tolist()) == np.flatnonzero(data[3]).tolist()
    assert order.rows.tolist() == again.rows.tolist()


def test_confident_label_issues_come_first():
    """By falling confidence; then the doubtful images, as in that strategy, by rising confidence."""
    data = noisy, proposed, confidence, _ = draw(60)
    rows = order_images(*data, strategy="confident").rows
    is_issue = (noisy[rows] != -1) & (noisy[rows] != proposed[rows])
    n = is_issue.sum()
    assert is_issue[:n].all()
    assert np.all(np.diff(confidence[rows[:n]]) <= 0)
    doubtful = order_images(*data, strategy="doubtful").rows
    for rising in (rows[n:], doubtful):
        assert np.all(np.diff(confidence[rising]) >= 0)


def test_mixed_is_seven_doubtful_one_confident_two_random_of_ten():
    """Each from the front of its own order."""
    data = draw(4000)
    orders = {name: order_images(*data, strategy=name).rows.tolist() for name in STRATEGIES}
    head = {*orders["mixed"][:100]}
    assert len(head & {*orders["doubtful"][:70]}) == 70
    assert len(head & {*orders["confident"][:10]}) == 10
    assert len(head & {*orders["random"][:20]}) >= 18


def test_the_random_sample_depends_on_the_seed_alone():
    """Not on labels or confidences, so it is a fair sample."""
    noisy, proposed, confidence, is_open = draw(100)
    one = order_images(noisy, proposed, confidence, is_open, strategy="mixed", seed=3).sample
    other = order_images(proposed, noisy, 1 - confidence, is_open, strategy="doubtful", seed=3).sample
    assert one.tolist() == other.tolist()
    assert one.tolist() != order_images(*draw(100), strategy="mixed", seed=4).sample.tolist()


def test_an_unknown_strategy_is_refused():
    """The message lists the known ones."""
    message = "--strategy: expected mixed, doubtful, confident, random, got 'best'"
    with pytest.raises(UsageError, match=re.escape(message)):
        order_images(*draw(5), strategy="best")
