"""The pictures of a comparison's folder, drawn from its files: whatever is not there is left out.

::

    out/pictures/          samples.svg · confusion_noisy.svg · confusion_<system>.svg
    out/models/<system>/   history.svg · layers.svg, of assay too, whose model is out/model/
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.data.dataset import Dataset
from assay.data.files import Skipped
from assay.data.loader import load_row
from assay.data.resize import to_square
from assay.data.tables import read_csv
from assay.data.write import make_folder, write_text_atomic
from assay.drawing import COLOURS, FAINT, INK, draw_confusion, printable, short, svg
from assay.evaluate.metrics import confusion_matrix
from assay.notebook.compare import read_answers
from assay.notebook.networks import Epoch
from assay.notebook.systems import TITLES
from assay.pipeline.run_files import HOLDOUT
from assay.predict.model import MANIFEST, Model, read_model
from assay.text import percent
from assay.types import UNKNOWN, Pixels, Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES, ACROSS = 8, 4
"""Sample images, as many as the notebook showed, and how many in a row."""

SAMPLE_SIDE = 96
"""Most pixels of a sample's side: the picture stays small, whatever the photos weigh."""

NUMBERS = ("loss", "accuracy", "seconds")
"""Columns of history.csv besides the names of stage and epoch."""

DASHES = ("-", "--", ":", "-.")
"""Stages differ by their dashes too, not by colour alone."""

MAX_GROUPS = 20
"""Parts of a backbone that get a box of their own; a deeper one is drawn by its outer parts."""

STEP, HEIGHT, WIDTH = 1.0, 0.66, 10.0
"""Of the boxes of layers."""


def write_pictures(folder: Path, dataset: Dataset, held: Rows | None = None) -> list[Path]:
    """Draw the contents of a comparison's folder; returns the files, in the order of writing.

    Holdout images appear in ``confusion_<system>.svg`` alone; the other pictures are of training images.

    Parameters
    ----------
    folder : ``out/`` of ``assay compare``
    dataset : as it was read, with the trusted labels of the holdout
    held : holdout images, where no measured model names them

    Raises
    ------
    MissingExtraError : matplotlib is not installed
    ModelError : a model folder that is damaged
    """
    names, k, written = dataset.titles or dataset.classes, len(dataset.classes), list[Path]()

    def write(file: Path, drawn: str) -> None:
        make_folder(file.parent)
        write_text_atomic(file, drawn)
        written.append(file)

    # Training images: what no model was, or will be, measured on.
    predicted = {f.parent.name: read_answers(f, dataset.classes) for f in _files(folder, "holdout.csv")}
    apart = {name for answers in predicted.values() for name in answers}
    apart |= {dataset.names[row] for row in (() if held is None else held)}
    if (file := folder / "labels.csv").is_file():
        apart |= {row["file"] for row in _read(file) if row["reason"] == HOLDOUT}
    both = (dataset.noisy != UNKNOWN) & (dataset.trusted != UNKNOWN) & dataset.usable
    rows = np.array([row for row in np.flatnonzero(both) if dataset.names[row] not in apart], dtype=np.int64)
    if len(rows):
        write(folder / "pictures" / "samples.svg", draw_samples(dataset, rows))
        counts = confusion_matrix(dataset.trusted[rows], dataset.noisy[rows], k)
        title = f"Noisy against trusted labels of {len(rows):,} images"
        drawn = draw_confusion(counts, names, title=title, columns="noisy")
        write(folder / "pictures" / "confusion_noisy.svg", drawn)

    # Holdout images, but for those that the figures exclude as leaked.
    record = folder / "compare.json"
    leaked = json.loads(record.read_text(encoding="utf-8")).get("left_out", ()) if record.is_file() else ()
    row_of = {name: row for row, name in enumerate(dataset.names)}
    for system, answers in predicted.items():
        rows = np.array([row_of[name] for name in answers if name in row_of and name not in leaked], np.int64)
        rows = rows[dataset.trusted[rows] != UNKNOWN]
        if not len(rows):
            continue
        found = np.array([answers[dataset.names[row]] for row in rows]).argmax(axis=1)
        counts = confusion_matrix(dataset.trusted[rows], found, k)
        title = f"{TITLES[system]}: predicted against trusted labels of {len(rows):,} holdout images"
        write(folder / "pictures" / f"confusion_{system}.svg", draw_confusion(counts, names, title=title))

    for file in _files(folder, "history.csv"):
        epochs = [
            Epoch(row["stage"], int(row["epoch"]), *(float(row[name]) for name in NUMBERS))
            for row in _read(file)
        ]
        if epochs:
            title = f"{TITLES[file.parent.name]}: loss and accuracy by epoch"
            write(file.with_name("history.svg"), draw_history(epochs, title=title))

    for system, place in _models(folder).items():
        drawn = draw_layers(read_model(place), title=f"{TITLES[system]}: layers")
        write(folder / "models" / system / "layers.svg", drawn)
    return written


