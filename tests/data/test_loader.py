"""Images of a data set -> batches of pixels, for every step; single images; thumbnails."""

import hashlib
import io
import time
from dataclasses import replace

import numpy as np
import pytest
from new_images import draw_new_images
from pictures import saved
from PIL import Image, PngImagePlugin
from small_datasets import InMemory, dataset_of, drawn, noise

from assay.data import loader
from assay.data.decode import decode
from assay.data.files import Limits, Skipped
from assay.data.loader import draw_thumbnail, load, load_row, load_together, spread
from assay.data.read import read_images
from assay.data.resize import TargetSize, to_square

SIZE = 8
TARGET = TargetSize(SIZE)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(loader, "BATCH", 4)


def sha256(file: bytes) -> bytes:
    return hashlib.sha256(file).digest()


def knows(files, flags=()):
    """A cache that holds these files."""
    stored = {sha256(file): flags for file in files}
    return stored.get


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_hold_all_images_in_order(workers):
    """Every image is in one batch, in order, whatever the number of threads."""
    files = drawn(10, height=SIZE, width=SIZE)
    batches = list(load(dataset_of(files), [TARGET], workers=workers))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for batch in batches:
        assert batch.decoded.tolist() == batch.rows.tolist()
        assert all(
            np.array_equal(pixels, decode(files[row]).pixels)
            for row, pixels in zip(batch.decoded, batch.images[0], strict=True)
        )
    assert list(load(dataset_of([]), [TARGET])) == []


def test_what_cannot_be_used_is_skipped_with_its_reason():
    """Reasons of the data set, its source and the decoder; what is known to be bad is not opened."""
    broken, good = b"no image at all", drawn(1)[0]
    dataset = dataset_of([good, Skipped("permission"), broken, good], skipped={0: Skipped("bad_path")})
    (batch,) = load(dataset, [TARGET])
    reasons = {row: why.reason for row, why in batch.skipped.items()}
    assert reasons == {0: "bad_path", 1: "permission", 2: "not_an_image"}
    assert batch.contents == {2: sha256(broken), 3: sha256(good)}
    assert batch.decoded.tolist() == [3]
    assert sorted(dataset.source.reads) == [1, 2, 3]


def test_known_images_are_not_decoded():
    """A batch that is known has hashes and flags, and no pixels; a broken image in it changes nothing."""
    files = [*drawn(3), b"no image at all"]
    (batch,) = load(dataset_of(files), [TARGET], known=knows(files[:3], ("animated", "bad_exif")))
    assert batch.images[0].shape == (0, SIZE, SIZE, 3)
    assert batch.contents == {row: sha256(file) for row, file in enumerate(files)}
    assert batch.flags == dict.fromkeys(range(3), ("animated", "bad_exif"))
    assert list(batch.skipped) == [3]


@pytest.mark.parametrize("missing", range(4))
def test_a_batch_is_decoded_whole_or_not_at_all(missing):
    """Fault 47: one image that is not known makes its whole batch decoded, and no other batch."""
    files = drawn(8)
    known = knows(file for row, file in enumerate(files) if row != missing)
    first, second = load(dataset_of(files), [TARGET], known=known)
    (unknown,) = load(dataset_of(files[:4]), [TARGET])
    assert first.decoded.tolist() == [0, 1, 2, 3]
    assert np.array_equal(first.images[0], unknown.images[0])
    assert len(second.decoded) == 0


def test_an_image_that_is_gone_when_it_is_needed_again_is_skipped():
    """A known image whose file vanishes before its batch is decoded is skipped, and nothing else."""
    files = drawn(4)

    class Vanishing:
        reads = 0

        def read(self, index):
            self.reads += index == 0
            return Skipped("changed") if index == 0 and self.reads == 2 else files[index]

    dataset = replace(dataset_of(files), source=Vanishing())
    (batch,) = load(dataset, [TARGET], known=knows(files[:1]))
    assert (list(batch.skipped), batch.decoded.tolist(), list(batch.contents)) == ([0], [1, 2, 3], [1, 2, 3])


