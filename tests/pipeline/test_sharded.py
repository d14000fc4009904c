"""A run in shards gives what a run gives, whatever is killed on the way."""

import json
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import polars as pl
import psutil
import pytest
from object_store import BUCKET, DENIED, object_store
from small_runs import (
    CLASSES,
    draw_data,
    quick_learning,
    read_rows,
    same_bytes,
    shards_done_here,
    write_labels,
)

import assay
from assay.data.place import Url
from assay.embed.images import embed_images
from assay.embed.tiny import TinyBackbone
from assay.errors import LabelError, OtherRunError, UsageError
from assay.pipeline.finished import open_run, stored_features
from assay.pipeline.sharded import run_sharded
from assay.report import write_report
from assay.scale.engine import Engine

ENGINE = Engine(parallel=1, workers=1)


@pytest.fixture
def here():
    """No other processes."""
    with shards_done_here():
        yield


@pytest.fixture(scope="module")
def sharded(small_data, options, tmp_path_factory):
    """All images learned from, in three shards, by other processes; not to be changed."""
    out = tmp_path_factory.mktemp("sharded") / "out"
    with quick_learning():
        run_sharded(small_data.images, out, options, engine=ENGINE, shard_rows=100)
    return out


@pytest.fixture(scope="module")
def sampled(small_data, options, tmp_path_factory):
    """The same with a sample learned from; not to be changed."""
    out = tmp_path_factory.mktemp("sampled") / "out"
    with quick_learning(), shards_done_here():
        run_sharded(small_data.images, out, options, engine=ENGINE, shard_rows=100, sample=60)
    return out


def labels_of(out):
    return pl.read_parquet(out / "labels" / "*.parquet")


def test_it_gives_the_same_bytes_as_a_run_of_one_process(
    sharded, finished, small_data, options, tmp_path, here
):
    """Where every image is learned from; the parts of the labels say what labels.csv says."""
    both = [same_bytes(out) for out in (finished.out, sharded)]
    assert both[0] == both[1]
    rows, found = read_rows(sharded), labels_of(sharded)
    assert found["file"].to_list() == [row["file"] for row in rows]
    assert found["corrected_label"].to_list() == [row["corrected_label"] for row in rows]
    assert found["action"].to_list() == [row["action"] for row in rows]
    assert found["confidence"].to_list() == [float(row["confidence"]) for row in rows]
    assert found["learned_from"].all()
    again = assay.run(
        small_data.images,
        sharded,
        noisy=small_data.read.noisy,
        trusted=small_data.read.trusted,
        backbone="tiny",
        cache=options.cache,
        engine=ENGINE,
    )
    assert again.scan_labels().collect().equals(found)
    assert finished.result.scan_labels().collect().equals(finished.result.labels.frame)
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="every process can read, got them in memory"):
        assay.run(pixels, tmp_path, noisy=["a", "b"] * 2, trusted=["a", "b", None, None], engine=ENGINE)


@pytest.fixture
def stored(options, tmp_path):
    """60 images in a store, and the options of a run on them."""
    data = draw_data(tmp_path / "data", 60)
    with object_store() as store:
        for file in data.images.iterdir():
            store.put(f"images/{file.name}", file.read_bytes())
        yield store, data, replace(options, read=data.read, cache=tmp_path / "cache")


def test_images_in_a_store_give_the_same_labels(stored, tmp_path):
    """Each process fetches its own; an object that is no image is a row with its reason."""
    store, data, options = stored
    store.put("images/7.png", b"no image")
    url = Url(f"s3://{BUCKET}/images")
    run_sharded(url, tmp_path / "out", options, engine=ENGINE, shard_rows=40)
    rows = {row["file"]: row for row in labels_of(tmp_path / "out").rows(named=True)}
    given = {f"{row}.png": CLASSES[label] for row, label in enumerate(data.noisy)}
    assert {name: row["noisy_label"] for name, row in rows.items()} == given
    assert [name for name, row in rows.items() if row["action"] == "skipped"] == ["7.png"]
    uris = pl.read_parquet(tmp_path / "out" / "rows" / "*.parquet")["uri"]
    assert set(uris) == {f"{url}/{name}" for name in given}


