"""The nearest trusted images, from the features of the run's cache."""

import json
import shutil

import numpy as np
import pytest
from small_runs import draw_data, quick_learning

from assay.data.dataset import ReadOptions
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run as run_assay
from assay.review import neighbours
from assay.review.neighbours import Neighbours
from assay.review.run import read_review_run
from assay.types import UNKNOWN


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real run of 90 images, its result and its cache."""
    folder = tmp_path_factory.mktemp("made")
    data = draw_data(folder / "data", 90)
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    with quick_learning():
        options = RunOptions(read=read, backbone="tiny", cache=folder / "cache")
        result = run_assay(data.images, folder / "out", options)
    return read_review_run(folder / "out"), result, folder / "cache"


def slow_nearest(run, features, row, count=5):
    """By the definition: standardise as the trusted ones are, then the cosine with each of them."""
    rows = [other for other in range(len(run)) if run.trusted[other] != UNKNOWN]
    known = features[rows].astype(np.float64)
    spread = known.std(axis=0)
    spread[spread < 1e-6] = 1.0
    scaled = (features.astype(np.float64) - known.mean(axis=0)) / spread
    cosine = {
        other: scaled[row] @ scaled[other] / (np.linalg.norm(scaled[row]) * np.linalg.norm(scaled[other]))
        for other in rows
        if other != row
    }
    return sorted(cosine.items(), key=lambda found: -found[1])[:count]


def test_they_are_the_nearest_of_all(made, tmp_path):
    """As the slow loop over all trusted images finds them; an image is never its own neighbour."""
    from assay.embed.backbone import load_backbone
    from assay.embed.images import embed_images

    run, result, cache = made
    found = Neighbours(run, cache)
    found.load()
    backbone = load_backbone("tiny", tmp_path, size=result.model.size)
    features = embed_images(result.dataset, backbone, tmp_path).views[0]
    for row in range(0, 90, 7):
        near, expected = found.nearest(row), slow_nearest(run, features, row)
        assert [one.similarity for one in near] == pytest.approx([cosine for _, cosine in expected], abs=0.01)
        assert row not in [one.row for one in near]
        assert all(run.trusted[one.row] != UNKNOWN for one in near)


def test_the_holdout_is_nobodys_neighbour(made):
    """Its labels are not seen by this page."""
    run, _, cache = made
    found = Neighbours(run, cache)
    found.load()
    near = {one.row for row in range(90) for one in found.nearest(row, 50)}
    assert not near & {row for row, reason in enumerate(run.reasons) if reason == "holdout"}


def test_they_are_looked_up_beside_the_first_pages(made):
    """Until that is done there are none, and the page shows an image without them."""
    run, _, cache = made
    found = Neighbours(run, cache)
    assert (found.nearest(1), found.is_ready) == ([], False)
    found.start().join()
    assert (len(found.nearest(1)), found.is_ready) == (5, True)


def test_of_very_many_trusted_images_some_are_compared(made, monkeypatch):
    """Picked at random, the same ones each time."""
    run, _, cache = made
    monkeypatch.setattr(neighbours, "MOST", 6)
    both = [Neighbours(run, cache), Neighbours(run, cache)]
    for found in both:
        found.load()
    near = [{one.row for one in found.nearest(1, 50)} for found in both]
    assert near[0] == near[1]
    assert len(near[0]) == 6


@pytest.mark.parametrize("damage", ["none", "no folder", "no rows", "cut", "other bytes", "other backbone"])
def test_without_features_there_are_no_neighbours(made, tmp_path, damage):
    """A cache that is not there, or that is damaged, takes nothing but the neighbours away."""
    run, _, cache = made
    shutil.copytree(cache, tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "features").glob(f"{run.digest[:24]}-plain")
    if damage == "no folder":
        shutil.rmtree(folder)
    elif damage == "no rows":
        (folder / "rows").write_bytes(b"")
    elif damage == "cut":
        (folder / "rows").write_bytes((folder / "rows").read_bytes()[:-5])
    elif damage == "other bytes":
        (folder / "rows").write_bytes(bytes(len((folder / "rows").read_bytes())))
    elif damage == "other backbone":
        record = json.loads((run.folder / "run.json").read_text())
        record["backbone"]["digest"] = "f" * 64
        shutil.copytree(run.folder, tmp_path / "out")
        (tmp_path / "out" / "run.json").write_text(json.dumps(record))
        run = read_review_run(tmp_path / "out")
    found = Neighbours(run, tmp_path / "cache")
    found.load()
    assert len(found.nearest(1)) == (5 if damage in ("none", "cut") else 0)
    assert found.is_ready
