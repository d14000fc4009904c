"""Rows are written once and read back, a part at a time; images are found by their addresses."""

import os
import tarfile
import zipfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from object_store import BUCKET, object_store
from small_runs import CLASSES, draw_data

from assay.data import addresses
from assay.data.dataset import ReadOptions, Skipped
from assay.data.memory import memory_listing
from assay.data.place import Url
from assay.data.read import list_images, read_dataset, read_images
from assay.errors import TableError, UsageError
from assay.scale.rows import dataset_of, images_digest, part_path, write_rows


@pytest.fixture
def data(tmp_path):
    return draw_data(tmp_path / "data", 30)


def parts(folder, facts):
    return [pl.read_parquet(part_path(folder, shard)) for shard in range(facts.shards)]


def test_parts_hold_what_the_data_set_holds(data, tmp_path):
    """Labels, names, skipped rows and decisions; the images are read at their places."""
    (data.images / "3.png").write_bytes(b"")
    (data.images / "4.png").unlink()
    dataset = replace(read_dataset(data.images, data.read), decided={7: 1, 9: -1})
    facts = write_rows(dataset, tmp_path / "rows", data.read, 12)
    frames = parts(tmp_path / "rows", facts)
    assert [frame.height for frame in frames] == [12, 12, 6]
    whole = dataset_of(pl.concat(frames), facts)
    assert (whole.names, whole.classes) == (dataset.names, dataset.classes)
    assert np.array_equal(whole.noisy, dataset.noisy)
    assert np.array_equal(whole.trusted, dataset.trusted)
    assert (whole.decided, whole.skipped) == (dataset.decided, dataset.skipped)
    assert [whole.read(row) for row in range(30)] == [dataset.read(row) for row in range(30)]


@pytest.mark.parametrize("kind", ["zip", "tar", "parquet", "tars", "parquets"])
def test_images_in_files_are_read_by_their_number(data, tmp_path, kind):
    """One archive or table, or a folder of them."""
    names = [f"{row}.png" for row in range(30)]
    place = tmp_path / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name in names:
                archive.write(data.images / name, name)
    elif kind == "tar":
        pack(place, data.images, names)
    elif kind == "parquet":
        table(place, data.images, names)
    else:
        place.mkdir()
        for number, some in enumerate((names[:17], names[17:])):
            make = pack if kind == "tars" else table
            make(place / f"{number}.{kind[:-1]}", data.images, some)
    dataset = read_dataset(place, data.read)
    facts = write_rows(dataset, tmp_path / "rows", data.read)
    again = dataset_of(parts(tmp_path / "rows", facts)[0], facts)
    assert again.names == dataset.names == tuple(names)
    assert [again.read(row) for row in range(30)] == [(data.images / name).read_bytes() for name in names]


def pack(place, images, names):
    with tarfile.open(place, "w") as archive:
        for name in names:
            archive.add(images / name, name)


def table(place, images, names, **more):
    cells = [{"bytes": (images / name).read_bytes(), "path": name} for name in names]
    pl.DataFrame({"image": cells, **more}).write_parquet(place)


def test_a_folder_of_parquet_files_has_its_labels_in_them(data, tmp_path):
    """One after the other; files with other columns are refused, and equal names are told apart."""
    place = tmp_path / "parts"
    place.mkdir()
    names = [f"{row}.png" for row in range(30)]
    labels = [data.noisy[row] for row in range(30)]
    table(place / "a-2.parquet", data.images, names[:10], label=labels[:10])
    table(place / "a-10.parquet", data.images, names[10:], label=labels[10:])
    dataset = read_dataset(place, ReadOptions())
    assert dataset.names == tuple(names)
    assert [dataset.classes[label] for label in dataset.noisy] == [str(label) for label in labels]
    table(place / "b.parquet", data.images, names[:2], label=labels[:2])
    assert list_images(place, ReadOptions()).names[:2] == ("a-2.parquet/0.png", "a-2.parquet/1.png")
    table(place / "c.parquet", data.images, names[:2], other=labels[:2])
    with pytest.raises(TableError, match=r"c.parquet: expected the columns of a-2.parquet"):
        read_dataset(place, ReadOptions())


