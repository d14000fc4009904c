"""A new user's trial: from pip install to corrected labels, a model, an int8 file and a report.

    python benchmarks/trial.py [--photos 2000] [--trusted 300] [--wheel FILE] [--here]

Draws photos of 640 by 480 pixels, as JPEG, in six classes: a shape of random colour, size, place and turn on
a cluttered background. One noisy label in four is wrong, and names the shape that looks most like it.
The wheel (that of --wheel, else built here) is installed with its extra ``train`` into a new environment,
which needs a package index and so is timed apart; --here leaves that out and takes this environment.
Then each command runs in a process of its own, nothing cached at first. Memory is the most that the command
and all that it started held together. Results go to benchmarks/results/trial.json.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from _shared import ASSAY, keep, measure
from PIL import Image, ImageDraw, ImageFilter

from assay.evaluate.metrics import wilson

CLASSES = ("disc", "ring", "square", "triangle", "star", "cross")
ALIKE = (1, 0, 3, 2, 5, 4)
"""The class that each one is taken for."""
WIDTH, HEIGHT = 640, 480
WRONG = 0.25
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Draw, install, and run the commands one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, default=2_000)
    parser.add_argument("--trusted", type=int, default=300)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--here", action="store_true", help="do not install: take this environment's assay")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        truth = draw_photos(place, asked.photos)
        write_tables(place, truth, asked.trusted)
        assay = ASSAY
        if not asked.here:
            start = time.perf_counter()
            assay = install(place, asked.wheel)
            keep("trial", "install", {"seconds": round(time.perf_counter() - start, 1)})
        total, most = 0.0, 0.0
        for name, words in commands(place).items():
            found = measure([str(assay), *map(str, words)], place / "cache")
            total, most = total + found["seconds"], max(most, found["peak_gib"])
            keep("trial", name, found)
        right = {what: judge(place, truth, f"{what}_label") for what in ("noisy", "corrected")}
        small = round((place / "small.onnx").stat().st_size / 1e6, 1)
        about = {"photos": asked.photos, "trusted": asked.trusted, "int8_mb": small}
        keep("trial", "all", about | {"seconds": round(total, 1), "peak_gib": most, "right": right})


def draw_photos(place: Path, n: int) -> np.ndarray:
    """photos/0.jpg and so on; the class of each."""
    (place / "photos").mkdir()
    truth = np.random.default_rng(0).permutation(np.arange(n) % len(CLASSES))
    files = [place / "photos" / f"{row}.jpg" for row in range(n)]
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(draw_photo, files, truth.tolist(), range(n), chunksize=32):
            pass
    return truth


def draw_photo(file: Path, label: int, seed: int) -> None:
    """One shape on a background of blurred colours, lines and grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    picture = coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(picture)
    for _ in range(12):
        ends = rng.integers(0, (WIDTH, HEIGHT), (2, 2))
        brush.line([*map(tuple, ends.tolist())], fill=colour(rng), width=int(rng.integers(1, 6)))
    radius = float(rng.uniform(60, 160))
    centre = rng.uniform((radius, radius), (WIDTH - radius, HEIGHT - radius))
    fill, name = colour(rng), CLASSES[label]
    if name in ("disc", "ring"):
        box = [*(centre - radius), *(centre + radius)]
        if name == "disc":
            brush.ellipse(box, fill=fill)
        else:
            brush.ellipse(box, outline=fill, width=int(radius * rng.uniform(0.2, 0.4)))
    else:
        points = outline(name) @ turn(rng.uniform(0, 2 * np.pi)) * radius + centre
        brush.polygon([*map(tuple, points.tolist())], fill=fill)
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2.5))))
    pixels = np.asarray(picture, dtype=np.float32) + rng.normal(0, rng.uniform(2, 18), (HEIGHT, WIDTH, 1))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=int(rng.integers(60, 95)))


def colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 256, 3).tolist())


def outline(name: str) -> np.ndarray:
    """Corners (P, 2) of a shape that fits into the unit circle."""
    if name == "cross":
        arm = 0.33
        quarter = np.array([(arm, arm), (arm, 1.0), (-arm, 1.0)]) * 0.94
        return np.concatenate([quarter @ turn(angle) for angle in np.arange(4) * np.pi / 2])
    corners, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.45)}[name]
    angles = np.arange(corners) * 2 * np.pi / corners
    radii = np.where(np.arange(corners) % 2, inner, 1.0)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]


def turn(angle: float) -> np.ndarray:
    """The matrix (2, 2) that turns points in rows."""
    return np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])


def write_tables(place: Path, truth: np.ndarray, n_trusted: int) -> None:
    """noisy.csv, and trusted.csv of random photos."""
    rng = np.random.default_rng(1)
    noisy = np.where(rng.random(len(truth)) < WRONG, np.array(ALIKE)[truth], truth)
    for name, rows, labels in (
        ("noisy", range(len(truth)), noisy),
        ("trusted", np.sort(rng.choice(len(truth), n_trusted, replace=False)).tolist(), truth),
    ):
        lines = [f"{row}.jpg,{CLASSES[labels[row]]}\n" for row in rows]
        (place / f"{name}.csv").write_text("file,label\n" + "".join(lines))


def install(place: Path, wheel: Path | None) -> Path:
    """The assay of a new environment."""
    subprocess.run([sys.executable, "-m", "venv", str(place / "new")], check=True)
    python = place / "new" / "bin" / "python"
    if wheel is None:
        words = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(ROOT)]
        subprocess.run([str(python), "-m", "pip", *words], check=True)
        wheel = next(place.glob("assay-*.whl"))
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"{wheel.resolve()}[train]"], check=True)
    return python.with_name("assay")


def commands(place: Path) -> dict[str, list[object]]:
    """What a new user types."""
    labels = ["--noisy", place / "noisy.csv", "--trusted", place / "trusted.csv"]
    return {
        "run": ["run", place / "photos", *labels, "-o", place / "out"],
        "export": ["export", place / "out", "-o", place / "small.onnx"],
        "report": ["report", place / "out"],
    }


def judge(place: Path, truth: np.ndarray, column: str) -> list[float]:
    """Per cent of right labels among the photos that nobody trusted, with the ends of its interval."""
    with (place / "out" / "labels.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["trusted_label"]]
    hits = [row[column] == CLASSES[truth[int(Path(row["file"]).stem)]] for row in rows]
    share = wilson(sum(hits), len(hits))
    return [round(100 * end, 1) for end in (share.estimate, share.low, share.high)]


if __name__ == "__main__":
    main()
