"""Parquet: a table of labels, and images that are stored inside it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

from assay.data import parquet
from assay.data.dataset import Skipped
from assay.data.parquet import WINDOW, parquet_listing, read_parquet
from assay.errors import TableError


def stored(path, images, **columns):
    pl.DataFrame({"image": images, **columns}).write_parquet(path)
    return path


def test_text_integers_and_paths_become_strings(tmp_path):
    """A struct gives its path, null is empty, gaps make no floats, other types are left out."""
    path = tmp_path / "a.parquet"
    pl.DataFrame(
        {
            "image": [{"bytes": None, "path": "1.png"}, {"bytes": None, "path": "2.png"}],
            "label": [7, None],
            "word": ["NA", None],
            "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
            "gaps": [3.0, float("nan")],
            "sure": [True, None],
            "score": [0.5, 1.0],
            "box": [{"x": 1}, {"x": 2}],
        }
    ).write_parquet(path)
    table = read_parquet(path)
    assert table.columns == ("image", "label", "word", "kind", "gaps", "sure")
    assert table.rows == (("1.png", "7", "NA", "a", "3", "true"), ("2.png", "", "", "b", "", ""))
    assert table.where(1) == "a.parquet row 2"


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
    collect, reads = parquet._collect, []

    def listen(path, frame):
        reads.append(frame)
        return collect(path, frame)

    monkeypatch.setattr(parquet, "_collect", listen)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(source.read, range(len(data)))) == data
    assert len(reads) == 4


def test_few_large_images_are_read_at_once(tmp_path, monkeypatch):
    """The bytes that are held are bounded."""
    monkeypatch.setattr(parquet, "WINDOW_BYTES", 5_000)
    data = [bytes([i]) + np.random.default_rng(i).bytes(999) for i in range(40)]
    source = parquet_listing(stored(tmp_path / "a.parquet", data)).source
    assert 1 <= source.window <= 5
    assert [source.read(i) for i in range(40)] == data
    assert sum(map(len, source._windows.values())) <= 20


def test_an_image_that_is_not_there_is_skipped(tmp_path):
    """A row without bytes, or one that the file does not have any more."""
    path = stored(tmp_path / "a.parquet", [b"x", None, b"z"])
    source = parquet_listing(path).source
    stored(path, [b"x", None])
    found = [source.read(row) for row in range(3)]
    assert found[:2] == [b"x", Skipped("missing_image", "row 2 of a.parquet is null")]
    assert found[2] == Skipped("changed", "a.parquet has no row 3 any more")


def test_the_image_column_can_be_named(tmp_path):
    """Of two that may hold images it is the one that is given; one of paths is refused with the way out."""
    path = tmp_path / "a.parquet"
    pl.DataFrame({"picture": [b"x"], "mask": [b"y"], "label": ["a"]}).write_parquet(path)
    assert parquet_listing(path, image_column="picture").source.read(0) == b"x"
    message = (
        r"^a.parquet: expected one image column \(path, .*\), got the columns picture, mask, label; name"
    )
    with pytest.raises(TableError, match=message):
        parquet_listing(path)
    path = stored(path, ["1.png"], label=["a"])
    bare = pl.DataFrame({"image": [{"bytes": None, "path": "/x/1.png"}], "label": ["a"]})
    without_bytes = tmp_path / "b.parquet"
    bare.cast({"image": pl.Struct({"bytes": pl.Binary, "path": pl.String})}).write_parquet(without_bytes)
    for place in (path, without_bytes):
        message = rf"'image' holds paths and no bytes of images; .* --noisy {place.name}"
        with pytest.raises(TableError, match=message):
            parquet_listing(place)


def test_a_file_that_is_missing_or_damaged_is_refused(tmp_path, write_file):
    """Neither that nor a file of another kind is a crash."""
    with pytest.raises(TableError, match=r"cannot read .*none\.parquet: no such file"):
        read_parquet(tmp_path / "none.parquet")
    with pytest.raises(TableError, match=r"a\.parquet is not a Parquet file: "):
        read_parquet(write_file("a.parquet", "path,label\n" * 9))
    path = stored(tmp_path / "b.parquet", [str(i) * 50 for i in range(500)], label=list(range(500)))
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(TableError, match=r"b\.parquet is (damaged|not a Parquet file): "):
        read_parquet(path)
