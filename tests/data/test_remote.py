"""Against moto's S3 server on this machine, with the faults of a network in front of it."""

import sys
import tarfile
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from object_store import BROKEN, BUCKET, BUSY, DENIED, HANG, SHORT, SHORT_AND_SAID, object_store
from PIL import Image

from assay.data.dataset import Address, ReadOptions
from assay.data.files import Limits
from assay.data.loader import load
from assay.data.place import Url, place_of, without_secrets
from assay.data.read import list_images, read_dataset, read_images
from assay.data.remote import RemoteSource, remote_source, scan_remote
from assay.data.resize import TargetSize
from assay.data.stores import fetch_to_file
from assay.data.tables import read_table
from assay.errors import DataError, MissingExtraError, ResourceError, TableError, UsageError


@pytest.fixture(scope="module")
def store():
    with object_store() as found:
        yield found


def png(value=0):
    """A small image of one colour."""
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def short_pauses(monkeypatch):
    """Between the tries of a request."""
    monkeypatch.setattr("assay.data.stores.PAUSE_S", 0.02)


@pytest.mark.slow
def test_hundreds_of_objects_with_every_fault(store, short_pauses, monkeypatch):
    """Each object is read, or is skipped with its reason; none is left out, and nothing hangs."""
    # This store is slow: of many requests at once the last would be taken for lost.
    monkeypatch.setattr("assay.data.remote.AT_ONCE", 8)
    n, contents = 300, {}
    for i in range(n):
        contents[f"{i}.png"] = data = (f"{i} " * 40).encode()
        store.put(f"many/{i}.png", data)
    listing = scan_remote(Url(f"s3://{BUCKET}/many"))
    assert listing.names == tuple(f"{i}.png" for i in range(n))
    # Those that never answer are the last, and neighbours: they are waited for together.
    rows = [*np.random.default_rng(0).permutation(n - 5).tolist(), *range(n - 5, n)]
    expected = {}

    def plan(count, reason, fault=None, times=1_000):
        some = [rows.pop() for _ in range(count)]
        for row in some:
            if fault is not None:
                store.fail(f"many/{row}.png", fault, times)
            if reason is not None:
                expected[row] = reason
        return some

    plan(5, "timeout", HANG)
    plan(n // 20, None, HANG, 1)  # one request in twenty gets no answer
    plan(8, None, BUSY, 2)
    plan(2, "unreadable", BROKEN)
    plan(2, "unreadable", DENIED)
    plan(8, None, SHORT, 2)
    plan(8, None, SHORT_AND_SAID, 1)
    plan(2, "truncated_body", SHORT)
    plan(2, "truncated_body", SHORT_AND_SAID)
    for row in plan(4, "missing"):
        store.delete(f"many/{row}.png")
    for row in plan(4, "changed"):
        store.put(f"many/{row}.png", b"x" * (row % 2 or len(contents[f"{row}.png"])))
    found = listing.source
    source = RemoteSource(found.base, found.names, found.versions, found.max_bytes, timeout_s=4.0)
    source.expect(range(n))
    with ThreadPoolExecutor(1) as thread:
        read = thread.submit(lambda: [source.read(i) for i in range(n)]).result(timeout=300)
    assert {i: one.reason for i, one in enumerate(read) if not isinstance(one, bytes)} == expected
    assert all(one == contents[f"{i}.png"] for i, one in enumerate(read) if i not in expected)


def test_a_prefix_is_listed_as_a_folder_is(store):
    """Natural order; hidden and other objects are counted; markers of folders are folders, not images."""
    for name in ("b/10.png", "b/2.png", "a/1.JPG", "c/", ".x/1.png", "labels.csv", "plain", "_SUCCESS"):
        store.put(f"listed/{name}", b"" if name in ("c/", "_SUCCESS") else b"x")
    store.put("listed-too/1.png", b"x")
    listing = scan_remote(Url(f"s3://{BUCKET}/listed/"), Limits())
    assert listing.names == ("a/1.JPG", "b/2.png", "b/10.png", "plain")
    assert listing.folders == ("a", "b", "c")
    assert listing.notes == (
        "ignored 1 hidden entry",
        "ignored 1 file without an extension: no images",
        "ignored 1 file named *.csv: no images",
    )
    assert listing.source.address(2) == Address(
        f"s3://{BUCKET}/listed/b/10.png", "", "1-9dd4e461268c8034f5c8564e155c67a6"
    )


def test_hostile_and_large_objects_are_skipped_and_not_downloaded(store):
    """A name with "..", a raw file, and more bytes than the limit are rows with a reason."""
    for name in ("../up.png", "photo.nef", "big.png"):
        store.put(f"odd/{name}", b"x" * 100)
    listing = scan_remote(Url(f"s3://{BUCKET}/odd"), Limits(max_bytes=50))
    assert [listing.skipped[i].reason for i in range(3)] == ["bad_path", "too_large", "unsupported_format"]
    before = len(store.requests)
    assert listing.source.read(1).reason == "too_large"
    assert len(store.requests) == before
    unknown = remote_source([f"s3://{BUCKET}/odd/big.png"], [""], Limits(max_bytes=50))
    assert unknown.read(0).detail == f"'s3://{BUCKET}/odd/big.png' has 100 bytes, the limit is 50"


def test_pages_of_a_listing_are_asked_for_again(store, short_pauses):
    """A busy store delays a listing; one that stays busy, or denies it, is an error that says what to do."""
    for i in range(1_100):
        store.put(f"pages/{i}.png", b"x")
    store.fail("", BUSY, 3)
    assert len(scan_remote(Url(f"s3://{BUCKET}/pages")).names) == 1_100
    store.fail("", BUSY)
    with pytest.raises(DataError, match=r"503.*check the network and AWS_ENDPOINT_URL"):
        scan_remote(Url(f"s3://{BUCKET}/pages"))
    store.fail("", DENIED)
    with pytest.raises(DataError, match=r"access denied.*AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        scan_remote(Url(f"s3://{BUCKET}/pages"))
    store.fail("", DENIED, 0)
    with pytest.raises(DataError, match=r"s3://elsewhere: no such bucket"):
        scan_remote(Url("s3://elsewhere"))
    with pytest.raises(
        DataError, match=r"no such folder or file of images: s3://pictures/none; check the name"
    ):
        list_images(Url(f"s3://{BUCKET}/none"), ReadOptions())


def test_without_credentials_a_listing_says_where_they_are_taken_from(store, monkeypatch):
    """The message names the variables, and no value of one."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(DataError, match=r"Unable to locate credentials.*set AWS_PROFILE") as caught:
        scan_remote(Url(f"s3://{BUCKET}/pages"))
    assert "secret" not in str(caught.value)


def test_a_missing_library_is_named_with_its_install_line(monkeypatch):
    """The extra is that of the store."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"needs gcsfs.*pip install '\.\[cloud\]'"):
        scan_remote(Url("gs://bucket"))


def test_a_store_is_not_reached_offline(monkeypatch):
    """``ASSAY_OFFLINE=1`` forbids it as it forbids the download of a model."""
    monkeypatch.setenv("ASSAY_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"s3:// needs a network, and ASSAY_OFFLINE=1 forbids it"):
        scan_remote(Url("s3://bucket"))


def test_images_are_fetched_ahead_in_the_order_that_is_expected(store):
    """Once a few are expected they are requested without being read, each once; what is read early is not
    requested again.
    """
    for i in range(20):
        store.put(f"ahead/{i}.png", str(i).encode())
    source = scan_remote(Url(f"s3://{BUCKET}/ahead")).source
    before = len(store.requests)
    assert source.read(7) == b"7"
    source.expect([5, 3, 9])
    assert [source.read(i) for i in (9, 5, 3, 3)] == [b"9", b"5", b"3", b"3"]
    keys = [request.rpartition("/")[2] for request in store.requests[before:]]
    assert sorted(keys) == ["3.png", "3.png", "5.png", "7.png", "9.png"]


def test_nobody_waits_for_an_image_that_is_not_wanted_any_more(store):
    """After Ctrl-C, or an error, a thread that waits for an answer is released; others are read as before."""
    for i in range(3):
        store.put(f"waiting/{i}.png", b"x")
    source = scan_remote(Url(f"s3://{BUCKET}/waiting")).source
    store.fail("waiting/1.png", HANG)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(source.read, 1)
        while "GET /pictures/waiting/1.png" not in store.requests:
            pass
        source.expect(None)
        with pytest.raises(CancelledError):
            reading.result(timeout=60)
    assert source.read(2) == b"x"


def test_a_load_that_is_given_up_asks_for_nothing_more(store, monkeypatch):
    """The caller's error ends the load, and what was expected."""
    for i in range(40):
        store.put(f"load/{i}.png", png(i))
    dataset, heard = read_images(Url(f"s3://{BUCKET}/load")), []
    monkeypatch.setattr(RemoteSource, "expect", lambda _, indices: heard.append(indices and [*indices]))
    with closing(load(dataset, [TargetSize(8)], batch_size=10)) as batches:
        assert len(next(batches).decoded) == 10
    assert heard == [[*range(40)], None]
    assert len([*load(dataset, [TargetSize(8)], batch_size=10)]) == 4
    assert heard[2:] == [[*range(40)]]


def test_many_threads_and_another_process_read_the_same(store):
    """A source is safe to call from threads, and reads after it was pickled."""
    for i in range(40):
        store.put(f"threads/{i}.png", str(i).encode())
    source = scan_remote(Url(f"s3://{BUCKET}/threads")).source
    source.expect(range(40))
    expected = [str(i).encode() for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(source.read, range(40))) == expected
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        assert list(process.map(source.read, range(40), chunksize=40)) == expected


def test_a_file_in_a_store_is_fetched_once_and_read_here(store, monkeypatch):
    """A tar and an image, from a bucket or by a signed URL; a disk without space for it is an error."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("a/1.png")
        info.size = len(png())
        archive.addfile(info, BytesIO(png()))
    store.put("files/all.tar", packed.getvalue())
    store.put("files/one.png", png(9))
    store.fail("files/all.tar", SHORT, 1)
    dataset = read_images(Url(f"s3://{BUCKET}/files/all.tar"))
    assert (dataset.names, dataset.read(0)) == (("a/1.png",), png())
    dataset = read_images(Url(f"{store.url}/{BUCKET}/files/one.png?X-Amz-Signature=abc"))
    assert (dataset.names, dataset.read(0)) == (("one.png",), png(9))
    with pytest.raises(UsageError, match=r"a web server does not list its folders.*manifest"):
        read_images(Url(f"{store.url}/{BUCKET}/files/"))
    monkeypatch.setattr("assay.data.stores.shutil.disk_usage", lambda _: SimpleNamespace(free=9))
    with pytest.raises(ResourceError, match=r"expected disk space for .* bytes.*TMPDIR"):
        fetch_to_file(Url(f"s3://{BUCKET}/files/all.tar"))


def test_a_manifest_names_images_anywhere(store, tmp_path):
    """URLs and paths in one table, with labels, groups and versions; what cannot be had is a row."""
    store.put("m/1.png", png(1))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "2.png").write_bytes(png(2))
    pl.DataFrame(
        {
            "uri": [
                f"s3://{BUCKET}/m/1.png",
                "here/2.png",
                f"{store.url}/{BUCKET}/m/1.png?Signature=abc",
                f"s3://{BUCKET}/m/none.png",
                "ftp://host/5.png?key=abc",
                None,
                f"s3://{BUCKET}/m/../m/1.png",
            ],
            "noisy": ["cat", "dog", "dog", "cat", "cat", "dog", "cat"],
            "trusted": ["cat", None, "cat", None, None, None, None],
            "group": [1, 1, 2, 2, 3, 3, 4],
            "version": ["", "", "", "", "", "", "1-abc"],
        }
    ).write_parquet(tmp_path / "manifest.parquet")
    dataset = read_dataset(tmp_path / "manifest.parquet", ReadOptions())
    assert dataset.names[:3] == (
        f"s3://{BUCKET}/m/1.png",
        "here/2.png",
        f"{store.url}/{BUCKET}/m/1.png",
    )
    assert dataset.names[4:6] == ("ftp://host/5.png", "row 6")
    assert dataset.classes == ("cat", "dog")
    assert dataset.noisy.tolist() == [0, 1, 1, 0, 0, 1, 0]
    assert dataset.trusted.tolist() == [0, -1, 0, -1, -1, -1, -1]
    assert len(set(dataset.groups.tolist())) == 4
    dataset.expect(np.arange(len(dataset)))
    read = [dataset.read(row) for row in range(7)]
    assert read[:3] == [png(1), png(2), png(1)]
    assert [one.reason for one in read[3:]] == ["missing", "bad_path", "missing_image", "missing"]
    assert "abc" not in "".join(one.detail for one in read[3:])


def test_a_manifest_from_a_store_names_no_file_of_this_machine(store):
    """Relative names begin beside it; an absolute path, or one with "..", is a row with its reason."""
    buffer = BytesIO()
    pl.DataFrame({"uri": ["1.png", "/etc/passwd", "../../x.png"], "file": ["one", "two", ""]}).write_parquet(
        buffer
    )
    store.put("kept/list.parquet", buffer.getvalue())
    store.put("kept/1.png", png(7))
    dataset = read_images(Url(f"s3://{BUCKET}/kept/list.parquet"))
    assert dataset.names == ("one", "two", "../../x.png")
    assert dataset.read(0) == png(7)
    assert [dataset.read(row).reason for row in (1, 2)] == ["bad_path", "bad_path"]
    assert dataset.read(1).detail.endswith("a manifest from a store names no file here")


def test_two_rows_of_one_name_are_refused(tmp_path):
    """A label could be for either."""
    pl.DataFrame({"uri": ["a.png", "b.png", "a.png"]}).write_parquet(tmp_path / "m.parquet")
    with pytest.raises(
        TableError, match=r"m.parquet row 3: expected a name of its own, got 'a.png' as in row 1"
    ):
        list_images(tmp_path / "m.parquet", ReadOptions())


def test_what_is_typed_is_a_path_or_a_url(tmp_path, monkeypatch):
    """Another scheme and a missing bucket are refused; the slash that a path loses is put back."""
    monkeypatch.chdir(tmp_path)
    assert place_of("images/a.zip") == place_of(str(place_of("images/a.zip")))
    assert place_of("s3://b/k?x#y") == Url("s3://b/k?x#y")
    assert str(place_of("https://me:pw@host/a.png?Signature=abc#z")) == "https://host/a.png"
    assert repr(place_of("https://host/a.png?Signature=abc")) == "Url('https://host/a.png')"
    assert place_of(Path("s3://bucket/key")) == place_of("s3:/bucket/key") == Url("s3://bucket/key")
    with pytest.raises(TableError, match=r"expected a file on this machine, got s3://b/l.csv; copy it here"):
        read_table(Path("s3://b/l.csv"))
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "odd").mkdir()
    assert place_of("s3:/odd").is_dir()
    with pytest.raises(UsageError, match=r"expected a path or a URL of s3://.*got 'hdfs://host/x'"):
        place_of("hdfs://host/x?key=abc")
    with pytest.raises(UsageError, match=r"and a bucket or host, got 's3://'"):
        place_of("s3://")
    words = ["run", "https://h/a.zip?sig=abc", "--images=https://h/b.zip?sig=abc", "-o", "out/?"]
    assert list(map(without_secrets, words)) == [
        "run",
        "https://h/a.zip",
        "--images=https://h/b.zip",
        "-o",
        "out/?",
    ]
