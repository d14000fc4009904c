import json
import os

import pytest

from assay.errors import ModelError
from assay.predict.package import (
    FILES,
    GRAPH,
    MANIFEST,
    find_folder,
    read_files,
    read_object,
    write_manifest,
)


@pytest.fixture
def package(tmp_path):
    """A sealed folder of small files."""
    for name in FILES:
        (tmp_path / name).write_text(f"this is {name}")
    write_manifest(tmp_path)
    return tmp_path


def test_sealed_files_are_read_back(package):
    """What was sealed is what is read."""
    assert read_files(package) == {name: f"this is {name}".encode() for name in FILES}


@pytest.fixture
def exported(package):
    """The same folder with a graph."""
    (package / GRAPH).write_text(f"this is {GRAPH}")
    write_manifest(package)
    return package


def test_a_graph_is_read_where_there_is_one(exported):
    """It is sealed and read like every other file, and its name is in the manifest."""
    assert read_files(exported) == {name: f"this is {name}".encode() for name in (*FILES, GRAPH)}
    assert sorted(json.loads((exported / MANIFEST).read_text())["sha256"]) == sorted((*FILES, GRAPH))


def test_a_graph_that_the_manifest_does_not_name_is_refused(package):
    """One that was slipped into a sealed folder is not taken for a part of it."""
    (package / GRAPH).write_text("another one")
    with pytest.raises(ModelError, match=r"model\.onnx: its sha256 is not the one in manifest\.json"):
        read_files(package)


@pytest.mark.parametrize("name", [*FILES, GRAPH])
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.usefixtures("exported")
def test_one_flipped_bit_is_refused(package, name, place):
    """In any file, at its start or end."""
    data = bytearray((package / name).read_bytes())
    data[place] ^= 1
    (package / name).write_bytes(data)
    message = f"{name}: its sha256 is not the one in manifest.json; the file was changed or damaged"
    with pytest.raises(ModelError, match=message):
        read_files(package)


@pytest.mark.parametrize("name", [*FILES, GRAPH])
@pytest.mark.usefixtures("exported")
def test_a_missing_file_is_refused(package, name):
    """The error names it."""
    (package / name).unlink()
    with pytest.raises(ModelError, match=f"expected {name}, which is not there; copy the whole folder"):
        read_files(package)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON, got something else"),
        ("[" * 100_000, "expected JSON, got something else"),
        ("[]", "expected a JSON object, got list"),
        ('{"schema": 2, "sha256": {}}', "expected schema 1, got 2; update assay"),
        ("{}", "expected schema 1, got None; update assay"),
        ('{"schema": 1}', "its sha256 is not the one"),
        ('{"schema": 1, "sha256": []}', "its sha256 is not the one"),
        ('{"schema": 1, "sha256": {"config.json": null}}', "its sha256 is not the one"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(package, text, message):
    """Damaged, newer, or empty: nothing below it is read."""
    (package / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match=message):
        read_files(package)


def test_bytes_that_are_no_text_are_refused(package):
    """A JSON file is UTF-8."""
    with pytest.raises(ModelError, match=r"config\.json: expected JSON, got something else"):
        read_object(package / "config.json", b"\xff\xfe{}")


def test_a_run_folder_has_its_model_inside(package, tmp_path_factory):
    """The folder of a run serves as well as the model folder in it."""
    run = tmp_path_factory.mktemp("run")
    package.rename(run / "model")
    assert find_folder(run) == find_folder(run / "model") == run / "model"


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "weights.safetensors"])
def test_a_single_file_is_no_model(tmp_path, name):
    """A file is refused unread, with the reason."""
    (tmp_path / name).write_bytes(b"\x80\x04")
    message = (
        rf"{name}: expected a model folder with manifest.json, got a file; model files that may run code "
        r"when opened \(pickle, .pth, .joblib, .keras\) are never opened"
    )
    with pytest.raises(ModelError, match=message):
        find_folder(tmp_path / name)


def test_a_folder_without_a_manifest_is_no_model(package):
    """A model that was not written to the end, or a folder that is not there."""
    (package / MANIFEST).unlink()
    for folder in (package, package / "nowhere"):
        with pytest.raises(ModelError, match=r"found no manifest\.json; was the run finished\?"):
            find_folder(folder)


def test_a_name_that_no_disk_holds_is_no_model(tmp_path):
    """The system's refusal is ours."""
    with pytest.raises(ModelError, match=r"expected a folder that can be read \(File name too long\)"):
        find_folder(tmp_path / ("a" * 300))


def test_the_manifest_is_plain(package):
    """The hashes can be checked with other tools."""
    manifest = json.loads((package / MANIFEST).read_text())
    assert manifest["schema"] == 1
    assert sorted(manifest["sha256"]) == sorted(FILES)


def test_a_pipe_is_no_manifest(package, monkeypatch):
    """It would be waited for; and no file of a model is that large."""
    (package / FILES[0]).unlink()
    os.mkfifo(package / FILES[0])
    with pytest.raises(ModelError, match=FILES[0]):
        read_files(package)
    monkeypatch.setattr("assay.predict.package.MOST_BYTES", 5)
    with pytest.raises(ModelError, match=f"{MANIFEST}: expected a file that can be read, got too_large"):
        read_files(package)