def test_the_totals_are_of_all_images(sharded, small_data):
    """Counted over the parts."""
    found, labels = json.loads((sharded / "shards.json").read_text())["totals"], labels_of(sharded)
    assert (found["images"], found["learned_from"], found["equal_files"]) == (240, 240, 0)
    assert found["actions"] == dict(labels["action"].value_counts().rows())
    assert found["noisy"] == {name: int((small_data.noisy == i).sum()) for i, name in enumerate(CLASSES)}
    assert sum(n for *_, n in found["changes"]) == found["actions"]["changed"]


def test_images_that_are_not_learned_from_are_labelled_by_the_model(sampled, small_data):
    """Nearly as right as those that are; trusted ones are always learned from."""
    found = labels_of(sampled).sort(pl.col("file").str.strip_suffix(".png").cast(int))
    learned = found["learned_from"].to_numpy()
    assert learned[small_data.trusted_rows].all()
    assert 10 < learned[1::2].sum() < 50
    right = found["corrected_label"].to_numpy() == np.array(CLASSES)[small_data.truth]
    assert right[~learned].mean() > 0.9
    assert len(read_rows(sampled)) == learned.sum()
    others = found.filter(~pl.col("learned_from"))
    assert set(others["action"]) <= {"kept", "changed", "unsure", "outlier"}
    assert others["confidence"].is_between(1 / 3, 1).all()


def test_skipped_images_are_rows_with_their_reason(own_data, options, tmp_path, here):
    """Wherever they are; nothing is lost."""
    (own_data.images / "7.png").write_bytes(b"no image")
    (own_data.images / "9.png").unlink()
    options = replace(options, read=own_data.read)
    run_sharded(own_data.images, tmp_path / "out", options, engine=ENGINE, shard_rows=100, sample=60)
    found = {row["file"]: row for row in labels_of(tmp_path / "out").rows(named=True)}
    assert len(found) == 240
    assert {found["7.png"]["action"], found["9.png"]["action"]} == {"skipped"}
    assert found["9.png"]["reason"] == "missing_image"
    totals = json.loads((tmp_path / "out" / "shards.json").read_text())["totals"]
    assert totals["skipped"] == {found["7.png"]["reason"]: 1, "missing_image": 1}
    assert found["7.png"]["reason"] not in ("", "missing_image")


def test_a_shard_that_is_there_is_done(sharded, small_data, options, tmp_path, here):
    """Also for another run with the same images and other labels."""
    shards = sorted((options.cache / "shards").rglob("*.parquet"))
    before = {path: path.stat().st_mtime_ns for path in shards}
    changed = write_labels(tmp_path / "noisy.csv", range(240), np.roll(small_data.noisy, 0)[::-1])
    options = replace(options, read=replace(small_data.read, noisy=changed))
    run_sharded(small_data.images, tmp_path / "out", options, engine=ENGINE, shard_rows=100)
    after = {p: p.stat().st_mtime_ns for p in (options.cache / "shards").rglob("*.parquet")}
    assert {path: after[path] for path in before} == before


def test_the_same_call_resumes_and_another_is_refused(sharded, small_data, options, tmp_path, here):
    """A part of the labels that was lost is made again, from the same run."""
    out = tmp_path / "out"
    shutil.copytree(sharded, out)
    expected = (out / "labels" / "00001.parquet").read_bytes()
    (out / "labels" / "00001.parquet").unlink()
    run_sharded(small_data.images, out, options, engine=ENGINE, shard_rows=100)
    assert (out / "labels" / "00001.parquet").read_bytes() == expected
    with pytest.raises(OtherRunError, match="name another folder"):
        run_sharded(small_data.images.parent, out, options, engine=ENGINE)


def test_what_cannot_be_learned_from_is_refused_before_anything_is_embedded(small_data, options, tmp_path):
    """And nothing is left behind that would refuse the corrected command."""
    empty = write_labels(tmp_path / "trusted.csv", [], [])
    wrong = replace(options, read=replace(small_data.read, trusted=empty))
    with pytest.raises(LabelError, match="expected trusted labels"):
        run_sharded(small_data.images, tmp_path / "out", wrong, engine=ENGINE)
    assert not (tmp_path / "out" / "rows").exists()
    with pytest.raises(UsageError, match="expected IMAGES"):
        run_sharded(None, tmp_path / "out", options, engine=ENGINE)


