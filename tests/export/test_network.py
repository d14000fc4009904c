"""Networks of torch as a part of the graph."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from assay.errors import GateError, MissingExtraError
from assay.export import graph
from assay.export.graph import with_graph
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.predict.runtime import load_runtime

pytestmark = pytest.mark.train


@pytest.fixture
def images():
    """Five images of noise."""
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def model_of(width: int, name: str = "conv", **more) -> Model:
    """A linear head whose predictions differ from image to image."""
    weights = np.random.default_rng(1).normal(size=(width, 2)).astype(np.float32)
    head = Layers(np.zeros(width, np.float32), np.ones(width, np.float32), (weights, np.zeros(2, np.float32)))
    return Model(name, 32, ("no", "yes"), head, backbone={"w": np.zeros(1, np.float32)}, **more)


def any_network():
    """A network with operators that only torch's exporter knows: batch norm, pooling, flattening."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.normal_()
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        norm,
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Dropout(0.5),
        nn.Flatten(),
    )


def plain_network():
    """Padding, grouped convolutions, ReLU6, SiLU, gates, sums, means: as timm's EfficientNets are."""
    import torch
    from torch import nn

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, padding=1, groups=4)
            self.third = nn.Conv2d(8, 8, (3, 5), padding=(2, 1), dilation=(2, 1), bias=False)
            self.relu6, self.relu = nn.ReLU6(inplace=True), nn.ReLU(inplace=True)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            first = self.relu6(self.first(nn.functional.pad(pixels, [0, 1, 1, 2])))
            second = self.relu(first + self.second(first))
            gates = second.mean((2, 3), keepdim=True).sigmoid()
            third = nn.functional.silu(self.third(second * gates).float())
            return torch.cat([second.mean((2, 3)), third.mean((2, 3))], dim=1)

    torch.manual_seed(0)
    return Plain()


def graphs(images) -> list[bytes]:
    """One written in each way."""
    networks = ((16, plain_network), (64, any_network))
    return [with_graph(model_of(width), make(), images).graph for width, make in networks]


def expected_of(model, network, images):
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if model.mean:
        pixels = (pixels / 255 - 0.5) / torch.tensor([0.25, 0.5, 0.5]).view(1, 3, 1, 1)
    with torch.inference_mode():
        return model.probabilities(network.eval()(pixels).numpy())


@pytest.mark.parametrize(
    ("make", "width", "normalised"),
    [(plain_network, 16, True), (plain_network, 16, False), (any_network, 64, True)],
)
def test_a_network_of_torch_is_part_of_the_graph(images, make, width, normalised):
    """With pixels normalised or raw, for one image or several: the probabilities of torch and head."""
    network = make()
    more = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 0.5)} if normalised else {}
    model = model_of(width, **more)
    expected, exported = expected_of(model, network, images), with_graph(model, network, images)
    for some in (slice(None), slice(1)):
        found = load_runtime(exported).probabilities(images[some])
        assert found == pytest.approx(expected[some], abs=1e-5)


def test_a_plain_network_is_written_without_torchs_exporter(images, monkeypatch):
    """The quick way gives the same nodes and the same numbers as the slow one, to the last bit."""
    network, model = plain_network(), model_of(16)
    with monkeypatch.context() as patch:
        patch.setattr(graph, "_by_torch", None)
        quick = with_graph(model, network, images)
    monkeypatch.setattr(graph, "_translate", None)
    slow = with_graph(model, network, images)
    operators = [
        [node.op_type for node in onnx.load_model_from_string(one.graph).graph.node] for one in (quick, slow)
    ]
    assert operators[0] == operators[1]
    assert (load_runtime(quick).probabilities(images) == load_runtime(slow).probabilities(images)).all()


def test_nothing_of_this_machine_is_in_the_file(images):
    """No path, no trace of the stack; another process, with other hashes, writes the same bytes."""
    both = graphs(images)
    for one in both:
        read = onnx.load_model_from_string(one)
        assert all(not node.metadata_props and not node.doc_string for node in read.graph.node)
    for word in (b"site-packages", b".py", b"torch", str(Path.home()).encode() + b"/"):
        assert word not in b"".join(both)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import numpy as np, test_network as t\n"
        "images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)\n"
        "sys.stdout.buffer.write(b''.join(t.graphs(images)))\n"
    )
    places = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent)]
    environment = {"PYTHONHASHSEED": "1", "PATH": "/usr/bin"}
    command = [sys.executable, "-c", code, *places]
    elsewhere = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert elsewhere == b"".join(both)


def test_what_onnx_cannot_express_is_refused(images, monkeypatch):
    """A network with an operator that ONNX lacks ends in torch's words, or in the install line."""
    import torch
    from torch import nn

    class Strange(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvalsh(pixels[:, 0])

    with pytest.raises(GateError, match=r"^this network cannot be written as ONNX: "):
        with_graph(model_of(32), Strange(), images)
    monkeypatch.setattr(graph, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"onnxscript, which is not installed: .*'\.\[train\]'"):
        with_graph(model_of(32), Strange(), images)


@pytest.mark.slow
def test_a_pretrained_network_keeps_its_probabilities(images, tmp_path, monkeypatch):
    """The default kind of backbone is exported the quick way, saved and loaded as one model."""
    from assay.embed.backbone import load_backbone

    monkeypatch.setattr(graph, "_by_torch", None)
    backbone = load_backbone("tf_efficientnet_lite0", tmp_path, size=32, dtype="float32")
    model = model_of(backbone.width, backbone.name, mean=backbone.mean, std=backbone.std)
    model = with_graph(replace(model, backbone=backbone.tensors()), backbone.trunk(), images)
    model.save(tmp_path / "model")
    expected = model.probabilities(backbone.embed(images))
    loaded = load_runtime(tmp_path / "model")
    for some in (slice(None), slice(1), slice(2, 5)):
        assert loaded.probabilities(images[some]) == pytest.approx(expected[some], abs=1e-3)
