"""What fine-tuning a small network on the posterior reaches, on images that nothing learned from.

    python benchmarks/finetune.py --data FOLDER [--stages 64:2,96:4] [--images 12000] [--network NAME]

FOLDER is that of course.py. The notebook's 2,000 held-out images are left out from the start. Of its other
8,000 trusted ones 1,600 judge (seed 0) and are not learned from at all; 1,600 more are the audit, whose
trusted labels are hidden from the network. The rest is learned from: the first targets are the posterior of
effort fast. Prints a line an epoch; results go to benchmarks/results/finetune.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _machine import machine

from assay._types import UNKNOWN, Labels, Pixels, Probs, Transition
from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_dataset
from assay.data.split import seal_holdout, validation_slice
from assay.embed.backbone import load_backbone
from assay.embed.images import embed_images
from assay.embed.squares import held_squares
from assay.fix.calibrate import calibrate
from assay.fix.posterior import fit_strength, posterior
from assay.learn.augment import compress, soften
from assay.learn.finetune import Lesson, Stage, Told, Tuned, fine_tune
from assay.learn.loop import Tuning
from assay.learn.scoring import score
from assay.measure import wilson
from assay.recipes.assay import learn
from assay.recipes.options import RunOptions
from assay.recipes.sealing import close_seal

RESULTS = Path(__file__).parent / "results" / "finetune.json"
KEPT = 1_600

DAMAGE: dict[str, Callable[[Pixels], Pixels]] = {
    "as they are": lambda image: image,
    "JPEG 75": lambda image: compress(image, 75),
    "JPEG 50": lambda image: compress(image, 50),
    "JPEG 30": lambda image: compress(image, 30),
    "JPEG 10": lambda image: compress(image, 10),
    "blurred": lambda image: soften(image, 0.2),
    "shrunk to three quarters": lambda image: soften(image, 0.75),
    "brighter by 30 %": lambda image: np.clip(image * 1.3, 0, 255).astype(np.uint8),
    "darker by 40 %": lambda image: (image * 0.6).astype(np.uint8),
}


@dataclass(frozen=True)
class Known:
    """Effort fast on the course data, and which trusted images are kept aside."""

    dataset: Dataset
    given: Labels
    taught: Labels
    audit: Labels
    """Trusted labels of the audit, else UNKNOWN."""
    judges: Labels
    """Trusted labels of the images that are not learned from, else UNKNOWN."""
    rows: np.ndarray
    targets: Probs
    transition: Transition

    def posterior(self, told: Told) -> tuple[Probs, dict[str, float]]:
        """What follows from the mean over both views, and how good it is on the audit."""
        raw = np.full_like(self.targets, 1 / self.targets.shape[1])
        raw[self.rows] = (told.plain + told.mirror) / 2
        belief = calibrate(raw, self.audit).apply(raw)
        strength = fit_strength(self.given, belief, self.audit, self.transition)
        likely = posterior(self.given, belief, self.transition, strength)
        kept = self.audit != UNKNOWN
        right = {
            name: float((probs[kept].argmax(axis=1) == self.audit[kept]).mean())
            for name, probs in (("belief", belief), ("posterior", likely))
        }
        return likely, right | {"strength": strength}


def learn_fast(data: Path, cache: Path, images: int, seed: int) -> Known:
    """Effort fast without the sealed images; ``images`` of them to fine-tune on, 0 for all."""
    read = ReadOptions(noisy=data / "noisy_labels.csv", trusted=data / "clean_labels.csv")
    options = RunOptions(read=read, cache=cache, holdout_split="notebook", seed=seed)
    dataset = read_dataset(data / "images.zip", read)
    backbone = load_backbone(options.backbone, cache, size=options.size)
    features = embed_images(dataset, backbone, cache)
    sealed = close_seal(dataset, seal_holdout(dataset.trusted, how="notebook"), features, options)
    learned = learn(sealed.data)
    trusted, fit = sealed.data.trusted, sealed.data.fold_of != UNKNOWN
    rest, judges = validation_slice(np.flatnonzero(trusted != UNKNOWN), KEPT, 0)
    rest, audit = validation_slice(rest, KEPT, 1)
    rows = np.setdiff1d(np.flatnonzero(fit), judges)
    if images:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:images])

    def only(kept: np.ndarray) -> Labels:
        return np.where(np.isin(np.arange(len(trusted)), kept), trusted, UNKNOWN)

    return Known(
        dataset,
        np.where(fit, dataset.given, UNKNOWN),
        only(np.intersect1d(rest, rows)),
        only(np.intersect1d(audit, rows)),
        only(judges),
        rows,
        learned.fixed.posterior,
        learned.noise.transition,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of features; default: a temporary one")
    parser.add_argument("--network", default="tf_efficientnet_lite0")
    parser.add_argument("--stages", default="64:2,96:4", help="size:epochs, in their order")
    parser.add_argument("--images", type=int, default=12_000, help="learned from; 0 for all")
    parser.add_argument("--rate", type=float, default=Tuning().learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = arguments.cache or Path(scratch)
        known = learn_fast(arguments.data, cache, arguments.images, arguments.seed)
        found = tune(known, arguments, cache, Path(scratch))
    asked = {name: getattr(arguments, name) for name in ("network", "stages", "images", "rate", "seed")}
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    kept[json.dumps(asked, sort_keys=True)] = {"machine": machine(), **found}
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def tune(known: Known, arguments: argparse.Namespace, cache: Path, scratch: Path) -> dict[str, Any]:
    """Fine-tune, print a line an epoch, and judge the end."""
    stages = [Stage(*map(int, part.split(":"))) for part in arguments.stages.split(",")]
    backbones = {stage.size: load_backbone(arguments.network, cache, size=stage.size) for stage in stages}
    epochs: list[dict[str, Any]] = []
    begun = time.perf_counter()

    def judge(told: Told) -> Probs:
        likely, right = known.posterior(told)
        seconds = time.perf_counter() - begun
        epochs.append({"size": told.size, "loss": told.loss, "audit": right, "seconds": seconds})
        print(f"epoch {told.epoch + 1}", epochs[-1], flush=True)
        return likely

    with held_squares(known.dataset, max(backbones), scratch) as squares:
        lesson = Lesson(squares, known.rows, known.taught, known.targets)
        tuned = fine_tune(
            lesson,
            stages,
            backbones,
            judge,
            replace(Tuning(), learning_rate=arguments.rate),
            seed=arguments.seed,
            workers=2,
            kept=scratch / "state.safetensors",
            identity="",
        )
        seconds = time.perf_counter() - begun
        return {"epochs": epochs, "seconds": seconds, "judged": robustness(tuned, squares, known.judges)}


def robustness(tuned: Tuned, squares: np.ndarray, judges: Labels) -> dict[str, Any]:
    """Accuracy on the judging images, as they are and damaged."""
    rows = np.flatnonzero(judges != UNKNOWN)
    found = {}
    for name, damage in DAMAGE.items():
        damaged = np.stack([damage(squares[row]) for row in rows])
        probs = score(tuned.backbone, tuned.head, damaged, np.arange(len(rows)))
        right = probs.argmax(axis=1) == judges[rows]
        found[name] = wilson(int(right.sum()), len(rows)).to_json()
        print(f"{name:26}{right.mean():.4f}", flush=True)
    return found


if __name__ == "__main__":
    main()