def test_the_other_commands_find_the_features_of_the_shards(sharded, options, small_data):
    """What was learned from, in the order of labels.csv; without the cache they say what is missing."""
    run = open_run(sharded, command="audit")
    dataset, features = stored_features(run, run.images, options.cache)
    assert dataset.names == tuple(row["file"] for row in read_rows(sharded))
    again = embed_images(dataset, TinyBackbone(), options.cache)
    assert np.array_equal(features.views[1], again.views[1])
    with pytest.raises(UsageError, match="those are missing"):
        stored_features(run, run.images, sharded)


def test_the_report_counts_all_images(sampled, tmp_path):
    """And says of how many its figures are."""
    written = write_report(sampled, tmp_path / "report.html")
    facts = json.loads(written.facts.read_text())
    assert facts["data"]["images"] == 240
    assert sum(facts["changes"]["counts"].values()) == 240
    assert 120 < facts["data"]["learned_from"] < 200
    assert f"of the {facts['data']['learned_from']} images that were learned from" in written.page.read_text()


def test_a_killed_run_goes_on_with_the_shards_that_are_there(sharded, small_data, options, tmp_path, here):
    """Killed after its first shard, with its processes; the same call ends in the same bytes."""
    out, cache = tmp_path / "out", tmp_path / "cache"
    script = f"""
        from pathlib import Path
        from assay.data.dataset import ReadOptions
        from assay.pipeline.options import RunOptions
        from assay.pipeline.sharded import run_sharded
        from assay.scale.engine import Engine

        if __name__ == "__main__":
            folder = Path({str(small_data.folder)!r})
            read = ReadOptions(noisy=folder / "noisy.csv", trusted=folder / "trusted.csv")
            options = RunOptions(read=read, backbone="tiny", cache=Path({str(cache)!r}))
            engine = Engine(parallel=1, workers=1)
            run_sharded(folder / "images", Path({str(out)!r}), options, engine=engine, shard_rows=100)
    """
    (tmp_path / "driver.py").write_text(textwrap.dedent(script))
    driver = subprocess.Popen([sys.executable, str(tmp_path / "driver.py")])
    end = time.monotonic() + 120
    while not [*cache.rglob("*.parquet")]:
        assert time.monotonic() < end
        assert driver.poll() is None
        time.sleep(0.01)
    started = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    assert not psutil.wait_procs(started, timeout=60)[1]
    assert not (out / "run.json").exists()
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.parquet")}
    own = replace(options, cache=cache)
    run_sharded(small_data.images, out, own, engine=ENGINE, shard_rows=100)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert labels_of(out).equals(labels_of(sharded))


def test_the_labels_do_not_depend_on_the_prior_that_the_model_predicts_by(
    small_data, options, tmp_path, here
):
    """A long tail: --balanced changes the model, and no label, be it learned from or not."""
    few = [*np.flatnonzero(small_data.truth == 0), *np.flatnonzero(small_data.truth > 0)[:40]]
    rows = sorted(int(row) for row in few)
    noisy = write_labels(tmp_path / "noisy.csv", rows, small_data.noisy[rows])
    known = [row for row in rows if row % 2 == 0]
    trusted = write_labels(tmp_path / "trusted.csv", known, small_data.truth[known])
    read = replace(small_data.read, noisy=noisy, trusted=trusted)
    found = []
    for balanced in (False, True):
        own, out = replace(options, read=read, balanced=balanced), tmp_path / str(balanced)
        run_sharded(small_data.images, out, own, engine=ENGINE, shard_rows=300, sample=60)
        found.append(labels_of(out))
    plain, balanced = found
    assert plain["corrected_label"].equals(balanced["corrected_label"])
    assert np.allclose(plain["confidence"], balanced["confidence"], atol=2e-3)


def test_images_that_could_not_be_had_are_tried_again_with_overwrite(stored, tmp_path, here):
    """Until then their shard is done."""
    (store, _, options), states = stored, []
    for overwrite in (False, False, True):
        store.fail("images/8.png", DENIED, 0 if states else 1_000)
        place = Url(f"s3://{BUCKET}/images")
        run_sharded(place, tmp_path / "out", options, engine=ENGINE, overwrite=overwrite)
        rows = {row["file"]: row for row in labels_of(tmp_path / "out").rows(named=True)}
        states.append((rows["8.png"]["action"], rows["8.png"]["reason"]))
    assert states[:2] == [("skipped", "unreadable")] * 2
    assert states[2][0] != "skipped"
