"""One pass over the images of a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pictures import saved
from small_datasets import dataset_of, noise

from assay.data import loader
from assay.data.decode import decode
from assay.data.resize import to_square
from assay.embed.histogram import HistogramBackbone
from assay.embed.images import embed_images
from assay.embed.tiny import TinyBackbone
from assay.pipeline.one_pass import embed_all, fill_rest, room_to_learn
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run
from assay.types import silent

BROKEN = b"no image at all"


def files_of(side: int) -> list[bytes]:
    return [*(saved(noise(seed, side, side)) for seed in range(5)), BROKEN]


def passed(files, preset, place):
    """The data set, its features, and a copy of the squares."""
    dataset, options = dataset_of(files), RunOptions(preset=preset, cache=place / preset)
    with room_to_learn(dataset, options, place) as resized_images:
        dataset.source.reads.clear()
        features = embed_all(dataset, TinyBackbone(), options, resized_images, silent)
        if resized_images is not None:
            fill_rest(resized_images, features.seen(dataset), TinyBackbone(), options, silent)
        return dataset, features, None if resized_images is None else resized_images.copy()


def test_at_preset_fast_each_image_is_read_once(tmp_path):
    """For both views and the baseline; no images are kept for fine-tuning."""
    dataset, features, resized_images = passed(files_of(48), "fast", tmp_path)
    assert sorted(dataset.source.reads) == [*range(6)]
    assert len(features.views) == 2
    assert resized_images is None
    alone = embed_images(dataset, HistogramBackbone(), tmp_path / "alone", mirrored=False).views[0]
    assert np.array_equal(features.beside[0], alone)


@pytest.mark.parametrize(("side", "reads"), [(32, 1), (20, 1), (48, 2)])
def test_squares_to_learn_from_are_read_in_passing(tmp_path, side, reads):
    """But where they are larger than what the network of the features sees: they would be too coarse."""
    files = files_of(side)
    dataset, features, resized_images = passed(files, "balanced", tmp_path)
    # A second pass leaves out what the first could not use.
    assert sorted(dataset.source.reads) == sorted([*range(6), *([*range(5)] * (reads - 1))])
    assert len(features.views) == 1
    assert resized_images.shape == (6, side, side, 3)
    assert not resized_images[5].any()
    for row in range(5):
        assert np.array_equal(resized_images[row], to_square(decode(files[row]).pixels, side))


def test_a_run_decodes_each_image_once(small_data, options, tmp_path, monkeypatch):
    """The baseline sees them while the network does; 128 are read again to compare the exported graph."""
    made = []

    def noted(data, **options):
        made.append(data)
        return decode(data, **options)

    monkeypatch.setattr(loader, "decode", noted)
    run(small_data.images, tmp_path / "out", replace(options, cache=tmp_path / "cache"))
    assert len(made) == 240 + 128
    assert json.loads((tmp_path / "out" / "run.json").read_text())["features_computed"] == 240