def test_a_webdataset_has_its_labels_beside_the_images(data, tmp_path):
    """In tars of a folder, and in those of a bucket, which each process copies and deletes again."""
    place, names = tmp_path / "parts", [f"{row}.png" for row in range(30)]
    place.mkdir()
    for number, some in enumerate((names[:12], names[12:])):
        pack(place / f"train-{number:03d}.tar", data.images, some)
        with tarfile.open(place / f"train-{number:03d}.tar", "a") as archive:
            for name in some:
                text = CLASSES[data.noisy[int(name[:-4])]].encode() + b"\n"
                about = tarfile.TarInfo(name.replace(".png", ".cls"))
                about.size = len(text)
                archive.addfile(about, BytesIO(text))
    here = read_dataset(place, ReadOptions())
    assert [here.classes[label] for label in here.noisy] == [CLASSES[label] for label in data.noisy]
    with object_store() as store:
        for file in place.iterdir():
            store.put(f"sets/{file.name}", file.read_bytes())
        there = read_dataset(Url(f"s3://{BUCKET}/sets"), ReadOptions())
        assert (there.names, there.classes) == (here.names, here.classes) == (tuple(names), CLASSES)
        assert np.array_equal(there.noisy, here.noisy)
        facts = write_rows(there, tmp_path / "rows", ReadOptions())
        (rows,) = parts(tmp_path / "rows", facts)
        assert rows["uri"][0] == f"s3://{BUCKET}/sets/train-000.tar"
        again = dataset_of(rows, facts)
        assert [again.read(row) for row in range(30)] == [here.read(row) for row in range(30)]
        store.put("sets/train-001.tar", (place / "train-000.tar").read_bytes())
        store.put("sets/train-000.tar", b"no tar any more")
        addresses._opened.cache_clear()
        reasons = [getattr(again.read(row), "reason", "") for row in (20, 3)]
        assert reasons == ["changed", "unreadable"]


def test_one_file_in_a_store_is_copied_by_each_process(data, tmp_path):
    """An archive, a table or an image; the rows name the object, not the copy that was listed."""
    names = [f"{row}.png" for row in range(6)]
    pack(tmp_path / "all.tar", data.images, names)
    table(tmp_path / "all.parquet", data.images, names)
    with object_store() as store:
        for file in (tmp_path / "all.tar", tmp_path / "all.parquet", data.images / "0.png"):
            store.put(file.name, file.read_bytes())
            url = f"s3://{BUCKET}/{file.name}"
            dataset = read_images(Url(url), ReadOptions())
            facts = write_rows(dataset, tmp_path / "rows", ReadOptions())
            (rows,) = parts(tmp_path / "rows", facts)
            assert set(rows["uri"]) == {url}
            again = dataset_of(rows, facts)
            expected = [(data.images / name).read_bytes() for name in names[: len(dataset)]]
            assert [again.read(row) for row in range(len(again))] == expected


def test_a_changed_image_is_skipped_and_its_part_is_another(data, tmp_path):
    """Nothing is read under a version that it does not have; labels do not count."""
    dataset = read_dataset(data.images, data.read)
    facts = write_rows(dataset, tmp_path / "rows", data.read)
    (before,) = parts(tmp_path / "rows", facts)
    (data.images / "5.png").write_bytes((data.images / "6.png").read_bytes() + b"more")
    again = dataset_of(before, facts).read(5)
    assert isinstance(again, Skipped)
    assert again.reason == "changed"
    write_rows(dataset, tmp_path / "rows", data.read)
    (after,) = parts(tmp_path / "rows", facts)
    assert images_digest(before) != images_digest(after)
    assert images_digest(after) == images_digest(after.with_columns(pl.lit(0).alias("noisy")))
    assert images_digest(after) != images_digest(after, "another network")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_need_not_be_unicode(data, tmp_path):
    """The image is found by its bytes, and shown with escapes."""
    (data.images / "0.png").rename(data.images / os.fsdecode(b"\xff.png"))
    dataset = read_dataset(data.images, ReadOptions())
    facts = write_rows(dataset, tmp_path / "rows", data.read)
    again = dataset_of(parts(tmp_path / "rows", facts)[0], facts)
    strange = [row for row, name in enumerate(again.names) if name == "\\udcff.png"]
    assert len(strange) == 1
    assert isinstance(again.read(strange[0]), bytes)


def test_data_without_places_is_refused(data, tmp_path):
    """Images in memory, several labels an image, features."""
    pixels = memory_listing([np.zeros((8, 8, 3), np.uint8)] * 4)
    dataset = read_dataset(pixels, ReadOptions())
    with pytest.raises(UsageError, match="expected the place of the images"):
        write_rows(dataset, tmp_path / "rows", ReadOptions())
