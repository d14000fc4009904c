import hashlib
import os
import re
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.embed import cache
from assay.embed.cache import ENTRY, FeatureStore, find_store, store_folder
from assay.errors import UsageError

WIDTH = 5


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def features(*numbers: int) -> np.ndarray:
    return np.array([[number + place / 8 for place in range(WIDTH)] for number in numbers], np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store", WIDTH)


def fill(store: FeatureStore, *numbers: int) -> None:
    store.append([key(number) for number in numbers], list(numbers), features(*numbers))


def found(store: FeatureStore, *numbers: int) -> list[int]:
    snapshot = store.snapshot()
    return [snapshot.find(key(number)) for number in numbers]


def lengths(store: FeatureStore) -> tuple[float, float]:
    """Rows in each of the two files, by their sizes."""
    sizes = [(store.folder / name).stat().st_size for name in ("rows", "index")]
    return sizes[0] / (WIDTH * 2), sizes[1] / ENTRY.itemsize


def damage(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_what_was_stored_is_found_with_its_remarks(store):
    """Features and remarks come back under the digest that they were stored under, and no other."""
    fill(store, 1, 2)
    fill(store, 3)
    snapshot = store.snapshot()
    rows = [snapshot.find(key(number)) for number in (3, 1, 2, 4)]
    assert rows == [2, 0, 1, -1]
    assert [snapshot.flags(row) for row in rows[:3]] == [3, 1, 2]
    assert np.array_equal(store.gather(np.array(rows[:3])), features(3, 1, 2))


def test_an_empty_store_holds_nothing(store):
    """A store that nobody has written to finds nothing, and makes no folder by being asked."""
    assert found(store, 1) == [-1]
    assert store.gather(np.array([-1, -1])).tolist() == [[0] * WIDTH] * 2
    assert store.gather(np.zeros(0, np.int64)).shape == (0, WIDTH)
    assert not store.folder.exists()


@pytest.mark.parametrize("ending", [b"\0", b"\0\0\0\0", b"\0" * 32])
def test_a_digest_may_end_in_zeros(store, ending):
    """Two digests that differ only in zeros at the end are two."""
    content, other = (b"\1" * 32)[: -len(ending)] + ending, key(1)
    store.append([content, other], [0, 0], features(7, 8))
    snapshot = store.snapshot()
    assert snapshot.find(content) == 0
    assert snapshot.find(content.rstrip(b"\0")) == -1


@settings(max_examples=30)
@given(arrays(np.float32, (3, WIDTH), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_features_keep_half_precision_and_stay_finite(tmp_path_factory, values):
    """A stored number is the nearest of float16, or its largest where it lies beyond."""
    store = FeatureStore(tmp_path_factory.mktemp("store"), WIDTH)
    store.append([key(number) for number in range(3)], [0] * 3, values)
    stored = store.gather(np.arange(3))
    assert np.isfinite(stored).all()
    assert np.array_equal(stored, values.clip(-65504, 65504).astype(np.float16))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_not_stored(store, bad):
    """A network that has gone wrong does not reach the cache."""
    with pytest.raises(
        ValueError, match=r"^expected finite features, got NaN or infinity: nothing was stored$"
    ):
        store.append([key(1)], [0], np.full((1, WIDTH), bad, np.float32))
    assert not store.folder.exists()


def test_the_newest_of_several_rows_is_found(store):
    """Features that were computed again replace the older ones."""
    fill(store, 1, 2)
    store.append([key(1)], [9], features(5))
    row = found(store, 1)[0]
    assert row == 2
    assert store.snapshot().flags(row) == 9


def test_a_snapshot_stays_as_it_was(store):
    """What another process adds later does not change a snapshot."""
    fill(store, 1)
    snapshot = store.snapshot()
    fill(store, 2)
    assert (snapshot.find(key(1)), snapshot.find(key(2))) == (0, -1)


@pytest.mark.parametrize(
    ("file", "place"),
    [("rows", WIDTH * 2 + 3), ("index", ENTRY.itemsize), ("index", 2 * ENTRY.itemsize - 1)],
    ids=["features", "content", "crc"],
)
def test_a_damaged_row_is_not_found(store, file, place):
    """One bit changed in the features, digest or checksum of one image hides that image alone."""
    fill(store, 1, 2, 3)
    damage(store.folder / file, place)
    assert found(store, 1, 2, 3) == [0, -1, 2]


@pytest.mark.parametrize(("file", "size"), [("rows", WIDTH * 2), ("index", ENTRY.itemsize)])
@pytest.mark.parametrize("cut", [1, 7])
def test_a_cut_file_loses_its_last_rows_only_and_heals(store, file, size, cut):
    """After a cut in either file the whole rows before it are found, and new ones line up again."""
    fill(store, 1, 2, 3)
    os.truncate(store.folder / file, 2 * size - cut)
    assert found(store, 1, 2, 3) == [0, -1, -1]
    fill(store, 4, 2)
    assert found(store, 1, 4, 2) == [0, 1, 2]
    assert lengths(store) == (3, 3)
    assert np.array_equal(store.gather(np.array([0, 1, 2])), features(1, 4, 2))


@pytest.mark.parametrize("file", ["rows", "index"])
def test_a_tail_that_an_interrupted_append_left_is_cut_off(store, file):
    """Bytes without their counterpart in the other file do not shift the rows that follow."""
    fill(store, 1)
    with (store.folder / file).open("ab") as tail:
        tail.write(b"\xff" * 170)
    fill(store, 2)
    assert lengths(store) == (2, 2)
    assert found(store, 1, 2) == [0, 1]
    assert np.array_equal(store.gather(np.array([0, 1])), features(1, 2))


def test_rows_in_order_are_not_copied(store):
    """What lies together is mapped from the store's own file, to be read only."""
    fill(store, *range(6))
    view = store.gather(np.arange(2, 5))
    assert np.array_equal(view, features(2, 3, 4))
    assert str(view.filename) == str(store.folder / "rows")
    assert not view.flags.writeable


def test_scattered_rows_are_copied_block_by_block(store, monkeypatch):
    """Rows in any order, repeated or -1, equal those taken one by one; the copy leaves no file behind."""
    monkeypatch.setattr(cache, "BLOCK", 2)
    fill(store, *range(6))
    rows = np.array([5, -1, 0, 0, 3, -1, 2])
    view = store.gather(rows)
    one_by_one = [features(row)[0] if row >= 0 else np.zeros(WIDTH) for row in rows.tolist()]
    assert view.dtype == np.float16
    assert np.array_equal(view, one_by_one)
    assert not view.flags.writeable
    assert sorted(file.name for file in store.folder.iterdir()) == ["index", "lock", "rows"]


def test_the_files_are_what_their_description_says(store):
    """``rows`` is float16 in order; an index entry is digest, flags and crc32 of the row."""
    fill(store, 1, 2)
    rows = np.frombuffer((store.folder / "rows").read_bytes(), np.float16).reshape(2, WIDTH)
    entry = np.frombuffer((store.folder / "index").read_bytes(), ENTRY)[1]
    assert np.array_equal(rows, features(1, 2))
    assert (entry["content"].item(), entry["flags"], entry["crc"]) == (key(2), 2, zlib.crc32(rows[1]))


def test_a_place_that_is_no_folder_is_named(tmp_path):
    """A cache that cannot be made is refused with its path and the way out."""
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / "file" / "store"
    message = f"cannot write {folder}: Not a directory; choose another cache with ASSAY_CACHE"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        fill(FeatureStore(folder, WIDTH), 1)


def test_a_cache_that_may_only_be_read_is_read(tmp_path, process):
    """A user without the right to write finds what is stored, gathers it, and is refused to add."""
    assert process("read_only", tmp_path) == {
        "found": [0, -1, 1],
        "gathered": [[1, 1], [0, 0], [2, 2]],
        "error": "cannot write store: Permission denied; choose another cache with ASSAY_CACHE",
        "exit_code": 2,
    }


def test_a_full_disk_leaves_what_was_stored(tmp_path, process):
    """At the limit of file size the error is ours, earlier rows stay, and later ones find their place."""
    told = process("full", tmp_path)
    assert re.fullmatch(
        re.escape(f"cannot write {tmp_path}/store: File too large; it needs ")
        + r"[\d,]+ bytes; free disk space or choose another cache with ASSAY_CACHE, then run it again",
        told["error"],
    )
    assert told["exit_code"] == 6
    assert told["kept"] is True
    assert told["goes_on"] is True


def test_a_copy_that_does_not_fit_is_refused(tmp_path, process):
    """Where the disk has no room for a copy of scattered rows, the process gets an error, not a signal."""
    assert process("full_copy", tmp_path) == {"exit_code": 6}


def test_processes_that_append_at_once_lose_nothing(tmp_path, process):
    """Six processes of fifty chunks each: every row is there once, whole and under its own digest."""
    assert process("append_at_once", tmp_path, 6, 50) == {"stored": 1200, "intact": 1200}


@pytest.mark.parametrize("left_rows", [0, 1, 500])
def test_a_store_is_found_without_its_backbone(tmp_path, left_rows):
    """How many features a row has is told by its check sum, whatever a killed append left behind."""
    store = FeatureStore(store_folder(tmp_path, "a" * 64), WIDTH)
    assert find_store(tmp_path, "a" * 64) is None
    fill(store, 1, 2, 3)
    with (store.folder / "rows").open("ab") as file:
        file.write(features(*range(left_rows)).astype(np.float16).tobytes() + b"x" * left_rows)
    assert find_store(tmp_path, "a" * 64) == store


def test_a_damaged_store_is_not_found(tmp_path):
    """A first row whose check sum fits at no width."""
    store = FeatureStore(store_folder(tmp_path, "a" * 64), WIDTH)
    fill(store, 1, 2)
    damage(store.folder / "rows", 0)
    assert find_store(tmp_path, "a" * 64) is None
    (store.folder / "rows").unlink()
    assert find_store(tmp_path, "a" * 64) is None
