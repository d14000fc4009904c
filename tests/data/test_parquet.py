import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

from assay.data import parquet
from assay.data.dataset import Skipped
from assay.data.parquet import WINDOW, parquet_listing, read_parquet
from assay.data.tables import pick_columns
from assay.errors import TableError


def stored(path, images, **columns):
    pl.DataFrame({"image": images, **columns}).write_parquet(path)
    return path


def test_text_integers_and_paths_become_strings(tmp_path):
    """A struct gives its path, null is empty, other types are left out, and places are rows."""
    path = tmp_path / "a.parquet"
    pl.DataFrame(
        {
            "image": [{"bytes": None, "path": "1.png"}, {"bytes": None, "path": "2.png"}],
            "label": [7, None],
            "word": ["NA", None],
            "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
            "score": [0.5, 1.5],
            "box": [{"x": 1}, {"x": 2}],
        }
    ).write_parquet(path)
    table = read_parquet(path)
    assert table.columns == ("image", "label", "word", "kind")
    assert table.rows == (("1.png", "7", "NA", "a"), ("2.png", "", "", "b"))
    assert table.where(1) == "a.parquet row 2"


def test_whole_numbers_with_gaps_are_integers(tmp_path):
    """As pandas keeps them; what else is left of a table whose labels cannot be read is no label."""
    path = tmp_path / "a.parquet"
    gaps = pl.DataFrame({"path": ["1.png", "2.png", "3.png"], "label": [3.0, None, float("nan")]})
    gaps.with_columns(sure=pl.Series([True, False, None])).write_parquet(path)
    assert read_parquet(path).rows == (("1.png", "3", "true"), ("2.png", "", "false"), ("3.png", "", ""))
    gaps.with_columns(label=pl.Series([0.5, 1.0, 2.0])).write_parquet(path)
    with pytest.raises(TableError, match=r"^a.parquet: expected one label column .* got none in 'path'; "):
        pick_columns(read_parquet(path))


@pytest.mark.parametrize("nested", [True, False], ids=["struct", "binary"])
def test_images_inside_are_read_in_row_order(tmp_path, nested):
    """Every image comes back whole, in whatever order and from however many threads it is asked for."""
    data = [str(i).encode() * 9 for i in range(2 * WINDOW + 3)]
    images = [{"bytes": piece, "path": None} for piece in data] if nested else data
    listing = parquet_listing(stored(tmp_path / "a.parquet", images))
    order = [*range(len(data)), *reversed(range(0, len(data), 50))]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(listing.source.read, order)) == [data[i] for i in order]
    assert listing.names == tuple(str(i + 1) for i in range(len(data)))


def test_threads_that_come_to_a_window_together_read_it_once(tmp_path, monkeypatch):
    """Sixteen threads through four windows read four."""
    data = [str(i).encode() for i in range(4 * WINDOW)]
    source = parquet_listing(stored(tmp_path / "a.parquet", data)).source
    load, starts = source._load, []

    def listen(start):
        starts.append(start)
        return load(start)

    monkeypatch.setattr(source, "_load", listen)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(source.read, range(len(data)))) == data
    assert sorted(starts) == [*range(0, len(data), WINDOW)]


def test_paths_name_the_images_if_they_are_distinct(tmp_path):
    """A path is a name only if every row has one of its own."""
    distinct = [{"bytes": b"x", "path": "b.png"}, {"bytes": b"y", "path": "a.png"}]
    assert parquet_listing(stored(tmp_path / "a.parquet", distinct)).names == ("b.png", "a.png")
    twice = [{"bytes": b"x", "path": "a.png"}, {"bytes": b"y", "path": "a.png"}]
    assert parquet_listing(stored(tmp_path / "b.parquet", twice)).names == ("1", "2")


def test_a_null_image_is_skipped(tmp_path):
    """A row without bytes says so when it is read."""
    path = stored(tmp_path / "a.parquet", [{"bytes": b"x", "path": ""}, {"bytes": None, "path": ""}])
    source = parquet_listing(path).source
    assert source.read(1) == Skipped("missing_image", "row 2 of a.parquet is null")


def test_the_source_can_be_sent_to_another_process(tmp_path):
    """A copy of the source, made as for a worker, reads the same bytes."""
    source = parquet_listing(stored(tmp_path / "a.parquet", [b"x", b"y"])).source
    assert copy.deepcopy(source).read(1) == b"y"


def test_the_image_column_can_be_named(tmp_path):
    """Of two that may hold images, under names that tell nothing, it is the one that is given."""
    path = tmp_path / "a.parquet"
    pl.DataFrame({"picture": [b"x"], "mask": [b"y"], "label": ["a"]}).write_parquet(path)
    assert parquet_listing(path, image_column="picture").source.read(0) == b"x"
    with pytest.raises(TableError) as refused:
        parquet_listing(path)
    assert str(refused.value) == (
        "a.parquet: expected one image column (path, file_name, filename, filepath, image, "
        "image_path, file), "
        "got the columns picture, mask, label; name it with --path-col"
    )


def test_paths_instead_of_images_are_refused(tmp_path):
    """A file of paths is a label file, and the message says how to give it."""
    path = stored(tmp_path / "a.parquet", ["1.png"], label=["a"])
    with pytest.raises(TableError, match=r"'image' holds paths and no images; .* --noisy a\.parquet"):
        parquet_listing(path)


def test_a_file_of_another_kind_is_refused(tmp_path, write_file):
    """Neither a missing file nor one that is not Parquet is a crash."""
    with pytest.raises(TableError, match=r"cannot read .*none\.parquet: no such file"):
        read_parquet(tmp_path / "none.parquet")
    with pytest.raises(TableError, match=r"a\.parquet is not a Parquet file: "):
        read_parquet(write_file("a.parquet", "path,label\n" * 9))


def test_a_damaged_file_is_refused(tmp_path):
    """Data that do not decode are refused when they are read, in whatever way they are broken."""
    path = stored(tmp_path / "a.parquet", [str(i) * 50 for i in range(500)], label=list(range(500)))
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(TableError, match=r"a\.parquet is (damaged|not a Parquet file): "):
        read_parquet(path)


def test_of_large_images_few_are_read_at_once(tmp_path, monkeypatch):
    """What is held is bounded in bytes."""
    monkeypatch.setattr(parquet, "WINDOW_BYTES", 5_000)
    data = [bytes([i]) + np.random.default_rng(i).bytes(999) for i in range(40)]
    source = parquet_listing(stored(tmp_path / "a.parquet", data)).source
    assert 1 <= source.window <= 5
    assert [source.read(i) for i in range(40)] == data
    assert sum(len(window) for _, window in source._windows) <= 20


def test_a_file_that_became_shorter_is_no_error(tmp_path):
    """A row that is not there any more is skipped."""
    source = parquet_listing(stored(tmp_path / "a.parquet", [b"1", b"2", b"3"])).source
    stored(tmp_path / "a.parquet", [b"1"])
    assert source.read(0) == b"1"
    assert source.read(2).reason == "changed"
