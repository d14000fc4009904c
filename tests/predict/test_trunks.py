"""Networks of torch as nodes of a graph."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from assay.errors import GateError
from assay.export.export import with_graph
from assay.predict.layers import Layers
from assay.predict.model import Model
from assay.predict.runtime import load_runtime

pytestmark = pytest.mark.train

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def images():
    """Five images of noise."""
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def model_of(width: int, name: str = "conv", **more) -> Model:
    """A linear head that answers differently from image to image."""
    weights = np.random.default_rng(1).normal(size=(width, 2)).astype(np.float32)
    head = Layers(np.zeros(width, np.float32), np.ones(width, np.float32), (weights, np.zeros(2, np.float32)))
    return Model(name, 32, ("no", "yes"), head, backbone={"w": np.zeros(1, np.float32)}, **more)


def small_network():
    """Convolutions, a batch norm with statistics, pooling and flattening."""
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


@pytest.mark.parametrize("normalised", [True, False])
def test_a_network_of_torch_is_part_of_the_graph(images, normalised):
    """With pixels normalised by mean and std, or raw: the probabilities of torch and head."""
    import torch

    network = small_network()
    model = model_of(64, mean=HALF, std=(0.25, 0.5, 0.5)) if normalised else model_of(64)
    exported = with_graph(model, network, images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if normalised:
        pixels = (pixels / 255 - 0.5) / torch.tensor([0.25, 0.5, 0.5]).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = model.probabilities(network.eval()(pixels).numpy())
    assert load_runtime(exported).probabilities(images) == pytest.approx(expected, abs=1e-5)
    assert load_runtime(exported).probabilities(images[:1]) == pytest.approx(expected[:1], abs=1e-5)


def test_nothing_of_this_machine_is_in_the_file(images):
    """No path, no trace of the stack, no name of a module; another export gives the same bytes."""
    exported = with_graph(model_of(64), small_network(), images)
    read = onnx.load_model_from_string(exported.graph)
    assert all(not node.metadata_props and not node.doc_string for node in read.graph.node)
    for word in (b"site-packages", b".py", b"torch", str(Path.home()).encode() + b"/"):
        assert word not in exported.graph
    assert with_graph(model_of(64), small_network(), images).graph == exported.graph


def test_what_onnx_cannot_say_is_refused(images):
    """A network with an operator of another domain ends in the gate, with torch's words."""
    import torch
    from torch import nn

    class Strange(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvalsh(pixels[:, 0])

    with pytest.raises(GateError, match=r"^this network cannot be written as ONNX: "):
        with_graph(model_of(32), Strange(), images)


@pytest.mark.slow
def test_a_pretrained_network_keeps_its_probabilities(images, tmp_path):
    """The default kind of backbone, folded: within the gate, and saved and loaded as one model."""
    from assay.embed.backbone import load_backbone

    backbone = load_backbone("tf_efficientnet_lite0", tmp_path, size=32, dtype="float32")
    model = model_of(backbone.width, backbone.name, mean=backbone.mean, std=backbone.std)
    model = with_graph(replace(model, backbone=backbone.tensors()), backbone.trunk(), images)
    model.save(tmp_path / "model")
    expected = model.probabilities(backbone.embed(images))
    loaded = load_runtime(tmp_path / "model")
    for some in (slice(None), slice(1), slice(2, 5)):
        assert loaded.probabilities(images[some]) == pytest.approx(expected[some], abs=1e-3)


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same_bytes(images):
    """Neither the order of hashes nor earlier exports are in the file."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import numpy as np, hashlib, test_trunks as t\n"
        "images = np.zeros((2, 32, 32, 3), np.uint8)\n"
        "print(hashlib.sha256(t.with_graph(t.model_of(64), t.small_network(), images).graph).hexdigest())\n"
    )
    places = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent)]
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, *places],
        env={"PYTHONHASHSEED": "1", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    graphs = [with_graph(model_of(64), small_network(), images).graph for _ in range(2)]
    assert {hashlib.sha256(graph).hexdigest() for graph in graphs} == {elsewhere.strip()}
