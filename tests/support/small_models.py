"""Small models of drawn images, as fixtures for the tests of several packages."""

import numpy as np
import pytest
from new_images import draw_new_images
from small_runs import CLASSES, draw_image

from assay.embed.tiny import TinyBackbone
from assay.export.graph import with_graph
from assay.predict.model import Model
from assay.train.heads import fit_logistic


@pytest.fixture(scope="session")
def model() -> Model:
    """Linear on the features of ``tiny``, fitted to 60 drawn images."""
    generator = np.random.default_rng(1)
    truth = np.arange(60) % 3
    images = np.stack([draw_image(label, generator) for label in truth])
    head = fit_logistic(TinyBackbone().embed(images), truth, 3)
    return with_graph(Model("tiny", 32, CLASSES, head), None, images)


@pytest.fixture(scope="session")
def conv_images() -> np.ndarray:
    """24 drawn images of 16 pixels."""
    generator = np.random.default_rng(3)
    return np.stack([draw_image(row % 3, generator, side=16) for row in range(24)])


def conv_trunk():
    """The network of ``conv_model``, the same each time."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3, stride=2),
        torch.nn.ReLU6(),
        torch.nn.Conv2d(64, 96, 3, stride=2),
        torch.nn.ReLU6(),
        torch.nn.AvgPool2d(3, 1),
        torch.nn.Flatten(),
    ).eval()


def conv_features(trunk, images) -> np.ndarray:
    """(N, 96), of images of 16 pixels."""
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        return trunk(pixels).numpy()


@pytest.fixture(scope="session")
def conv_model(conv_images) -> Model:
    """Two random convolutions, and a head fitted to their features of drawn images."""
    pytest.importorskip("torch")
    trunk = conv_trunk()
    head = fit_logistic(conv_features(trunk, conv_images), np.arange(24) % 3, 3)
    tensors = {name: tensor.numpy() for name, tensor in trunk.state_dict().items()}
    half = (0.5, 0.5, 0.5)
    conv = Model("conv", 16, CLASSES, head, mean=half, std=half, backbone=tensors)
    return with_graph(conv, trunk, conv_images)


@pytest.fixture
def new_images(tmp_path):
    """Six good images in an order of their own, one of one colour, and four files that are no image."""
    return draw_new_images(tmp_path / "new")
