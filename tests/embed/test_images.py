import errno
import hashlib
import os
import re
import shutil

import numpy as np
import pytest
from pictures import saved
from PIL import Image, ImageOps
from small_datasets import dataset_of, drawn, noise

from assay.data import loader
from assay.data.dataset import Skipped
from assay.data.decode import decode
from assay.data.resize import to_square
from assay.embed.images import embed_images, fill_images, room_for_images
from assay.embed.tiny import HistogramBackbone, TinyBackbone
from assay.errors import ResourceError

TINY = TinyBackbone()
BROKEN = b"no image at all"


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(loader, "BATCH", 4)


def one_by_one(files) -> np.ndarray:
    """Features by the loop that defines them."""
    rows = []
    for file in files:
        square = to_square(decode(file, at_least=TINY.size).pixels, TINY.size)
        rows.append(TINY.embed(square[None])[0])
    return np.array(rows).astype(np.float16)


def folder_of(cache, view):
    return cache / "features" / f"{TINY.digest[:24]}-{view}"


def damage_row(cache, view, row) -> None:
    path = folder_of(cache, view) / "rows"
    data = bytearray(path.read_bytes())
    data[row * TINY.width * 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("workers", [1, 3])
def test_features_are_those_of_a_plain_loop(tmp_path, workers):
    """Row i is what the backbone gives for image i alone, cold and warm, with any number of threads."""
    files = drawn(10)
    for computed in (10, 0):
        features = embed_images(dataset_of(files), TINY, tmp_path, workers=workers)
        assert np.array_equal(features.views[0], one_by_one(files))
        assert features.views[0].dtype == np.float16
        assert features.computed == computed
        assert features.contents == tuple(hashlib.sha256(file).digest() for file in files)
        assert (features.skipped, features.flags) == ({}, {})
        assert [0 < features.seconds[stage] < 60 for stage in ("decode", "embed")] == [True, True]


def test_the_second_view_is_that_of_the_mirrored_images(tmp_path):
    """The mirrored view equals the plain view of the same pictures saved mirrored."""
    pictures = [noise(seed, TINY.size, TINY.size) for seed in range(6)]
    mirrored = [saved(ImageOps.mirror(picture)) for picture in pictures]
    features = embed_images(dataset_of([saved(picture) for picture in pictures]), TINY, tmp_path)
    assert np.array_equal(features.views[1], one_by_one(mirrored))
    assert not np.array_equal(features.views[1], features.views[0])


def test_without_mirror_there_is_one_view(tmp_path):
    """One view is computed, stored and returned; the second can be had later and is then the same."""
    files = drawn(5)
    alone = embed_images(dataset_of(files), TINY, tmp_path / "a", mirrored=False)
    assert len(alone.views) == 1
    assert not folder_of(tmp_path / "a", "mirror").exists()
    later = embed_images(dataset_of(files), TINY, tmp_path / "a")
    fresh = embed_images(dataset_of(files), TINY, tmp_path / "b")
    assert later.computed == 5
    assert all(np.array_equal(*pair) for pair in zip(later.views, fresh.views, strict=True))


def test_bad_images_stay_rows(tmp_path):
    """Images that cannot be used are skipped with their reasons and have rows of zeros, cold and warm."""
    good = drawn(4)
    files = [good[0], BROKEN, good[1], good[2][:70], Skipped("permission"), good[3]]
    for computed in (2, 0):
        features = embed_images(dataset_of(files, {5: Skipped("bad_path")}), TINY, tmp_path)
        reasons = {row: why.reason for row, why in features.skipped.items()}
        assert reasons == {1: "not_an_image", 3: "truncated", 4: "permission", 5: "bad_path"}
        for view in features.views:
            assert [row for row in range(6) if view[row].any()] == [0, 2]
        assert np.array_equal(features.views[0][[0, 2]], one_by_one(good[:2]))
        assert [row for row, content in enumerate(features.contents) if content is None] == [4, 5]
        assert features.computed == computed


@pytest.mark.parametrize(
    "files", [[], [BROKEN] * 6, [Skipped("missing")] * 6], ids=["none", "bad", "missing"]
)
def test_no_usable_image_is_no_error(tmp_path, files):
    """An empty dataset, or one of bad images alone, gives zeros of the right shape and no cache."""
    features = embed_images(dataset_of(files), TINY, tmp_path)
    assert [view.shape for view in features.views] == [(len(files), TINY.width)] * 2
    assert not any(view.any() for view in features.views)
    assert len(features.skipped) == len(features.contents) == len(files)
    assert features.computed == 0
    assert not (tmp_path / "features").exists()


def test_the_same_image_may_come_again(tmp_path):
    """Repeated images, within a chunk and beyond it, have equal rows, cold and warm."""
    a, b, c = drawn(3)
    files = [a, b, a, a, c, b, a]
    for _ in range(2):
        features = embed_images(dataset_of(files), TINY, tmp_path)
        assert np.array_equal(features.views[0], one_by_one(files))


def test_remarks_survive_the_cache(tmp_path):
    """What was remarked on an image when it was decoded is said again when it is not."""
    plain = Image.new("RGB", (40, 40), "red")
    files = [saved(noise(0)), saved(plain), saved(noise(1), "GIF", save_all=True, append_images=[noise(2)])]
    cold, warm = (embed_images(dataset_of(files), TINY, tmp_path) for _ in range(2))
    assert cold.flags == warm.flags == {1: ("low_information",), 2: ("animated",)}
    assert (cold.computed, warm.computed) == (3, 0)


def test_order_and_company_do_not_matter(tmp_path):
    """The features of an image are the same in another order, and found in the cache whatever its name."""
    files = drawn(9)
    order = np.random.default_rng(0).permutation(9)
    first = embed_images(dataset_of(files), TINY, tmp_path)
    other = embed_images(dataset_of([files[row] for row in order]), TINY, tmp_path)
    assert other.computed == 0
    assert all(np.array_equal(a[order], b) for a, b in zip(first.views, other.views, strict=True))


def test_new_images_among_known_ones_are_computed_with_their_chunk(tmp_path):
    """Images that are added later cost their own chunks, no more."""
    files = drawn(12)
    embed_images(dataset_of(files[:6]), TINY, tmp_path)
    features = embed_images(dataset_of(files), TINY, tmp_path)
    assert features.computed == 8
    assert np.array_equal(features.views[0], one_by_one(files))


@pytest.mark.parametrize("view", ["plain", "mirror"])
def test_a_damaged_row_is_computed_again(tmp_path, view):
    """One flipped bit costs the chunk of its image, and changes no feature."""
    files = drawn(10)
    before = embed_images(dataset_of(files), TINY, tmp_path / "good")
    embed_images(dataset_of(files), TINY, tmp_path / "bad")
    damage_row(tmp_path / "bad", view, 5)
    for computed in (4, 0):
        healed = embed_images(dataset_of(files), TINY, tmp_path / "bad")
        assert healed.computed == computed
        assert all(np.array_equal(*pair) for pair in zip(before.views, healed.views, strict=True))


def test_a_view_that_lacks_its_last_rows_is_completed(tmp_path):
    """A run that was interrupted between the two views of a chunk is healed by the next."""
    files = drawn(10)
    before = embed_images(dataset_of(files), TINY, tmp_path / "good")
    embed_images(dataset_of(files), TINY, tmp_path / "cut")
    index = folder_of(tmp_path / "cut", "mirror") / "index"
    index.write_bytes(index.read_bytes()[: 40 * 8])
    healed = embed_images(dataset_of(files), TINY, tmp_path / "cut")
    assert healed.computed == 2
    assert all(np.array_equal(*pair) for pair in zip(before.views, healed.views, strict=True))


def test_features_that_vanish_while_they_are_collected_are_missed(tmp_path):
    """A cache that is emptied during the run is an error, not a row of zeros."""

    def emptied(stage, done, total):
        if done == total:
            shutil.rmtree(folder_of(tmp_path, "mirror"))

    message = re.escape(
        f"{folder_of(tmp_path, 'mirror')}: the features of 5 images were stored and are gone or damaged; "
        "if nothing else writes there, the disk is failing: name another cache with ASSAY_CACHE"
    )
    files = [*drawn(5), BROKEN]
    with pytest.raises(ResourceError, match=f"^{message}$"):
        embed_images(dataset_of(files), TINY, tmp_path, progress=emptied)


def test_others_see_the_images_in_the_same_pass(tmp_path):
    """Their features are those that they compute alone; each image is read and decoded once for all."""
    other, files = HistogramBackbone(), [*drawn(6), BROKEN]
    dataset = dataset_of(files)
    for computed in (6, 0):
        dataset.source.reads.clear()
        features = embed_images(dataset, TINY, tmp_path / "both", beside=[other])
        assert sorted(dataset.source.reads) == [*range(7)]
        assert features.computed == computed
        alone = embed_images(dataset, other, tmp_path / "alone", mirrored=False)
        assert np.array_equal(features.beside[0], alone.views[0])
        assert np.array_equal(features.views[0][:6], one_by_one(files[:6]))


def test_others_see_a_photo_as_large_as_it_was_decoded(tmp_path):
    """So their features are kept apart from those that they have of a smaller or larger decoding."""
    photo, other = saved(noise(0, 640, 480), "JPEG"), HistogramBackbone()
    for size in (16, 64, 320):
        network = TinyBackbone(size=size)
        features = embed_images(dataset_of([photo]), network, tmp_path, beside=[other])
        square = to_square(decode(photo, at_least=size).pixels, other.size)
        assert np.array_equal(features.beside[0], other.embed(square[None]).astype(np.float16))


def test_what_one_of_them_lacks_is_computed_by_it_alone(tmp_path):
    """Features of the network that are stored are not computed again, and not counted as if they were."""
    files, other = drawn(10), HistogramBackbone()
    first = embed_images(dataset_of(files), TINY, tmp_path)
    stored = (folder_of(tmp_path, "plain") / "rows").read_bytes()
    features = embed_images(dataset_of(files), TINY, tmp_path, beside=[other])
    assert features.computed == 0
    assert (folder_of(tmp_path, "plain") / "rows").read_bytes() == stored
    assert np.array_equal(features.views[0], first.views[0])
    assert features.beside[0].any(axis=1).all()


def test_squares_are_filled_in_the_same_pass(tmp_path):
    """Whether the features are stored or not, every usable image becomes a square."""
    files = [*drawn(5), BROKEN]
    for _ in range(2):
        resized_images = np.zeros((6, 20, 20, 3), np.uint8)
        features = embed_images(dataset_of(files), TINY, tmp_path, resized_images=resized_images)
        assert np.array_equal(features.views[0][:5], one_by_one(files[:5]))
        assert not resized_images[5].any()
        for row in range(5):
            assert np.array_equal(resized_images[row], to_square(decode(files[row]).pixels, 20))
    assert features.computed == 0


def test_progress_is_told_after_each_chunk(tmp_path):
    """The images done so far are told in order, those that were skipped or known included."""
    told = []
    dataset = dataset_of([*drawn(8), BROKEN, BROKEN])
    for _ in range(2):
        embed_images(dataset, TINY, tmp_path, progress=lambda *step: told.append(step))
    assert told == [("embed", 4, 10), ("embed", 8, 10), ("embed", 10, 10)] * 2


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, process):
    """Ten times the images need little more memory than their digests; their pixels would be 22 MB.

    How many are decoded at the same moment is the threads' affair: a hundred small ones more or less.
    """
    few, many = (
        process("peak_memory", tmp_path, 200)["bytes"],
        process("peak_memory", tmp_path, 2000)["bytes"],
    )
    assert many - few < 1800 * 200 + 1_000_000


