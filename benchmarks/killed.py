"""A run that is killed at random moments, and continued by the same command, ends in the same bytes.

    python benchmarks/killed.py --data FOLDER [--kills 10] [--seed 0] [--only fast balanced]

FOLDER is that of course.py. ``fast`` runs on 2,000 images and ``balanced`` on 400: once unbroken, and once
killed (SIGKILL) at ``--kills`` random moments and continued each time, with caches of their own. The script
ends with 1 where a file differs. Results go to benchmarks/results/killed.json.
"""

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from _shared import ASSAY, image_names, machine, read_results, write_results

IMAGES = {"fast": 2_000, "balanced": 400}
SAME = (
    "labels.csv",
    "noise.json",
    "holdout.csv",
    "image_issues.csv",
    "model/model.safetensors",
    "model/model.onnx",
)


def main() -> None:
    """Kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=IMAGES, default=list(IMAGES))
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    found = read_results("killed")
    for preset in arguments.only:
        with tempfile.TemporaryDirectory() as place:
            found[preset] = measure(preset, arguments.data, Path(place), arguments.kills, rng)
        print(preset, json.dumps(found[preset]), flush=True)
        write_results("killed", found)
    if any(found[preset]["differing"] for preset in arguments.only):
        raise SystemExit(1)


def measure(preset: str, data: Path, place: Path, kills: int, rng: np.random.Generator) -> dict[str, object]:
    """One unbroken run, one killed at random moments; the files in which they differ."""
    n = IMAGES[preset]
    with zipfile.ZipFile(data / "images.zip") as archive:
        archive.extractall(place, image_names(data)[:n])
    noisy = (data / "noisy_labels.csv").read_text().splitlines()[:n]
    trusted = (data / "clean_labels.csv").read_text().splitlines()[: n // 4]
    (place / "noisy.csv").write_text("\n".join(noisy) + "\n")
    (place / "trusted.csv").write_text("\n".join(trusted) + "\n")

    def command(out: str) -> list[str]:
        words = ["run", place / "images", "--noisy", place / "noisy.csv", "--trusted", place / "trusted.csv"]
        words += ["--preset", preset, "-o", place / out, "--cache", place / f"{out}-cache", "--quiet"]
        return [str(ASSAY), *map(str, words)]

    start = time.perf_counter()
    subprocess.run(command("unbroken"), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    killed_at = []
    # A continued run goes on from where it was, so each part of the whole time is met once.
    for _ in range(kills):
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, start_new_session=True)
        wait = rng.uniform(0.2, 2 * seconds / kills + 3)
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            killed_at.append(round(wait, 1))
    subprocess.run(command("killed"), check=True, stdout=subprocess.DEVNULL)
    differing = [
        name for name in SAME if digest(place / "unbroken" / name) != digest(place / "killed" / name)
    ]
    return {
        "images": n,
        "unbroken_s": round(seconds, 1),
        "killed_after_s": killed_at,
        "differing": differing,
        "machine": machine(),
    }


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
