"""The most similar trusted images, from the features in the run's cache."""

import json
import shutil

import numpy as np
import pytest
from small_runs import draw_data, quick_learning

from assay.data.dataset import ReadOptions
from assay.pipeline.finished import stored_features
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run as run_assay
from assay.review import neighbours
from assay.review.neighbours import Neighbours
from assay.review.run import read_review_run
from assay.types import UNKNOWN


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real run of 90 images and its cache."""
    folder = tmp_path_factory.mktemp("made")
    data = draw_data(folder / "data", 90)
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    with quick_learning():
        run_assay(data.images, folder / "out", RunOptions(read=read, backbone="tiny", cache=folder / "cache"))
    return read_review_run(folder / "out"), folder / "cache"


def loaded(run, cache):
    found = Neighbours(run, cache)
    found.load()
    return found


def cosines(run, features, row):
    """By the definition: standardise as the trusted images are, then the cosine with each of them."""
    rows = [other for other in range(len(run)) if run.trusted[other] != UNKNOWN]
    known = features[rows].astype(np.float64)
    spread = known.std(axis=0)
    spread[spread < 1e-6] = 1.0
    scaled = (features.astype(np.float64) - known.mean(axis=0)) / spread
    return {
        other: scaled[row] @ scaled[other] / (np.linalg.norm(scaled[row]) * np.linalg.norm(scaled[other]))
        for other in rows
        if other != row
    }


def test_neighbours_are_the_most_similar_trusted_images(made):
    """As the slow loop finds them; never the image itself, nor one of the holdout."""
    run, cache = made
    assert run.is_open.tolist() == (np.arange(90) % 2 == 1).tolist()  # the others are trusted or held out
    assert {run.trusted[row] == UNKNOWN for row in np.flatnonzero(run.held_out)} == {True}
    found = loaded(run, cache)
    _, features = stored_features(run, run.images, cache)
    for row in range(0, 90, 7):
        cosine = cosines(run, features.views[0], row)
        near = [cosine[other] for other in found.nearest(row)]
        assert near == pytest.approx(sorted(cosine.values(), reverse=True)[:5], abs=0.01)
        assert {*found.nearest(row, 90)} == {*np.flatnonzero(run.trusted != UNKNOWN).tolist()} - {row}


def test_neighbours_are_loaded_beside_the_first_pages(made):
    """Until then there are none."""
    found = Neighbours(*made)
    assert found.nearest(1) == []
    found.start().join()
    assert len(found.nearest(1)) == 5


def test_of_very_many_trusted_images_some_are_compared(made, monkeypatch):
    """Drawn at random, the same each time."""
    monkeypatch.setattr(neighbours, "MAX_COMPARED", 6)
    one, other = ({*loaded(*made).nearest(1, 50)} for _ in range(2))
    assert (one, len(one)) == (other, 6)


@pytest.mark.parametrize("damage", ["none", "no folder", "no rows", "cut", "other bytes", "other backbone"])
def test_without_features_there_are_no_neighbours(made, tmp_path, damage):
    """Of a cache that is missing or damaged, or of another backbone; nothing else fails."""
    run, cache = made
    shutil.copytree(cache, tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "features").glob("*-plain")
    data = (folder / "rows").read_bytes()
    if damage == "no folder":
        shutil.rmtree(folder)
    elif damage == "other backbone":
        record = json.loads((run.folder / "run.json").read_text())
        record["backbone"]["digest"] = "f" * 64
        shutil.copytree(run.folder, tmp_path / "out")
        (tmp_path / "out" / "run.json").write_text(json.dumps(record))
        run = read_review_run(tmp_path / "out")
    else:
        damaged = {"no rows": b"", "cut": data[:-5], "other bytes": bytes(len(data))}
        (folder / "rows").write_bytes(damaged.get(damage, data))
    assert len(loaded(run, tmp_path / "cache").nearest(1)) == (5 if damage in ("none", "cut") else 0)
