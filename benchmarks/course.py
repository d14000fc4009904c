"""The main job on a noisy CIFAR-like data set: accuracy, seconds, memory, and how they grow.

    python benchmarks/course.py --data FOLDER [--only cold warm small few predict]

FOLDER holds images.zip, noisy_labels.csv and clean_labels.csv (a label a line, the first images trusted).
Each measurement is one ``assay`` process with its own wall time and peak memory. Results are written to
benchmarks/results/course.json; the sealed holdout is the notebook's.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from _shared import image_names, keep, label_words, machine, run_assay, zip_some

NEW_IMAGES = 10_000


def main() -> None:
    """Measure what was asked for, print a table, keep the rest of the results file as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--keep", type=Path, help="folder for runs and cache; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for name in arguments.only:
            keep("course", name, MEASURES[name](arguments.data, place) | {"machine": machine()})


def cold(data: Path, place: Path) -> dict[str, Any]:
    """All images, nothing cached."""
    return _run(data / "images.zip", label_words(data), place / "cold", _fresh(place / "cache"), "notebook")


def warm(data: Path, place: Path) -> dict[str, Any]:
    """The same with all features cached (run ``cold`` first)."""
    return _run(data / "images.zip", label_words(data), place / "warm", place / "cache", "notebook")


def small(data: Path, place: Path) -> dict[str, Any]:
    """Every tenth image, nothing cached: how the cost grows from 5,000 to 50,000."""
    archive, labels = _every_tenth(data, place)
    return _run(archive, labels, place / "small", _fresh(place / "cache-small"), "stratified")


def few(data: Path, place: Path) -> dict[str, Any]:
    """All images, but only the first 500 trusted labels (run ``cold`` first)."""
    lines = (data / "clean_labels.csv").read_text().splitlines()[:500]
    trusted = place / "few.csv"
    trusted.write_text("\n".join(lines) + "\n")
    labels = ["--noisy", str(data / "noisy_labels.csv"), "--trusted", str(trusted)]
    return _run(data / "images.zip", labels, place / "few", place / "cache", "stratified")


def predict(data: Path, place: Path) -> dict[str, Any]:
    """10,000 images with the model of ``cold``, from a new process to a CSV."""
    archive = zip_some(data, image_names(data)[-NEW_IMAGES:], place / "new.zip")
    out = place / "predictions.csv"
    took = run_assay("predict", place / "cold", archive, "-o", out, "--quiet", cache=place / "cache")
    rows = out.read_text().count("\n") - 1
    return {"images": rows, "seconds": took.seconds, "peak_memory_gib": took.peak_gib}


MEASURES = {"cold": cold, "warm": warm, "small": small, "few": few, "predict": predict}


def _run(images: Path, labels: list[str], out: Path, cache: Path, split: str) -> dict[str, Any]:
    words = ["run", images, *labels, "-o", out, "--holdout-split", split, "--overwrite", "--json", "--quiet"]
    took = run_assay(*words, cache=cache)
    found, record = json.loads(took.printed), json.loads((out / "run.json").read_text())
    images_n = sum(found["labels"]["counts"].values())
    return {
        "images": images_n,
        "seconds": took.seconds,
        "processor_seconds": took.processor_s,
        "peak_memory_gib": took.peak_gib,
        "stages_s": record["seconds"],
        "images_a_second": {
            name: images_n / spent for name, spent in record["seconds"].items() if spent > 0.01
        },
        "noise_rate": found["noise"]["rate"],
        "noise_form": found["noise"]["form"],
        "labels": found["labels"],
        "accuracy": {
            name: report["accuracy"] | {"n": report["n"]} for name, report in found["systems"].items()
        },
        "mcnemar_p": found["systems"]["assay"]["paired"]["p_value"],
        "warnings": found["warnings"],
    }


def _every_tenth(data: Path, place: Path) -> tuple[Path, list[str]]:
    noisy = (data / "noisy_labels.csv").read_text().split()
    trusted = (data / "clean_labels.csv").read_text().split()
    archive = zip_some(data, image_names(data)[::10], place / "small.zip")
    (place / "small-noisy.csv").write_text("\n".join(noisy[::10]) + "\n")
    (place / "small-trusted.csv").write_text("\n".join(trusted[::10]) + "\n")
    return archive, ["--noisy", str(place / "small-noisy.csv"), "--trusted", str(place / "small-trusted.csv")]


def _fresh(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} must be empty to measure a cold run")
    return folder


if __name__ == "__main__":
    main()
