"""The public functions in a few lines, on tiny data, from files and from memory."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from small_runs import CLASSES, read_record

import assay
from assay.embed.backbone import load_backbone
from assay.errors import DataError


def test_a_notebook_does_the_whole_run(small_data, options, tmp_path):
    """Run, read the results, predict: a few lines, with places as paths or text."""
    result = assay.run(
        small_data.images,
        tmp_path / "out",
        noisy=small_data.folder / "noisy.csv",
        trusted=str(small_data.folder / "trusted.csv"),
        backbone="tiny",
        cache=str(options.cache),
    )
    assert 0.3 < result.noise.rate.estimate < 0.5
    found = result.model.predict(small_data.images)
    assert found.labels == CLASSES
    assert (found.probs.argmax(axis=1) == small_data.truth).mean() > 0.95
    assert assay.load_run(tmp_path / "out").noise.rate == result.noise.rate


def test_the_steps_can_be_taken_one_by_one(small_data, tmp_path):
    """Read, embed, estimate, correct; a backbone may be named or given, with one view or both."""
    options = assay.ReadOptions(trusted=small_data.folder / "trusted.csv", class_map={"ash": "ash"})
    data = assay.read_dataset(small_data.images, noisy=small_data.folder / "noisy.csv", options=options)
    features = assay.embed_images(data, "tiny", cache=tmp_path)
    assert [view.shape for view in features.views] == [(240, 384)]
    assert repr(data) == "Dataset(240 images, 3 classes, 240 noisy and 120 trusted labels)"
    assert repr(features) == "Features(240 images, 384 numbers each, 1 view)"
    both = assay.embed_images(data, load_backbone("tiny", tmp_path), mirrored=True, cache=tmp_path)
    assert len(both.views) == 2
    assert (both.views[0] == features.views[0]).all()
    noise = assay.estimate_noise(data.noisy, data.trusted, len(data.classes), classes=data.classes)
    assert noise.n_pairs == 120


@pytest.mark.parametrize("kind", ["array", "paths"])
def test_images_in_memory_are_run_like_those_of_a_folder(finished, small_data, options, kind, tmp_path):
    """An array or a list of paths, with columns of labels, ends in the same model; a rerun reads it."""
    files = [small_data.images / f"{row}.png" for row in range(240)]
    images = files if kind == "paths" else np.stack([np.asarray(Image.open(file)) for file in files])
    noisy = pl.Series([CLASSES[label] for label in small_data.noisy])
    trusted = pd.Series([None] * 240, dtype=object)
    trusted[small_data.trusted_rows] = [CLASSES[label] for label in small_data.truth[small_data.trusted_rows]]
    notes, settings = [], {"backbone": "tiny", "cache": options.cache, "noisy": noisy, "trusted": trusted}
    result = assay.run(images, tmp_path / "out", **settings)
    table, before = result.labels.frame, finished.result.labels.frame
    names = [str(file) for file in files[:2]] if kind == "paths" else ["0", "1"]
    assert table["file"].to_list()[:2] == names
    assert table.drop("file").equals(before.drop("file"))
    assert read_record(tmp_path / "out")["images"] is None  # no place to record
    assay.run(images, tmp_path / "out", notify=notes.append, **settings)
    assert any("run is already complete" in line for line in notes)


def test_labels_in_memory_go_with_images_at_a_place_too(small_data):
    """Columns with names are matched by name, labels alone by the order of the images."""
    table = pd.read_csv(small_data.folder / "noisy.csv")
    from_file = assay.read_dataset(small_data.images, noisy=small_data.folder / "noisy.csv")
    by_name = assay.read_dataset(small_data.images, noisy=table[::-1])
    assert by_name.names == from_file.names[::-1]
    assert by_name.noisy.tolist() == from_file.noisy[::-1].tolist()
    by_order = assay.read_dataset(small_data.images, noisy=table["label"], trusted=table["label"][:9])
    assert by_order.fingerprint() != from_file.fingerprint()
    assert by_order.noisy.tolist() == from_file.noisy.tolist()
    with pytest.raises(DataError, match="noisy: expected 240 labels, one for each image of images, got 1"):
        assay.read_dataset(small_data.images, noisy=["ash"])
