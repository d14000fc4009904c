"""How small, how fast and how frugal a model is where it is used.

    python benchmarks/predict.py --run RUN --data FOLDER [--rows 1000000]

RUN is the folder of a finished run, FOLDER that of course.py. Measured: the model in float32, float16 and
int8 (``assay export``); 10,000 PNG files to a CSV, start included, as a process of its own; the time until
the first row; memory by the number of rows of a synthetic zip, by a model that takes next to no time; and, by
turns with it in one process, an InceptionV3 of 128 pixels with random weights in the same runtime. Results go
to benchmarks/results/predict.json.
"""

import argparse
import io
import json
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from _shared import ASSAY, image_names, machine, write_results
from PIL import Image

from assay.data.loader import load_image
from assay.embed.tiny import TinyBackbone
from assay.export.graph import with_graph
from assay.predict.model import Model
from assay.predict.runtime import load_runtime
from assay.train.heads import fit_logistic

FILES = 10_000
ROUNDS = 5
BATCH = 32
PICTURES = 256


def main() -> None:
    """Export, predict, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the largest synthetic zip")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        exported = {name: export(asked.run, place, name) for name in ("int8", "float16", "float32")}
        unpack(asked.data, place / "pngs")
        models = {"float32": place / "float32.onnx", "int8": place / "int8.onnx"}
        found = {
            "machine": machine(),
            "exported": exported,
            "png_files_to_csv": {name: predict(model, place / "pngs") for name, model in models.items()},
            "first_row": first_row(models["int8"], place / "pngs"),
            "milliseconds": against_inception(models, place),
            "memory_by_rows": by_rows(tiny_model(place), place, asked.rows),
        }
    write_results("predict", found)
    print(json.dumps(found, indent=1))


def export(run: Path, place: Path, precision: str) -> dict[str, Any]:
    """``assay export``, as it says."""
    out = place / f"{precision}.onnx"
    command = [ASSAY, "export", run, "-o", out, "--precision", precision, "--json", "-q"]
    start = time.perf_counter()
    printed = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True, text=True).stdout
    facts: dict[str, Any] = json.loads(printed)
    return {name: facts[name] for name in ("figures", "attempts", "trained_on")} | {
        "seconds": round(time.perf_counter() - start, 1)
    }


def unpack(data: Path, folder: Path) -> None:
    """The first images as files."""
    with zipfile.ZipFile(data / "images.zip") as archive:
        archive.extractall(folder, image_names(data)[:FILES])


def predict(model: Path, images: Path) -> dict[str, float]:
    """``assay predict`` as a process: wall seconds and the most memory that it held."""
    out = images.parent / "rows.csv"
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen([str(ASSAY), "predict", str(model), str(images), "-o", str(out), "-q"])
    while process.poll() is None:
        # The system's own count begins with the memory of the process that started it.
        peak = max(peak, high_water_kib(process.pid))
        time.sleep(0.01)
    assert process.returncode == 0
    seconds, n = time.perf_counter() - start, len(out.read_bytes().splitlines()) - 1
    return {"rows": n, "seconds": round(seconds, 2), "peak_mib": round(peak / 1024)}


def high_water_kib(pid: int) -> int:
    """The most memory that a process has held since it runs its program; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def first_row(model: Path, images: Path) -> dict[str, float]:
    """Seconds from the command to the only row, the best of five."""
    one = images.parent / "one"
    one.mkdir()
    file = next(images.rglob("*.png"))
    (one / file.name).write_bytes(file.read_bytes())
    return min((predict(model, one) for _ in range(5)), key=lambda found: found["seconds"])


def tiny_model(place: Path) -> Path:
    """A folder with a model of block means, so that it is the rows that take time and memory."""
    images = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), np.uint8)
    head = fit_logistic(TinyBackbone().embed(images), np.arange(60) % 3, 3)
    with_graph(Model("tiny", 32, ("a", "b", "c"), head), None, images).save(place / "tiny")
    return place / "tiny"


def by_rows(model: Path, place: Path, most: int) -> list[dict[str, float]]:
    """Zips of small pictures, ever larger."""
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(50):
        held = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), np.uint8)).save(held, "PNG")
        pictures.append(held.getvalue())
    found, rows = [], 1_000
    while rows <= most:
        with zipfile.ZipFile(place / "rows.zip", "w", zipfile.ZIP_STORED) as archive:
            for row in range(rows):
                archive.writestr(f"{row:07d}.png", pictures[row % len(pictures)])
        found.append(predict(model, place / "rows.zip"))
        rows *= 10
    return found


def against_inception(models: dict[str, Path], place: Path) -> dict[str, Any]:
    """Milliseconds an image, one by one and in batches, all by turns; with the second look and without."""
    files = sorted((place / "pngs").rglob("*.png"))[:PICTURES]
    calls: dict[str, tuple[Callable[[np.ndarray], object], np.ndarray]] = {}
    for name, model in models.items():
        runtime = load_runtime(model)
        pictures = np.stack([load_image(Image.open(file), runtime.target).pixels for file in files])
        calls[name] = runtime.probabilities, pictures
        calls[f"{name}, one look"] = runtime.without_tta, pictures
    session = onnxruntime.InferenceSession(inception(place / "inception.onnx"))
    pixels = np.zeros((PICTURES, 3, 128, 128), np.float32)
    calls["InceptionV3, 128 px"] = lambda some: session.run(None, {"pixels": some}), pixels
    took: dict[str, dict[int, list[float]]] = {name: {1: [], BATCH: []} for name in calls}
    for _ in range(ROUNDS):
        for name, (call, pictures) in calls.items():
            for n, seconds in took[name].items():
                start = time.perf_counter()
                for first in range(0, PICTURES, n):
                    call(pictures[first : first + n])
                seconds.append((time.perf_counter() - start) / PICTURES)
    return {
        name: {("one" if n == 1 else "batch"): round(1000 * min(seconds), 2) for n, seconds in found.items()}
        for name, found in took.items()
    }


def inception(file: Path) -> str:
    """The notebook's backbone with random weights."""
    import timm
    import torch

    network = timm.create_model("inception_v3", pretrained=False, num_classes=10).eval()
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 128, 128),),
        str(file),
        input_names=["pixels"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        dynamo=True,
        verbose=False,
    )
    return str(file)


if __name__ == "__main__":
    main()
