"""The demo: scikit-learn's digits as image files, most labels spoiled, the whole job on them.

All true labels are known here, so every figure is counted against the truth, on images and labels
that nothing learned from.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from PIL import Image

from assay.data.dataset import ReadOptions
from assay.data.simulate import spoil, symmetric
from assay.data.write import write_json, write_rows
from assay.embed.backbone import load_backbone
from assay.embed.histogram import HistogramBackbone
from assay.embed.images import embed_images
from assay.errors import OtherRunError, UsageError
from assay.evaluate import wilson
from assay.noise import Interval
from assay.pipeline.assay import noisy_only
from assay.pipeline.card import export
from assay.pipeline.histogram import train_histogram
from assay.pipeline.options import RunOptions
from assay.pipeline.result import RunResult
from assay.pipeline.run import run
from assay.predict.batch import predict
from assay.predict.model import Model
from assay.types import UNKNOWN, Labels, Progress, silent

DIGITS = 1_797
"""Images that scikit-learn has."""

N_NEW = 500
"""Of them, those that the models meet last."""

NOISE = 0.6
TRUSTED_SHARE = 0.2
SIDE = 32


@dataclass(frozen=True)
class DemoResult:
    """What the demo shows."""

    run: RunResult
    new_images: dict[str, Interval]
    """Accuracy of each model on images that none of them saw: ``histogram``, ``noisy-only``, ``assay``."""
    labels: dict[str, Interval]
    """Share of right labels, among those that were not trusted: ``noisy``, ``corrected``."""


def run_demo(out: Path, options: RunOptions, *, progress: Progress = silent) -> DemoResult:
    """Draw, spoil, run and compare; all files stay in ``out`` to be looked at.

    Raises
    ------
    OtherRunError : ``out`` holds other files, or a demo with another seed
    """
    _claim(out, options)
    truth, new_truth = draw_digits(out, options.seed)
    read = ReadOptions(noisy=out / "noisy.csv", trusted=out / "trusted.csv")
    options = replace(options, read=read)
    result = run(out / "images", out / "run", options, progress=progress)
    models = {
        "histogram": _histogram(result, options),
        "noisy-only": _noisy_only(result, options),
        "assay": result.model,
    }
    new = {
        name: _accuracy(predict(model, out / "new").probs.argmax(axis=1), new_truth)
        for name, model in models.items()
    }
    corrected = result.learned.corrected
    rest = corrected.trusted == UNKNOWN
    labels = {
        "noisy": _accuracy(result.dataset.noisy[rest], truth[rest]),
        "corrected": _accuracy(corrected.corrected[rest], truth[rest]),
    }
    return DemoResult(result, new, labels)


def _claim(out: Path, options: RunOptions) -> None:
    """Nobody's images are written over: the folder must be free, or this very demo's."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: expected a folder for the demo, got a file; name another with --out")
    file, network = out / "demo.json", f"{options.backbone} at {options.size} px"
    asked = {"digits": DIGITS, "seed": options.seed, "network": network}
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            found = "something else"
        if found != asked:
            raise OtherRunError(
                f"{out}: holds the demo {found}, asked for is {asked}; name another with --out"
            )
    elif out.exists() and any(out.iterdir()):
        raise OtherRunError(f"{out}: expected an empty folder, found other files; name another with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, asked)


def draw_digits(out: Path, seed: int) -> tuple[Labels, Int[np.ndarray, "M"]]:
    """Write images/, new/, noisy.csv and trusted.csv; the true labels of images/ and of new/."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    generator = np.random.default_rng(seed)
    order = generator.permutation(DIGITS)
    known, new = order[N_NEW:], order[:N_NEW]
    names = _write_images(out / "images", digits.images[known])
    _write_images(out / "new", digits.images[new])
    truth: Labels = digits.target[known].astype(np.int64)
    noisy = spoil(truth, symmetric(10, NOISE), seed)
    chosen = np.sort(generator.choice(len(truth), int(TRUSTED_SHARE * len(truth)), replace=False))
    _write_labels(out / "noisy.csv", names, noisy)
    _write_labels(out / "trusted.csv", [names[row] for row in chosen], truth[chosen])
    return truth, digits.target[new].astype(np.int64)


def _write_images(folder: Path, images: np.ndarray) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:04d}.png" for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        gray = Image.fromarray((image * (255 / 16)).astype(np.uint8))
        gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / name)
    return names


def _write_labels(file: Path, names: Sequence[str], labels: Labels) -> None:
    write_rows(file, ("file", "label"), [names, [str(label) for label in labels]])


def _histogram(result: RunResult, options: RunOptions) -> Model:
    dataset, simple = result.dataset, HistogramBackbone()
    learn = dataset.noisy != UNKNOWN
    features = embed_images(dataset, simple, options.cache, mirrored=False, workers=options.workers).views[0]
    model = train_histogram(dataset, learn, features).model
    return export(model, simple, dataset, np.flatnonzero(learn))


def _noisy_only(result: RunResult, options: RunOptions) -> Model:
    dataset = result.dataset
    backbone = load_backbone(options.backbone, options.cache, size=options.size, dtype=options.dtype)
    views = embed_images(dataset, backbone, options.cache, workers=options.workers).views
    head = noisy_only(views, dataset.noisy, len(dataset.classes), options.seed)
    return export(replace(result.model, head=head), backbone, dataset, np.arange(len(dataset)))


def _accuracy(predicted: Labels, truth: Labels) -> Interval:
    return wilson(int((predicted == truth).sum()), len(truth))
