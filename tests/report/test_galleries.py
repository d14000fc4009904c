from dataclasses import replace

import numpy as np
import pytest
from pictures import saved
from review_runs import write_run
from small_datasets import InMemory, drawn, noise

from assay.data.dataset import Skipped
from assay.data.files import USUAL
from assay.pipeline.finished import read_finished_run
from assay.report import facts
from assay.report.facts import SIDE, TOO_LARGE, choose_galleries, draw_pictures


@pytest.fixture
def run(tmp_path):
    """Sixty rows: two trusted, one held out, one skipped, the others changed or unsure."""
    return read_finished_run(write_run(tmp_path / "out", [f"{row}.png" for row in range(60)]))


def test_each_gallery_has_its_kind_of_each_class(run):
    """Sure changes, doubtful ones, a sample of the changes: the first of each class, class by class."""
    surest, doubtful, sample = choose_galleries(run, 0)
    changed = [row for row, action in enumerate(run.actions) if action == "changed"]
    unsure = [row for row, action in enumerate(run.actions) if action == "unsure"]
    for gallery, rows, sign in ((surest, changed, -1), (doubtful, unsure, 1)):
        labels = run.proposed[list(gallery.rows)].tolist()
        assert labels == sorted(labels)
        for label in range(3):
            of_class = [row for row in rows if run.proposed[row] == label]
            all_shown = labels.count(label) == len(of_class)
            assert all_shown or labels.count(label) >= max(map(labels.count, range(3))) - 1
            first = sorted(of_class, key=lambda row: sign * run.confidence[row])[: labels.count(label)]
            assert [row for row in gallery.rows if run.proposed[row] == label] == first
    assert {*sample.rows} <= {*changed}
    assert (surest.of, doubtful.of, sample.of) == (len(changed), len(unsure), len(changed))


def test_a_class_of_thousands_leaves_room_for_the_others(run):
    """Of a rare class all are shown; what is held out is said to be missing."""
    actions = ["changed"] * 60
    proposed = np.where(np.arange(60) < 56, 0, np.where(np.arange(60) < 59, 1, 2))
    reasons = ["holdout" if row < 3 else "" for row in range(60)]
    found = choose_galleries(
        replace(run, actions=tuple(actions), proposed=proposed, reasons=tuple(reasons)), 0
    )
    assert np.bincount(proposed[list(found[0].rows)]).tolist() == [20, 3, 1]
    assert found[0].of == 57
    assert "3 more are held out and not shown." in found[0].about


def test_a_sample_is_drawn_by_its_seed(run):
    """The same seed gives the same images, another one others."""
    assert choose_galleries(run, 1) == choose_galleries(run, 1)
    assert choose_galleries(run, 1)[2] != choose_galleries(run, 2)[2]


def test_held_out_images_are_not_looked_at(run):
    """Whatever was done to them."""
    sealed = replace(run, reasons=("holdout",) * 60)
    assert choose_galleries(sealed, 0) == ()


def test_pictures_are_small_and_inside_the_page():
    """A large image is drawn small, a small one as it is, each once; what cannot be opened says why."""
    files = [saved(noise(0, 300, 600)), saved(noise(1, 20, 10)), b"", Skipped("missing_image")]
    source = InMemory(files)
    found = draw_pictures(source, [0, 1, 2, 3, 1, 0], USUAL)
    assert (found[0].width, found[0].height) == (SIDE, SIDE // 2)
    assert (found[1].width, found[1].height) == (10, 20)
    assert found[0].address.startswith("data:image/webp;base64,")
    assert (found[2], found[3]) == ("empty_file", "missing_image")
    assert source.reads == [0, 1, 2, 3]


def test_the_page_does_not_grow_beyond_its_limit(monkeypatch):
    """When the room for images is used up, the next ones are left out and say so; smaller ones still fit."""
    files = [*drawn(3), saved(noise(9, 2, 2))]
    one = len(draw_pictures(InMemory(files), [0], USUAL)[0].address) * 3 // 4
    monkeypatch.setattr(facts, "MAX_BYTES", 2 * one + 200)
    found = draw_pictures(InMemory(files), range(4), USUAL)
    assert [isinstance(found[row], str) for row in range(4)] == [False, False, True, False]
    assert found[2] == TOO_LARGE
    # What is shown twice weighs twice.
    assert draw_pictures(InMemory(files), [0, 0, 1], USUAL)[1] == TOO_LARGE


def test_even_noise_fits():
    """All galleries of the least compressible images leave room for the rest of 5 MB."""
    source = InMemory([saved(noise(seed, SIDE, SIDE), compress_level=1) for seed in range(8)] * 9)
    found = draw_pictures(source, range(72), USUAL)
    weight = sum(len(one.address) for one in found.values() if not isinstance(one, str))
    assert weight < 2_500_000
    assert np.mean([isinstance(one, str) for one in found.values()]) < 0.5
