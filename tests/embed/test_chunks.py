import hashlib
import time
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pictures import saved
from PIL import Image
from small_datasets import InMemory, dataset_of, drawn

from assay.data.dataset import Skipped
from assay.data.decoders import decoders
from assay.data.forms import TargetSize
from assay.data.images import FLAGS, decode
from assay.data.resize import to_square
from assay.embed import chunks
from assay.embed.cache import FeatureStore
from assay.embed.chunks import Known, bits, read_chunks, words

SIZE = 8
FORM = TargetSize(SIZE)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 4)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store", 1)


def keep(store: FeatureStore, *files: bytes, flags: int = 0) -> None:
    contents = [hashlib.sha256(file).digest() for file in files]
    store.append(contents, [flags] * len(files), np.ones((len(files), 1), np.float32))


def stored_in(store: FeatureStore) -> Known:
    snapshot = store.snapshot()

    def known(content: bytes):
        row = snapshot.find(content)
        return words(snapshot.flags(row)) if row >= 0 else None

    return known


@pytest.mark.parametrize("workers", [1, 3])
def test_chunks_cover_all_images_in_order(workers):
    """Every image is in one chunk, in order, whatever the number of threads."""
    files = drawn(10, height=SIZE, width=SIZE)
    found = list(read_chunks(dataset_of(files), FORM, workers=workers))
    squares = {row: square for chunk in found for row, square in chunk.squares(FORM).items()}
    assert [chunk.rows for chunk in found] == [range(4), range(4, 8), range(8, 10)]
    assert list(squares) == list(range(10))
    for row, file in enumerate(files):
        with Image.open(BytesIO(file)) as image:
            assert np.array_equal(squares[row], np.asarray(image))


def test_an_empty_dataset_has_no_chunks():
    """Nothing in, nothing out."""
    assert list(read_chunks(dataset_of([]), FORM)) == []


def test_what_cannot_be_used_is_skipped_with_its_reason():
    """The dataset's own reasons, the source's and the decoder's all arrive; only the last has a digest."""
    broken, good = b"no image at all", drawn(1)[0]
    files = [good, Skipped("permission"), broken, good]
    (chunk,) = read_chunks(dataset_of(files, skipped={0: Skipped("bad_path")}), FORM)
    assert {row: why.reason for row, why in chunk.skipped.items()} == {
        0: "bad_path",
        1: "permission",
        2: "not_an_image",
    }
    assert chunk.contents == {2: hashlib.sha256(broken).digest(), 3: hashlib.sha256(good).digest()}
    assert list(chunk.squares(FORM)) == [3]


def test_an_image_known_to_be_unusable_is_not_read():
    """What the dataset skips is never opened."""
    dataset = dataset_of(drawn(3), skipped={1: Skipped("bad_path")})
    list(read_chunks(dataset, FORM))
    assert sorted(dataset.source.reads) == [0, 2]


def test_stored_images_are_not_decoded(store):
    """A chunk whose images are all stored has digests and remarks, and no pixels."""
    files = drawn(4)
    keep(store, *files, flags=0b101)
    (chunk,) = read_chunks(dataset_of(files), FORM, known=stored_in(store))
    assert chunk.squares(FORM) == {}
    assert chunk.contents == {row: hashlib.sha256(file).digest() for row, file in enumerate(files)}
    assert chunk.flags == dict.fromkeys(range(4), (FLAGS[0], FLAGS[2]))


def test_a_broken_image_among_stored_ones_does_not_wake_its_chunk(store):
    """An image that never had features is skipped again; its neighbours are still not decoded."""
    files = [*drawn(3), b"no image at all"]
    keep(store, *files[:3])
    (chunk,) = read_chunks(dataset_of(files), FORM, known=stored_in(store))
    assert chunk.squares(FORM) == {}
    assert list(chunk.skipped) == [3]


@pytest.mark.parametrize("missing", range(4))
def test_a_chunk_is_decoded_whole_or_not_at_all(store, missing):
    """One image that is not stored makes its whole chunk decoded, and no other chunk."""
    files = drawn(8)
    keep(store, *(file for row, file in enumerate(files) if row != missing))
    first, second = read_chunks(dataset_of(files), FORM, known=stored_in(store))
    (unknown,) = read_chunks(dataset_of(files[:4]), FORM)
    assert first.squares(FORM).keys() == unknown.squares(FORM).keys() == set(range(4))
    assert all(np.array_equal(first.squares(FORM)[row], unknown.squares(FORM)[row]) for row in range(4))
    assert second.squares(FORM) == {}


def test_an_image_that_is_gone_when_it_is_needed_again_is_skipped(store):
    """A stored image whose file vanishes before its chunk is decoded is skipped, and nothing else."""
    files = drawn(4)
    keep(store, files[0])

    class Vanishing:
        reads = 0

        def read(self, index):
            self.reads += index == 0
            return Skipped("changed") if index == 0 and self.reads == 2 else files[index]

    dataset = replace(dataset_of(files), source=Vanishing())
    (chunk,) = read_chunks(dataset, FORM, known=stored_in(store))
    assert (list(chunk.skipped), list(chunk.squares(FORM)), list(chunk.contents)) == (
        [0],
        [1, 2, 3],
        [1, 2, 3],
    )