def test_a_run_killed_in_any_write_goes_on_to_the_same_features(tmp_path, process):
    """Killed in the middle of each write in turn, a run resumes by whole chunks and ends as if unbroken."""
    told = process("killed_at_write", tmp_path)
    # Three chunks of 8, 7 and 8 usable images, four writes each.
    assert told == {"equal": [True] * 12, "computed": [23] * 4 + [16] * 4 + [8] * 4}


@pytest.mark.parametrize("has_call", [True, False])
def test_squares_are_the_resized_images(tmp_path, monkeypatch, has_call):
    """Zeros where an image cannot be used; no file is left behind, whatever call claims the room."""
    if not has_call:
        monkeypatch.delattr(os, "posix_fallocate")
    seen, dataset = [], dataset_of([saved(noise(0, 40, 60)), b"", saved(noise(2, 90, 90))])
    with room_for_images(dataset, 32, tmp_path) as resized_images:
        assert not resized_images.any()
        fill_images(resized_images, dataset, workers=1, progress=lambda *step: seen.append(step))
        assert resized_images.shape == (3, 32, 32, 3)
        assert np.array_equal(resized_images[0], to_square(np.asarray(noise(0, 40, 60)), 32))
        assert np.array_equal(resized_images[2], to_square(np.asarray(noise(2, 90, 90)), 32))
        assert not resized_images[1].any()
    assert [*tmp_path.iterdir()] == []
    assert seen == [("read", 3, 3)]


def test_the_side_is_that_of_the_largest_usable_image(tmp_path):
    """Small images are not enlarged, a cut one does not count; without any, squares have one pixel."""
    cut, small = saved(noise(0, 30, 90))[:2000], saved(noise(1, 9, 9))
    for files, side in ([cut, small], 9), ([small, saved(noise(2, 12, 70))], 64), ([b"x"], 1), ([], 1):
        with room_for_images(dataset_of(files), 64, tmp_path) as resized_images:
            assert resized_images.shape == (len(files), side, side, 3)


def test_a_full_disk_is_known_before_the_work(tmp_path, monkeypatch):
    """Fault 48: room for all images is claimed first; the message has the size."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(ResourceError, match="expected room for 768 bytes of images to train on: No space"),
        room_for_images(dataset_of([saved(noise(0))]), 16, tmp_path),
    ):
        pass
