"""The demo: scikit-learn's digits as image files, most labels made wrong, the whole run on them.

All true labels are known here, so every figure is counted against them, on images and labels that nothing was
trained on.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from PIL import Image

from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset
from assay.data.simulate import spoil, symmetric
from assay.data.write import write_json, write_rows
from assay.embed.backbone import load_backbone
from assay.embed.images import embed_images
from assay.embed.tiny import HistogramBackbone
from assay.errors import OtherRunError, UsageError
from assay.evaluate import wilson
from assay.noise import Interval
from assay.pipeline.card import export
from assay.pipeline.learn import noisy_only, train_histogram
from assay.pipeline.options import RunOptions
from assay.pipeline.result import RunResult
from assay.pipeline.run import run
from assay.predict.model import read_model
from assay.predict.predictor import load_model
from assay.types import Labels, Progress, silent

DIGITS = 1_797
"""Images that scikit-learn has."""

N_NEW = 500
"""Images among them that the models predict last."""

NOISE = 0.6
TRUSTED_SHARE = 0.2
SIDE = 32


@dataclass(frozen=True)
class DemoResult:
    """What the demo shows."""

    run: RunResult
    new_images: dict[str, Interval]
    """Accuracy of each model on images that none was trained on: ``histogram``, ``noisy-only``, ``assay``."""
    labels: dict[str, Interval]
    """Share of right labels, among those that were not trusted: ``noisy``, ``corrected``."""


def run_demo(out: Path, options: RunOptions, *, progress: Progress = silent) -> DemoResult:
    """Draw the images, run, and compare three models; all files stay in ``out``."""
    _claim(out, options)
    truth, new_truth = draw_digits(out, options.seed)
    options = replace(options, read=ReadOptions(noisy=out / "noisy.csv", trusted=out / "trusted.csv"))
    result = run(out / "images", out / "run", options, progress=progress)

    # The same images with the noisy labels taken as true: by colours, and by the same network.
    dataset, rows = read_dataset(out / "images", options.read), np.arange(len(truth))
    simple = HistogramBackbone()
    colours = embed_images(dataset, simple, options.cache, mirrored=False, workers=options.workers).views[0]
    backbone = load_backbone(options.backbone, options.cache, size=options.size, dtype=options.dtype)
    views = embed_images(dataset, backbone, options.cache, workers=options.workers).views
    ours = read_model(out / "run")
    head = noisy_only(views, dataset.noisy, len(dataset.classes), options.seed)
    models = {
        "histogram": export(train_histogram(dataset, rows, colours), simple, dataset, rows),
        "noisy-only": export(replace(ours, head=head), backbone, dataset, rows),
        "assay": ours,
    }
    new = {
        name: _accuracy(load_model(model).predict(out / "new").probs.argmax(axis=1), new_truth)
        for name, model in models.items()
    }

    table = result.labels.frame
    rest, classes = (table["action"] != "trusted").to_numpy(), np.array(dataset.classes)
    labels = {
        name: _accuracy(table[f"{name}_label"].to_numpy()[rest], classes[truth[rest]])
        for name in ("noisy", "corrected")
    }
    return DemoResult(result, new, labels)


def _claim(out: Path, options: RunOptions) -> None:
    """Make the folder: it must be free or hold this demo, so that nobody's images are overwritten."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: expected a folder for the demo, got a file; name another with --out")
    file, network = out / "demo.json", f"{options.backbone} at {options.size} px"
    wanted = {"digits": DIGITS, "seed": options.seed, "network": network}
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            found = "something else"
        if found != wanted:
            raise OtherRunError(f"{out}: holds the demo {found}, not {wanted}; name another with --out")
    elif out.exists() and any(out.iterdir()):
        raise OtherRunError(f"{out}: expected an empty folder, found other files; name another with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, wanted)


def draw_digits(out: Path, seed: int) -> tuple[Labels, Int[np.ndarray, "M"]]:
    """Write images/, new/, noisy.csv and trusted.csv; returns the true labels of images/ and of new/."""
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
    columns = ("file", "label")
    write_rows(out / "noisy.csv", columns, [names, [str(label) for label in noisy]])
    trusted = [[names[row] for row in chosen], [str(truth[row]) for row in chosen]]
    write_rows(out / "trusted.csv", columns, trusted)
    return truth, digits.target[new].astype(np.int64)


def _write_images(folder: Path, images: np.ndarray) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:04d}.png" for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        gray = Image.fromarray((image * (255 / 16)).astype(np.uint8))
        gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / name)
    return names


def _accuracy(predicted: np.ndarray, truth: np.ndarray) -> Interval:
    return wilson(int((predicted == truth).sum()), len(truth))
