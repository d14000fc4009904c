"""The folder of a static page: what goes into it, and where onnxruntime-web is found."""

import json
import re
import tarfile

import pytest

from assay.errors import UsageError
from assay.export.web_page import RUNTIME, check_page_folder, read_runtime, write_page

FACTS = {"labels": ["ash", "birch"], "size": 32}


@pytest.fixture
def package(tmp_path):
    """A node_modules folder with the files of onnxruntime-web that a page needs, and another one."""
    folder = tmp_path / "node_modules" / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in (*RUNTIME.values(), "ort.js"):
        (folder / "dist" / name).write_bytes(b"this is " + name.encode())
    return folder


def test_the_runtime_is_found_however_npm_wrote_it(tmp_path, package):
    """The file of npm pack, packed or not, npm install's folder or one in it; other files stay away."""
    packed = tmp_path / "onnxruntime-web-1.30.0.tgz"
    with tarfile.open(packed, "w:gz") as file:
        file.add(package, "package")
    with tarfile.open(packed) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    places = (packed, tmp_path / "unpacked", tmp_path / "unpacked/package", package / "dist", package)
    expected = {name: f"this is {source}".encode() for name, source in RUNTIME.items()}
    for place in (*places, package.parent, tmp_path):
        assert read_runtime(place) == expected


def test_a_missing_runtime_is_named(tmp_path, package):
    """The message says what was expected, where, and how to get it."""
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as file:
        file.add(package / "dist" / "ort.js", "package/dist/ort.js")
    (tmp_path / "words.txt").write_text("no archive")
    for place in (None, *(tmp_path / name for name in ("empty", "nowhere", "other.tgz", "words.txt"))):
        with pytest.raises(UsageError, match=r"expected .*, got .*npm pack onnxruntime-web"):
            read_runtime(place)
    (package / "dist" / RUNTIME["ort.wasm"]).unlink()
    with pytest.raises(UsageError, match=r"expected ort-wasm-simd-threaded\.wasm in .*, got none"):
        read_runtime(package)


def test_only_a_page_is_replaced(tmp_path, package):
    """A new folder, an empty one and an earlier page will do; a folder with other files is refused."""
    page = tmp_path / "page"
    check_page_folder(page)
    write_page(page, b"graph", FACTS, read_runtime(package))
    check_page_folder(page)
    for place in (tmp_path, page / "model.onnx"):
        with pytest.raises(UsageError, match="--web: expected a new or empty folder, or an earlier page"):
            check_page_folder(place)


def test_a_changed_file_gives_the_cache_another_name(tmp_path, package):
    """The service worker keeps every file of the page, in a cache that is named by what is in all of them."""
    scripts = []
    for graph in (b"graph", b"graph", b"other"):
        n_bytes = write_page(tmp_path / "page", graph, FACTS, read_runtime(package))
        scripts.append((tmp_path / "page" / "service-worker.js").read_text())
    files = {file.name: file.stat().st_size for file in (tmp_path / "page").iterdir()}
    kept = json.loads(re.search(r"const FILES = (\[.*\]);", scripts[0])[1])
    assert {*kept, "service-worker.js"} == {*files}
    assert n_bytes == sum(files.values())
    digests = [re.search(r'const DIGEST = "([0-9a-f]{64})"', script)[1] for script in scripts]
    assert digests[0] == digests[1] != digests[2]


def test_the_page_loads_from_its_own_folder_alone(tmp_path, package):
    """Its policy names no other source, and its files no address but the one that tells how to serve it."""
    write_page(tmp_path / "page", b"graph", FACTS, read_runtime(package))
    texts = {file.name: file.read_text() for file in (tmp_path / "page").iterdir()}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', texts["index.html"])[1]
    sources = {word for part in policy.split("; ") for word in part.split()[1:]}
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert sources == {"'none'", "'self'", "blob:", "data:"}
    assert {found for text in texts.values() for found in re.findall(r"https?://[^\s\"]*", text)} == {
        "http://localhost:8000"
    }