def test_what_a_cache_holds_of_a_cut_or_large_image_is_for_those_who_accept_it():
    """With stricter options than those of the run that stored it, the image is skipped with its reason."""
    whole = drawn(1)[0]
    cut = whole[: len(whole) // 2]
    (strict,) = load(dataset_of([cut]), [TARGET], known=knows([cut], ("truncated",)))
    lenient = replace(dataset_of([cut]), accept_truncated=True)
    (stored,) = load(lenient, [TARGET], known=knows([cut], ("truncated",)))
    (anew,) = load(lenient, [TARGET])
    assert strict.skipped[0].reason == "truncated"
    assert (stored.skipped, len(stored.decoded)) == ({}, 0)
    assert stored.flags == anew.flags == {0: ("truncated",)}
    assert anew.images[0].shape == (1, SIZE, SIZE, 3)
    small = replace(dataset_of([whole]), limits=Limits(max_pixels=100))
    (large,) = load(small, [TARGET], known=knows([whole]))
    assert large.skipped[0].reason == "too_many_pixels"


def test_reading_stays_a_few_batches_ahead_and_stops_when_nobody_wants_more():
    """After Ctrl-C or an error only the image that a thread is at is still read."""
    dataset = dataset_of(drawn(1) * 100)
    batches = load(dataset, [TARGET])
    next(batches)
    batches.close()
    assert len(dataset.source.reads) <= 4 * (1 + loader.AHEAD)
    files = drawn(16)

    class Slow(InMemory):
        def read(self, index):
            time.sleep(0.3 if index == 4 else 0)
            return super().read(index)

    slow = replace(dataset_of(files), source=Slow(files))
    batches = load(slow, [TARGET], workers=1)
    next(batches)
    batches.close()
    assert slow.source.reads == [0, 1, 2, 3, 4]


def test_all_targets_come_from_one_decoding():
    """Each is the resize of the pixels that the first target has decoded; a photo is decoded smaller."""
    files = [saved(Image.effect_noise((640, 360), 64).convert("RGB"), "JPEG"), drawn(1)[0]]
    targets = (TargetSize(32, "sharp"), TargetSize(SIZE, "nearest"), TargetSize(16))
    dataset = dataset_of(files)
    (batch,) = load(dataset, targets)
    for target, images in zip(targets, batch.images, strict=True):
        for file, found in zip(files, images, strict=True):
            assert np.array_equal(found, to_square(decode(file, at_least=32).pixels, *target))
    assert sorted(dataset.source.reads) == [0, 1]


def test_damage_is_done_to_the_decoded_image_before_it_is_resized():
    """There are as many images as variants, each resized from the size that was asked for."""
    photo = saved(Image.effect_noise((640, 360), 64).convert("RGB"), "JPEG")
    (batch,) = load(dataset_of([photo]), [TARGET], at_least=300, damage=lambda image: [image, 255 - image])
    pixels = decode(photo, at_least=300).pixels
    assert pixels.shape == (360, 640, 3)
    for images, wanted in zip(batch.images, (pixels, 255 - pixels), strict=True):
        assert np.array_equal(images[0], to_square(wanted, SIZE))


def test_the_first_look_at_many_images_is_that_of_processes(monkeypatch):
    """They find what threads find; a few images, and those seen before, are not worth a process."""
    files = [*drawn(40), b"no image at all", *drawn(3)]
    by_threads, started = list(load(dataset_of(files), [TARGET])), []

    class Noted(loader.DecoderPool):
        def __init__(self, number):
            started.append(number)
            super().__init__(number)

    monkeypatch.setattr(loader, "DecoderPool", Noted)
    monkeypatch.setattr(loader, "FEW", 43)
    list(load(dataset_of(files[:43]), [TARGET]))
    contents = [sha256(file) for file in files]
    list(load(replace(dataset_of(files), contents=contents), [TARGET]))
    assert started == []
    by_processes = list(load(dataset_of(files), [TARGET], workers=2))
    assert started == [2]
    for one, other in zip(by_threads, by_processes, strict=True):
        assert (one.skipped, one.flags, one.contents) == (other.skipped, other.flags, other.contents)
        assert np.array_equal(one.images[0], other.images[0])


def test_some_images_are_loaded_together(tmp_path):
    """Of eleven files seven are images; without a usable one there is an empty batch of the right shape."""
    folder = draw_new_images(tmp_path / "new")
    dataset = read_images(folder)
    found = load_together(dataset, TargetSize(16, "nearest"), np.arange(len(dataset)))
    pixels = [decode((folder / name).read_bytes(), at_least=16).pixels for name in dataset.names[:7]]
    assert found.decoded.tolist() == list(range(7))
    assert np.array_equal(found.images[0], np.stack([to_square(one, 16, "nearest") for one in pixels]))
    for rows in (np.arange(7, 11), np.arange(0)):
        none = load_together(dataset, TargetSize(32), rows)
        assert none.images[0].shape == (0, 32, 32, 3)
        assert len(none.decoded) == 0
    whole = decode((folder / dataset.names[0]).read_bytes()).pixels
    assert np.array_equal(load_row(dataset, 0, at_least=1).pixels, whole)
    assert isinstance(load_row(dataset, 10, at_least=1), Skipped)


def test_a_sample_is_spread_over_the_rows():
    """From the first to the last; all of them where there are no more."""
    rows = np.arange(10, 20)
    found = [spread(some, most).tolist() for some, most in ((rows, 3), (rows, 50), (rows[:0], 5))]
    assert found == [[10, 14, 19], rows.tolist(), []]


def test_a_thumbnail_is_small_and_never_enlarged():
    """Tiny images keep their pixels, large ones their shape; half a file is shown as far as it goes."""
    small, photo = noise(0, 40, 60), saved(Image.new("RGB", (600, 300)), "JPEG")
    shown = Image.open(io.BytesIO(draw_thumbnail(InMemory([saved(small)]), 0, 1024)))
    assert (shown.format, shown.size) == ("WEBP", (60, 40))
    assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(small))
    assert Image.open(io.BytesIO(draw_thumbnail(InMemory([photo]), 0, 160))).size == (160, 80)
    half = saved(small)[: len(saved(small)) // 2]
    assert isinstance(draw_thumbnail(InMemory([half]), 0, 160), bytes)


def test_nothing_but_pixels_leaves_a_file_by_its_thumbnail():
    """EXIF, comments and text are gone, and so are bytes hidden after the image."""
    secret = b"taken at home <script>alert(1)</script>"
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", secret.decode())
    files = [
        saved(noise(0), "PNG", pnginfo=text, exif=exif) + secret,
        saved(noise(0), "JPEG", exif=exif, comment=secret) + secret,
        saved(noise(0), "WEBP", exif=exif, xmp=secret),
    ]
    for data in files:
        assert secret in data
        shown = draw_thumbnail(InMemory([data]), 0, 160)
        assert not any(hidden in shown for hidden in (secret, b"EXIF", b"XMP"))


def test_what_is_no_image_has_no_thumbnail():
    """SVG, text and what may not be read have a reason and no bytes."""
    files = [b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", b"<html>", Skipped("outside_root")]
    found = [draw_thumbnail(InMemory(files), row, 160).reason for row in range(3)]
    assert found == ["unsupported_format", "not_an_image", "outside_root"]
