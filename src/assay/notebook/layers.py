"""A model's layers with their shapes and parameters, read from the saved model: no network is built."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.drawing import COLOURS, INK, short, svg
from assay.predict.model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GROUPS = 20
"""Parts of a backbone that get a box of their own; of a deeper one only the outer parts do."""

FEATURES = {
    "stages": "mean of the last stages",
    "map": "last map, flattened",
}
"""``Model.features`` in words."""

_RESIZED = {"sharp": "bicubic, sharpened if enlarged", "nearest": "nearest neighbour"}

_STEP, _HEIGHT, _WIDTH = 1.0, 0.66, 10.0


@dataclass(frozen=True)
class Layer:
    """One box of the picture."""

    name: str
    shape: str
    """What comes out of it; empty where the model's files do not say."""
    parameters: int = 0
    part: str = "step"
    """``backbone``, ``head``, or ``step`` for what has nothing to learn."""


def draw_layers(model: Model, *, title: str | None = None) -> str:
    """The layers from the image down to P(class), one box each, as SVG text.

    Raises
    ------
    MissingExtraError : matplotlib is not installed
    """
    layers = describe_layers(model)
    title = title or f"Layers of {model.architecture}"

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_xlim(0, _WIDTH)
        axes.set_ylim(-_STEP * len(layers), 0.1)
        for number, layer in enumerate(layers):
            _draw_box(axes, layer, -_STEP * number)
            if number:
                _draw_arrow(axes, -_STEP * number)

    return svg(draw, width=6.4, height=0.45 * len(layers) + 0.3, title=title, description=_in_words(layers))


def describe_layers(model: Model) -> list[Layer]:
    """The same as a list: image, resize, normalise, backbone part by part, features, head, softmax."""
    size, head = model.size, model.head
    resized = _RESIZED.get(model.interpolation, model.interpolation)
    layers = [Layer(f"image, resized ({resized})", f"{size} × {size} × 3")]
    if model.mean:
        layers.append(Layer("normalise: (pixel / 255 − mean) / std", f"{size} × {size} × 3"))
    layers += _backbone_layers(model)
    layers.append(Layer("standardise", f"{len(head.mean):,}", 2 * len(head.mean), "head"))
    depth = len(head.weights) // 2
    for i in range(depth):
        weight, bias = head.weights[2 * i], head.weights[2 * i + 1]
        activation = f", {_ACTIVATIONS[head.activation]}" if i < depth - 1 else ""
        layers.append(Layer(f"dense{activation}", f"{len(bias):,}", weight.size + bias.size, "head"))
    if model.facts.get("rounded"):
        layers.append(Layer("round to whole numbers", f"{head.n_classes:,}"))
    layers.append(Layer("softmax", f"P(class), {head.n_classes:,}"))
    return layers


_ACTIVATIONS = {"gelu": "GELU", "relu": "ReLU"}


def _backbone_layers(model: Model) -> Iterator[Layer]:
    width = len(model.head.mean)
    if not model.backbone:
        yield Layer(f"{model.architecture}: fixed features, nothing to learn", f"{width:,}")
        return
    for name, tensors in _groups(model.backbone).items():
        count = sum(tensor.size for tensor in tensors)
        yield Layer(f"{model.architecture}: {name}", _shape(tensors), count, "backbone")
    yield Layer(f"features: {FEATURES.get(model.features, model.features)}", f"{width:,}")


def _groups(tensors: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Tensors by the part of the network that they are in, the first part first."""
    for numbered in (True, False):
        found: dict[str, list[np.ndarray]] = {}
        # A safetensors file has no order of its own.
        for name in sorted(tensors, key=_order):
            parts = name.split(".")
            deep = numbered and len(parts) > 2 and parts[1].isdigit()
            if parts[-1] != "num_batches_tracked":  # a counter, no weight
                found.setdefault(".".join(parts[: 2 if deep else 1]), []).append(tensors[name])
        if len(found) <= MOST_GROUPS:
            return found
    return {"all parts": list(tensors.values())}


def _order(name: str) -> tuple[Any, ...]:
    """Where a tensor stands: by the words that networks use for their ends, then by number."""
    first = name.split(".", maxsplit=1)[0]
    place = 1
    if re.fullmatch(r".*(stem|embed|token).*|(conv|bn)1", first):
        place = 0
    elif re.fullmatch(r"(.*_)?(head|norm|fc|bn2|final_conv)(_.*)?", first):
        place = 2
    numbers = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    return place, first.startswith("bn"), [(isinstance(part, str), part) for part in numbers]


def _shape(tensors: Sequence[np.ndarray]) -> str:
    """What the only weights of a part give; of several it is not said how they follow each other."""
    weights = [tensor for tensor in tensors if tensor.ndim in (2, 4)]
    if len(weights) != 1:
        return ""
    if weights[0].ndim == 2:
        return f"{len(weights[0]):,}"
    out, _, high, wide = weights[0].shape
    return f"{high} × {wide}, {out:,} channels"


def _draw_box(axes: "Axes", layer: Layer, top: float) -> None:
    from matplotlib.patches import Rectangle

    edge = {"backbone": COLOURS[0], "head": COLOURS[1]}.get(layer.part, INK)
    axes.add_patch(Rectangle((0.05, top - _HEIGHT), _WIDTH - 0.1, _HEIGHT, fill=False, edgecolor=edge))
    kept: dict[str, Any] = {"va": "center", "fontsize": 8.5}
    middle = top - _HEIGHT / 2
    axes.text(0.2, middle, short(layer.name, 46), **kept)
    axes.text(7.55, middle, layer.shape, ha="right", **kept)
    if layer.parameters:
        axes.text(_WIDTH - 0.2, middle, f"{layer.parameters:,} numbers", ha="right", **kept)


def _draw_arrow(axes: "Axes", top: float) -> None:
    gap = _STEP - _HEIGHT
    axes.annotate(
        "",
        xy=(_WIDTH / 2, top),
        xytext=(_WIDTH / 2, top + gap),
        arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0},
    )


def _in_words(layers: Sequence[Layer]) -> str:
    total = sum(layer.parameters for layer in layers)
    listed = "; ".join(
        f"{layer.name}{f' ({layer.shape})' if layer.shape else ''}"
        f"{f', {layer.parameters:,} numbers' if layer.parameters else ''}"
        for layer in layers
    )
    return f"From top to bottom: {listed}. {total:,} numbers in all."
