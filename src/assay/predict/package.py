"""A folder of files under one manifest of hashes: half a write is refused, and so is a changed byte.

Each file is read once, hashed, and parsed from memory: nothing is parsed that was not checked.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.data.dataset import Skipped
from assay.data.paths import file_digest, read_named
from assay.data.write import write_json
from assay.errors import ModelError

SCHEMA = 1
"""Raised when a reader of the old form would misread the new one."""

MANIFEST = "manifest.json"

MOST_BYTES = 2**31
"""Of one file; ONNX has no larger ones."""

FILES = ("config.json", "model.safetensors", "labels.json", "README.md")
"""What every model has."""

GRAPH = "model.onnx"
"""What a model has that was exported."""

PACKAGE = (*FILES, GRAPH, MANIFEST)
"""All of a model's folder; other files may lie beside."""


def package_bytes(folder: Path) -> int:
    """What the model in ``folder`` weighs on disk."""
    files = (folder / name for name in PACKAGE)
    return sum(file.stat().st_size for file in files if file.is_file())


def write_manifest(folder: Path) -> None:
    """Write the manifest over the files of ``folder``; the last step of writing them."""
    names = (*FILES, GRAPH) if (folder / GRAPH).is_file() else FILES
    hashes = {name: file_digest(folder / name) for name in names}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "sha256": hashes})


def find_folder(path: Path) -> Path:
    """``path`` itself, or the ``model`` in it when it is a run folder.

    Raises
    ------
    ModelError : neither has a manifest, or may be looked into
    """
    try:
        return _found_folder(path)
    except OSError as error:
        raise ModelError(f"{path}: expected a folder that can be read ({error.strerror})") from error


def _found_folder(path: Path) -> Path:
    if path.is_file():
        raise ModelError(
            f"{path}: expected a model folder with {MANIFEST}, got a file; model files that may run "
            "code when opened (pickle, .pth, .joblib, .keras) are never opened"
        )
    for folder in (path, path / "model"):
        if (folder / MANIFEST).is_file():
            return folder
    raise ModelError(
        f"{path}: expected a model folder or a run folder, found no {MANIFEST}; was the run finished?"
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """The bytes of each file of ``FILES``, and of ``GRAPH`` if there is one, each as the manifest says.

    Raises
    ------
    ModelError : a newer manifest, or a file that is missing, was changed or was added
    """
    manifest = read_object(folder / MANIFEST, read_model_file(folder / MANIFEST))
    if manifest.get("schema") != SCHEMA:
        raise ModelError(
            f"{folder / MANIFEST}: expected schema {SCHEMA}, got {manifest.get('schema')!r}; update assay"
        )
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict):
        hashes = {}
    # Named or there: a graph that was taken away is missed, and one that was slipped in is not run.
    has_graph = GRAPH in hashes or (folder / GRAPH).exists()
    return {name: _checked(folder / name, hashes) for name in ((*FILES, GRAPH) if has_graph else FILES)}


def read_model_file(file: Path) -> bytes:
    """The bytes of a regular file.

    Raises
    ------
    ModelError : it cannot be read, is something else, such as a pipe, or larger than any model
    """
    found = read_named(file, MOST_BYTES)
    if isinstance(found, Skipped):
        raise ModelError(f"{file}: expected a file that can be read, got {found.reason}: {found.detail}")
    return found


def _checked(file: Path, hashes: Mapping[str, Any]) -> bytes:
    if not file.is_file():
        raise ModelError(f"{file.parent}: expected {file.name}, which is not there; copy the whole folder")
    data = read_model_file(file)
    if hashlib.sha256(data).hexdigest() != hashes.get(file.name):
        raise ModelError(
            f"{file}: its sha256 is not the one in {MANIFEST}; the file was changed or damaged, "
            "copy the whole folder again"
        )
    return data


def read_object(file: Path, data: bytes) -> dict[str, Any]:
    """The JSON object that ``data``, the bytes of ``file``, holds.

    Raises
    ------
    ModelError : it holds something else
    """
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected JSON, got something else ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: expected a JSON object, got {type(found).__name__}")
    return found