def test_reading_stays_a_few_chunks_ahead():
    """Before the second chunk is asked for, only the chunks that may be ahead have been read."""
    dataset = dataset_of(drawn(1) * 100)
    generator = read_chunks(dataset, FORM)
    next(generator)
    generator.close()
    assert len(dataset.source.reads) <= 4 * (1 + chunks.AHEAD)


def test_what_was_read_ahead_is_dropped_when_nobody_wants_it():
    """After Ctrl-C or an error only the image that a thread is at is still read."""
    files = drawn(16)

    class Slow(InMemory):
        def read(self, index):
            time.sleep(0.3 if index == 4 else 0)
            return super().read(index)

    dataset = replace(dataset_of(files), source=Slow(files))
    generator = read_chunks(dataset, FORM, workers=1)
    next(generator)
    generator.close()
    assert dataset.source.reads == [0, 1, 2, 3, 4]


def test_an_error_of_the_source_arrives_and_stops_the_reading():
    """A source that fails, which it should not, is not silenced by the threads."""

    class Failing:
        def read(self, index):
            raise RuntimeError(f"row {index} is on fire")

    dataset = replace(dataset_of(drawn(8)), source=Failing())
    with pytest.raises(RuntimeError, match=r"^row 0 is on fire$"):
        list(read_chunks(dataset, FORM))


def test_a_large_photo_is_a_small_square():
    """Squares have the size that was asked for, whatever the picture's shape."""
    photo = saved(Image.effect_noise((640, 360), 64).convert("RGB"), "JPEG")
    (chunk,) = read_chunks(dataset_of([photo]), FORM)
    assert chunk.squares(FORM)[0].shape == (SIZE, SIZE, 3)


def test_several_forms_are_made_of_one_decoding():
    """Each square is that of its form alone; of a photo they come from the pixels of the first form."""
    photo = saved(Image.effect_noise((640, 360), 64).convert("RGB"), "JPEG")
    forms = (TargetSize(32, "sharp"), TargetSize(SIZE, "nearest"), TargetSize(16))
    (chunk,) = read_chunks(dataset_of([photo, drawn(1)[0]]), *forms)
    for row, file in enumerate((photo, drawn(1)[0])):
        pixels = decode(file, at_least=32).pixels
        for form in forms:
            assert np.array_equal(chunk.squares(form)[row], to_square(pixels, *form))


def test_many_images_are_decoded_by_processes(monkeypatch):
    """What they find is what a thread finds; a few images are not worth a process."""
    files = [*drawn(6), b"no image at all"]
    (few, more), asked = read_chunks(dataset_of(files), FORM), []

    @contextmanager
    def noted(number):
        asked.append(number)
        with decoders(number) as make:
            yield make

    monkeypatch.setattr("assay.data.decoders.decoders", noted)
    monkeypatch.setattr("assay.data.decoders.FEW", 6)
    found = list(read_chunks(dataset_of(files), FORM, workers=2))
    list(read_chunks(dataset_of(files[:6]), FORM))
    assert asked == [2]
    for one, other in zip(found, (few, more), strict=True):
        assert one.skipped == other.skipped
        assert all(
            np.array_equal(one.squares(FORM)[row], square) for row, square in other.squares(FORM).items()
        )


def test_remarks_survive_as_bits(store):
    """Every remark there is has a bit of its own, and comes back from it."""
    files = drawn(len(FLAGS))
    for file, flag in zip(files, FLAGS, strict=True):
        keep(store, file, flags=bits([flag]))
    dataset = replace(dataset_of(files), accept_truncated=True)
    found = read_chunks(dataset, FORM, known=stored_in(store))
    assert [flags for chunk in found for flags in chunk.flags.values()] == [(flag,) for flag in FLAGS]
    assert bits(FLAGS) == 2 ** len(FLAGS) - 1


def test_what_was_stored_of_a_cut_image_is_for_those_who_accept_it(store):
    """Others decode the file, and skip it with the reason."""
    whole = drawn(1)[0]
    cut = whole[: len(whole) // 2]
    keep(store, cut, flags=bits(["truncated"]))
    dataset = dataset_of([cut])
    (strict,) = read_chunks(dataset, FORM, known=stored_in(store))
    (lenient,) = read_chunks(replace(dataset, accept_truncated=True), FORM, known=stored_in(store))
    (anew,) = read_chunks(replace(dataset, accept_truncated=True), FORM)
    assert strict.skipped[0].reason == "truncated"
    assert (lenient.skipped, lenient.squares(FORM)) == ({}, {})
    assert lenient.flags == anew.flags == {0: ("truncated",)}
    assert anew.squares(FORM)[0].shape == (SIZE, SIZE, 3)