def are_drawn(folder: Path) -> bool:
    """Whether all pictures are there: the layers of each model come last."""
    places = [folder / "models" / system / "layers.svg" for system in _models(folder)]
    return (folder / "pictures").is_dir() and all(place.is_file() for place in places)


def _read(file: Path) -> list[dict[str, str]]:
    table = read_csv(file, ("file", "stage"))
    return [dict(zip(table.columns or (), cells, strict=True)) for cells in table.rows]


def _files(folder: Path, name: str) -> list[Path]:
    return [file for file in sorted(folder.glob(f"models/*/{name}")) if file.parent.name in TITLES]


def _models(folder: Path) -> dict[str, Path]:
    """System -> the folder of its model; that of assay is the run's."""
    models = {file.parent.name: file.parent for file in _files(folder, MANIFEST)}
    if (folder / "models" / "assay").is_dir() and (folder / "model" / MANIFEST).is_file():
        models["assay"] = folder / "model"
    return models


def draw_samples(dataset: Dataset, rows: Rows) -> str:
    """The first images of ``rows`` that can be opened, with both labels of each, as SVG text."""
    words = (*(dataset.titles or dataset.classes), "")  # UNKNOWN, -1, has the empty name
    samples: list[tuple[str, Pixels, str, str]] = []
    for row in rows:
        if len(samples) == SAMPLES:
            break
        found = load_row(dataset, int(row), at_least=SAMPLE_SIDE)
        if not isinstance(found, Skipped):
            pixels = to_square(found.pixels, min(SAMPLE_SIDE, max(found.pixels.shape[:2])))
            labels = words[dataset.trusted[row]], words[dataset.noisy[row]]
            samples.append((dataset.names[row], pixels, *labels))
    down = max(1, -(-len(samples) // ACROSS))

    def draw(figure: "Figure") -> None:
        grid: Any = figure.subplots(down, ACROSS, squeeze=False)
        for axes, sample in zip_longest(grid.flat, samples):
            if sample is None:
                axes.set_axis_off()
                continue
            _, pixels, trusted, noisy = sample
            axes.imshow(pixels, interpolation="none")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            wrong = trusted not in ("", noisy)
            axes.set_title(f"trusted: {short(trusted) or 'unknown'}", fontsize=9)
            below = f"noisy: {short(noisy) or 'none'}{' ✗' if wrong else ''}"
            axes.set_xlabel(below, color=COLOURS[1] if wrong else INK, fontsize=9)

    description = "; ".join(
        f"{printable(name)}: trusted {printable(trusted) or 'unknown'}, noisy {printable(noisy) or 'none'}"
        for name, _, trusted, noisy in samples
    )
    return svg(
        draw,
        width=1.9 * ACROSS,
        height=2.3 * down,
        title="Sample images with their trusted and noisy labels",
        description=description or "No image with both labels could be opened.",
    )


def draw_history(epochs: Sequence[Epoch], *, title: str) -> str:
    """Two curves for each stage as SVG text: the loss, and the accuracy against the training labels."""
    stages = [(stage, list(some)) for stage, some in groupby(epochs, key=lambda epoch: epoch.stage)]

    def draw(figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator

        parts: Any = figure.subplots(1, 2)
        losses, shares = parts
        for number, (stage, some) in enumerate(stages):
            at = [epoch.epoch for epoch in some]
            look: dict[str, Any] = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": DASHES[number % len(DASHES)],
                "marker": "o",
                "markersize": 3.5,
                "label": short(stage, 28),
            }
            losses.plot(at, [epoch.loss for epoch in some], **look)
            shares.plot(at, [100 * epoch.accuracy for epoch in some], **look)
        for axes, what in ((losses, "loss"), (shares, "accuracy on the training labels, %")):
            axes.set_xlabel("epoch")
            axes.set_ylabel(what)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.set_xlim(0.5, 0.5 + max(epoch.epoch for epoch in epochs))
            axes.grid(color=FAINT, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            if len(stages) > 1:
                axes.legend(title="stage", title_fontsize=8, frameon=False, fontsize=8)
        shares.set_ylim(0, 100)
        losses.set_ylim(bottom=0)

    description = " ".join(
        f"Stage {printable(stage)}, {len(some)} epochs: loss {some[0].loss:.3f} to {some[-1].loss:.3f}, "
        f"accuracy {percent(some[0].accuracy)} to {percent(some[-1].accuracy)}."
        for stage, some in stages
    )
    return svg(draw, width=7.6, height=3.4, title=title, description=description)


@dataclass(frozen=True)
class Layer:
    """One box of the picture of a model's layers."""

    name: str
    shape: str
    """Of its output; empty where the model's files do not say."""
    parameters: int = 0
    part: str = "step"
    """``backbone``, ``head``, or ``step`` for a layer without parameters."""


def draw_layers(model: Model, *, title: str) -> str:
    """The layers from the image down to P(class), one box each, as SVG text."""
    layers = describe_layers(model)

    def draw(figure: "Figure") -> None:
        from matplotlib.patches import Rectangle

        axes: Axes = figure.subplots()
        axes.set_axis_off()
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(-STEP * len(layers), 0.1)
        text: dict[str, Any] = {"va": "center", "fontsize": 8.5}
        for number, layer in enumerate(layers):
            top = -STEP * number
            middle = top - HEIGHT / 2
            edge = {"backbone": COLOURS[0], "head": COLOURS[1]}.get(layer.part, INK)
            box = Rectangle((0.05, top - HEIGHT), WIDTH - 0.1, HEIGHT, fill=False, edgecolor=edge)
            axes.add_patch(box)
            axes.text(0.2, middle, short(layer.name, 46), **text)
            axes.text(7.55, middle, layer.shape, ha="right", **text)
            if layer.parameters:
                axes.text(WIDTH - 0.2, middle, f"{layer.parameters:,} numbers", ha="right", **text)
            if number:
                arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
                start = (WIDTH / 2, top + STEP - HEIGHT)
                axes.annotate("", xy=(WIDTH / 2, top), xytext=start, arrowprops=arrow)

    listed = "; ".join(
        f"{layer.name}{f' ({layer.shape})' if layer.shape else ''}"
        f"{f', {layer.parameters:,} numbers' if layer.parameters else ''}"
        for layer in layers
    )
    total = sum(layer.parameters for layer in layers)
    return svg(
        draw,
        width=6.4,
        height=0.45 * len(layers) + 0.3,
        title=title,
        description=f"From top to bottom: {listed}. {total:,} numbers in all.",
    )


def describe_layers(model: Model) -> list[Layer]:
    """The layers of a saved model: resize, normalise, backbone part by part, features, head, softmax."""
    size, head = model.size, model.head
    resized = {"sharp": "bicubic, sharpened if enlarged", "nearest": "nearest neighbour"}
    how = resized.get(model.interpolation, model.interpolation)
    layers = [Layer(f"image, resized ({how})", f"{size} × {size} × 3")]
    if model.mean:
        layers.append(Layer("normalise: (pixel / 255 − mean) / std", f"{size} × {size} × 3"))
    width = f"{len(head.mean):,}"
    if model.backbone:
        for name, tensors in _groups(model.backbone).items():
            count = sum(tensor.size for tensor in tensors)
            layers.append(Layer(f"{model.architecture}: {name}", _shape(tensors), count, "backbone"))
        kinds = {"stages": "mean of the last stages", "map": "last map, flattened"}
        layers.append(Layer(f"features: {kinds.get(model.features, model.features)}", width))
    else:
        layers.append(Layer(f"{model.architecture}: fixed features, nothing to train", width))
    layers.append(Layer("standardise", width, 2 * len(head.mean), "head"))
    pairs = list(zip(head.weights[::2], head.weights[1::2], strict=True))
    activation = {"gelu": "GELU", "relu": "ReLU"}[head.activation]
    for number, (weight, bias) in enumerate(pairs, start=1):
        name = "dense" if number == len(pairs) else f"dense, {activation}"
        layers.append(Layer(name, f"{len(bias):,}", weight.size + bias.size, "head"))
    if model.facts.get("rounded"):
        layers.append(Layer("round to whole numbers", f"{head.n_classes:,}"))
    layers.append(Layer("softmax", f"P(class), {head.n_classes:,}"))
    return layers


def _groups(tensors: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Tensors by the part of the network that they belong to, the first part first."""
    for numbered in (True, False):
        found: dict[str, list[np.ndarray]] = {}
        # A safetensors file has no order of its own.
        for name in sorted(tensors, key=_order):
            parts = name.split(".")
            deep = numbered and len(parts) > 2 and parts[1].isdigit()
            if parts[-1] != "num_batches_tracked":  # a counter, no weight
                found.setdefault(".".join(parts[: 2 if deep else 1]), []).append(tensors[name])
        if len(found) <= MAX_GROUPS:
            return found
    return {"all parts": list(tensors.values())}


def _order(name: str) -> tuple[Any, ...]:
    """Position of a tensor: by the names that networks give their first and last parts, then by number."""
    first = name.split(".", maxsplit=1)[0]
    place = 1
    if re.fullmatch(r".*(stem|embed|token).*|(conv|bn)1", first):
        place = 0
    elif re.fullmatch(r"(.*_)?(head|norm|fc|bn2|final_conv)(_.*)?", first):
        place = 2
    numbers = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    return place, first.startswith("bn"), [(isinstance(part, str), part) for part in numbers]


def _shape(tensors: Sequence[np.ndarray]) -> str:
    """The output of a part with one weight; of several weights the order is not known."""
    weights = [tensor for tensor in tensors if tensor.ndim in (2, 4)]
    if len(weights) != 1:
        return ""
    if weights[0].ndim == 2:
        return f"{len(weights[0]):,}"
    out, _, high, wide = weights[0].shape
    return f"{high} × {wide}, {out:,} channels"
