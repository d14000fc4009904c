"""What fine-tuning costs: milliseconds an image by network and size, and an epoch by number of images.

    python benchmarks/epochs.py [--cache CACHE] [--most 16000]

The images are drawn at random, for only time is measured. Results go to benchmarks/results/epochs.json.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from _shared import machine, write_results

from assay.embed.backbone import TimmBackbone, load_backbone
from assay.pipeline.presets import PRESETS, tuning_for
from assay.train.loop import blank_trainer, measure_pace, train_epoch

SIDE, CLASSES, FEWEST = 32, 10, 2_000
TUNING = tuning_for(50_000)


def main() -> None:
    """Pace by phase of each preset, then epochs that double."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="not needed: every benchmark takes it")
    parser.add_argument("--cache", type=Path, help="of weights and speeds; default: a temporary one")
    parser.add_argument("--most", type=int, default=16_000, help="images of the largest epoch")
    asked = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (asked.most, SIDE, SIDE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        cache = asked.cache or Path(scratch)
        found = {
            "machine": machine(),
            "milliseconds_an_image": {name: paces(name, images, cache) for name in PRESETS},
            "epochs": epochs(images, cache),
        }
    write_results("epochs", found)
    print(json.dumps(found, indent=1))


def paces(preset: str, images: np.ndarray, cache: Path) -> dict[str, dict[str, float]]:
    """Of the network of a preset at each size of its schedule."""
    chosen, found = PRESETS[preset], {}
    for phase in chosen.phases:
        pace = measure_pace(loaded(chosen.student, phase.size, cache), images, CLASSES, TUNING)
        found[f"{chosen.student}, {phase.size} px"] = {
            "train": round(pace.train_ms, 2),
            "predict": round(pace.predict_ms, 2),
        }
    return found


def epochs(images: np.ndarray, cache: Path) -> list[dict[str, float]]:
    """Seconds of one epoch at the first size of ``balanced``, of ever more images."""
    backbone = loaded(PRESETS["balanced"].student, PRESETS["balanced"].phases[0].size, cache)
    targets, found, n = np.full((len(images), CLASSES), 1 / CLASSES), [], FEWEST
    warm = blank_trainer(backbone, CLASSES, TUNING, 1)
    train_epoch(warm, backbone, images, np.arange(256), targets, 0)
    while n <= len(images):
        new = blank_trainer(backbone, CLASSES, TUNING, 1)
        start = time.perf_counter()
        train_epoch(new, backbone, images, np.arange(n), targets, 0)
        seconds = time.perf_counter() - start
        found.append(
            {"images": n, "seconds": round(seconds, 2), "milliseconds": round(1000 * seconds / n, 3)}
        )
        n *= 2
    return found


def loaded(name: str, size: int, cache: Path) -> TimmBackbone:
    """A pretrained network."""
    backbone = load_backbone(name, cache, size=size, interpolation="bicubic")
    assert isinstance(backbone, TimmBackbone)
    return backbone


if __name__ == "__main__":
    main()
