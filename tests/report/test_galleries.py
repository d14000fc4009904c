import numpy as np
import pytest
from pictures import saved
from review_runs import write_run
from small_datasets import InMemory, drawn, noise

from assay.data.dataset import Skipped
from assay.data.files import USUAL
from assay.pipeline.finished import read_finished_run
from assay.report import facts
from assay.report.facts import SHOWN, SIDE, TOO_LARGE, choose_galleries, draw_pictures


@pytest.fixture
def run(tmp_path):
    """Sixty rows: two trusted, one held out, one skipped, the others changed or unsure."""
    return read_finished_run(write_run(tmp_path / "out", [f"{row}.png" for row in range(60)]))


def test_each_gallery_has_its_kind(run):
    """Sure changes, most sure first; doubtful ones, least sure first; and a sample of the changes."""
    surest, doubtful, sample = choose_galleries(run, 0)
    changed = [row for row, action in enumerate(run.actions) if action == "changed"]
    unsure = [row for row, action in enumerate(run.actions) if action == "unsure"]
    assert list(surest.rows) == sorted(changed, key=lambda row: -run.confidence[row])[:SHOWN]
    assert list(doubtful.rows) == sorted(unsure, key=lambda row: run.confidence[row])[:SHOWN]
    assert {*sample.rows} <= {*changed}
    assert (surest.of, doubtful.of, sample.of) == (len(changed), len(unsure), len(changed))


def test_a_sample_is_drawn_by_its_seed(run):
    """The same seed gives the same images, another one others."""
    assert choose_galleries(run, 1) == choose_galleries(run, 1)
    assert choose_galleries(run, 1)[2] != choose_galleries(run, 2)[2]


def test_held_out_images_are_not_looked_at(run):
    """Whatever was done to them."""
    from dataclasses import replace

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
