"""The commands on images in a store: what they write is what they write of the same folder."""

import json
import os

import polars as pl
import pytest
from object_store import BUCKET, object_store
from small_runs import draw_data, quick_learning, read_record, read_rows, same_bytes

import assay as package
from assay.cli.app import run_app
from assay.cli.options import ImageOptions
from assay.cli.predict import whereabouts
from assay.data.place import Url
from assay.review.run import read_review_run

URL = f"s3://{BUCKET}/small"


@pytest.fixture(scope="module")
def store():
    with object_store() as found:
        yield found


@pytest.fixture(scope="module")
def data(store, tmp_path_factory):
    """Sixty images here and in the store."""
    drawn = draw_data(tmp_path_factory.mktemp("remote") / "data", 60)
    for file in drawn.images.iterdir():
        store.put(f"small/{file.name}", file.read_bytes())
    return drawn


@pytest.fixture(scope="module")
def both(data, tmp_path_factory):
    """A run on the folder and one on the store, each with a cache of its own."""
    place = tmp_path_factory.mktemp("both")
    with quick_learning():
        for name, images in (("here", data.images), ("there", URL)):
            words = ["run", images, *data.labels, "-o", place / name, "--backbone", "tiny", "-q"]
            words += ["--cache", place / f"cache-{name}", "--holdout", "10"]
            assert run_app(list(map(str, words))) in (0, 5)
    return place


def test_a_run_on_a_store_is_that_on_the_folder(both, assay, data):
    """Byte for byte; given again it is complete; run.json has the URL."""
    assert same_bytes(both / "there") == same_bytes(both / "here")
    assert read_record(both / "there")["images"] == URL
    words = ["run", URL, *data.labels, "-o", both / "there", "--backbone", "tiny", "--holdout", "10"]
    assert "run is already complete" in assay(*words).err


def test_a_finished_run_finds_its_images_in_the_store(both, assay, tmp_path):
    """The report shows them, and a review reads them."""
    found = assay("report", both / "there", "-o", tmp_path / "report.html")
    assert (found.code, "warning" in found.err) == (0, False)
    assert (tmp_path / "report.html").stat().st_size > 50_000
    run = read_review_run(both / "there")
    assert all(isinstance(run.images.read(row), bytes) for row in range(60))
    assert assay("report", both / "there", "-o", tmp_path / "moved.html", "--images", URL + "/").code == 0


def test_new_images_may_lie_in_a_store(both, assay, data, tmp_path):
    """predict, evaluate, check and audit give what they give of the folder."""
    cache = ("--cache", both / "cache-here")
    for words in (
        ("predict", both / "here", ..., "-q"),
        ("evaluate", both / "here", ..., "--labels", data.folder / "trusted.csv", "-q", "--json"),
        ("check", both / "here", ..., "-q", "--json", *cache),
        ("audit", ..., "--backbone", "tiny", "-q", "--json", *cache),
        ("noise", ..., *data.labels, "-q", "--json"),
    ):
        there, here = (
            assay(*(place if word is ... else word for word in words)) for place in (URL, data.images)
        )
        assert (there.code, there.out) == (here.code, here.out), words
        assert there.code == 0, there.err


def test_rows_are_resumed_only_while_the_objects_are_the_same():
    """Versions of objects are part of what was asked; of a file at a URL nobody knows them."""
    url, plain = Url(URL), ImageOptions()
    before = whereabouts(url, plain, ["1.png"], ["3-abc"])
    assert before == whereabouts(url, plain, ["1.png"], ["3-abc"])
    assert before != whereabouts(url, plain, ["1.png"], ["3-abd"])
    assert whereabouts(url, plain, ["1.png"]) != whereabouts(url, plain, ["1.png"])


def test_a_manifest_needs_no_other_file(both, assay, data, tmp_path, capsys):
    """Its columns are the labels and the groups; the labels that are written are those of the run."""
    noisy, trusted = (
        dict(pl.read_csv(data.folder / name)["file", "label"].iter_rows())
        for name in ("noisy.csv", "trusted.csv")
    )
    names = list(noisy)
    pl.DataFrame(
        {
            "uri": [
                f"{URL}/{name}" if i % 2 else os.path.relpath(data.images / name, tmp_path)
                for i, name in enumerate(names)
            ],
            "file": names,
            "noisy": [noisy[name] for name in names],
            "trusted": [trusted.get(name) for name in names],
        }
    ).write_parquet(tmp_path / "manifest.parquet")
    out = tmp_path / "out"
    words = ["run", tmp_path / "manifest.parquet", "-o", out, "--backbone", "tiny", "--holdout", "10"]
    assert assay(*words).code in (0, 5)
    assert read_rows(out) == read_rows(both / "here")
    assert assay("report", out, "-q").code == 0
    assert assay("predict", out, tmp_path / "manifest.parquet", "-q").out.count("\n") == 61


def test_the_python_api_takes_urls(both, data):
    """``read_dataset`` and ``predict`` read a URL given as text."""
    dataset = package.read_dataset(URL, noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    assert len(dataset) == 60
    assert package.load_model(both / "here").predict(URL).names == tuple(f"{i}.png" for i in range(60))


def test_a_signature_is_written_nowhere(store, data, assay, tmp_path):
    """Of a signed URL run.json and the messages have neither query nor password."""
    buffer = tmp_path / "m.parquet"
    pl.DataFrame(
        {
            "uri": [f"{file.name}" for file in sorted(data.images.iterdir())],
            "file": [file.name for file in sorted(data.images.iterdir())],
        }
    ).write_parquet(buffer)
    store.put("small/m.parquet", buffer.read_bytes())
    url = f"{store.url}/{BUCKET}/small/m.parquet?X-Amz-Signature=abc123"
    out = tmp_path / "out"
    found = assay("run", url, *data.labels, "-o", out, "--backbone", "tiny", "--holdout", "10")
    assert found.code in (0, 5), found.err
    for text in (found.out, found.err, (out / "run.json").read_text(), (out / "labels.csv").read_text()):
        assert "abc123" not in text
    assert json.loads((out / "run.json").read_text())["images"] == url.partition("?")[0]


def test_a_slip_in_a_url_is_named(refused):
    """Another scheme, and a URL where a path belongs, also with the slash that a path loses."""
    refused(2, "expected a path or a URL of s3://", "predict", "out", "ftp://host/x")
    here = "expected a file or folder on this machine, got"
    refused(2, f"IMAGES: {here} {URL}; only images are read from a URL", "compare", URL, "-o", "out")
    refused(2, f"--out: {here} s3://b/out", "run", "images", "-o", "s3://b/out")
    refused(2, f"--noisy: {here} s3://b/noisy.csv", "noise", "images", "--noisy", "s3:/b/noisy.csv")
