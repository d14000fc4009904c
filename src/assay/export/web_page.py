"""A static page that labels photos in the browser: a model's graph, onnxruntime-web, and the files of page/.

The page decodes, resizes and predicts as ``assay predict`` does; page/picture.js and page/resize.js say how.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.data.write import make_folder, write_bytes_atomic
from assay.errors import UsageError

PAGE = Path(__file__).parent / "page"

RUNTIME = {"ort.js": "ort.wasm.bundle.min.mjs", "ort.wasm": "ort-wasm-simd-threaded.wasm"}
"""Name in the page's folder -> file of onnxruntime-web: its build for WebAssembly alone.

Not every web server knows that .mjs is JavaScript.
"""

GRAPH, SERVICE_WORKER = "model.onnx", "service-worker.js"

GET_RUNTIME = "get it by npm pack onnxruntime-web, then give --ort the onnxruntime-web-….tgz that it writes"

Files = Mapping[str, bytes]
"""Name -> contents."""


def check_page_folder(folder: Path) -> None:
    """UsageError unless ``folder`` is new, empty, or holds a page already."""
    if folder.is_dir() and (folder / SERVICE_WORKER).is_file() and (folder / GRAPH).is_file():
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"--web: expected a new or empty folder, or an earlier page, got {folder}; name another"
        )


def read_runtime(place: Path | None) -> dict[str, bytes]:
    """The files of onnxruntime-web, as ``RUNTIME`` names them.

    Parameters
    ----------
    place : npm's .tgz, the package's folder, its dist folder, or a node_modules folder that has it
    """
    if place is None:
        raise UsageError(f"--web: expected --ort with the files of onnxruntime-web, got none; {GET_RUNTIME}")
    found: dict[str, bytes] = {}
    try:
        if place.is_file():
            with tarfile.open(place, "r:gz") as packed:
                members = {name: f"package/dist/{source}" for name, source in RUNTIME.items()}
                for name, member in members.items():
                    opened = packed.extractfile(member)
                    found |= {name: opened.read()} if opened else {}
        else:
            below = ("", "dist", "package/dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")
            for name, source in RUNTIME.items():
                files = [place / folder / source for folder in below if (place / folder / source).is_file()]
                found |= {name: files[0].read_bytes()} if files else {}
    except (OSError, tarfile.TarError, KeyError) as error:
        raise UsageError(f"--ort: expected onnxruntime-web, got {place} ({error}); {GET_RUNTIME}") from error
    if missing := [RUNTIME[name] for name in RUNTIME if name not in found]:
        raise UsageError(f"--ort: expected {' and '.join(missing)} in {place}, got none; {GET_RUNTIME}")
    return found


def write_page(folder: Path, graph: bytes, facts: Mapping[str, Any], runtime: Files) -> int:
    """Write the page, and return the bytes that a browser loads.

    Parameters
    ----------
    graph : ONNX, images to probabilities
    facts : what page.js and worker.js need besides, see ``pipeline.export_run.page_facts``
    """
    files = {file.name: file.read_bytes() for file in sorted(PAGE.iterdir())}
    files |= {**runtime, GRAPH: graph, "model.json": json.dumps(facts, indent=1, sort_keys=True).encode()}
    script = files.pop(SERVICE_WORKER).decode()
    digest = hashlib.sha256(script.encode())
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)} ".encode() + data)
    script = script.replace('"{files}"', json.dumps(sorted(files))).replace("{digest}", digest.hexdigest())
    make_folder(folder)
    for name, data in files.items():
        write_bytes_atomic(folder / name, data)
    # Last: a browser that finds a new one loads all of the others again.
    write_bytes_atomic(folder / SERVICE_WORKER, script.encode())
    return sum(map(len, files.values())) + len(script)
