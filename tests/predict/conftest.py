"""A model of drawn images, and images to predict."""

import numpy as np
import pytest
from browser import TOKEN, Browser, Echo
from new_images import draw_new_images
from small_runs import CLASSES, draw_image

from assay.embed.tiny import TinyBackbone
from assay.export.export import with_graph
from assay.predict.model import Model
from assay.train.linear import fit_logistic
from assay.web.guard import Guard


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


@pytest.fixture(scope="session")
def conv_model(conv_images) -> Model:
    """Two random convolutions, and a head fitted to what they give of drawn images."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3, stride=2),
        torch.nn.ReLU6(),
        torch.nn.Conv2d(64, 96, 3, stride=2),
        torch.nn.ReLU6(),
        torch.nn.AvgPool2d(3, 1),
        torch.nn.Flatten(),
    ).eval()
    pixels = torch.from_numpy(conv_images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        features = trunk(pixels).numpy()
    head = fit_logistic(features, np.arange(24) % 3, 3)
    tensors = {name: tensor.numpy() for name, tensor in trunk.state_dict().items()}
    half = (0.5, 0.5, 0.5)
    return with_graph(
        Model("conv", 16, CLASSES, head, mean=half, std=half, backbone=tensors), trunk, conv_images
    )


@pytest.fixture
def new_images(tmp_path):
    """Six good images in an order of their own, then one of one colour, and four that are none."""
    return draw_new_images(tmp_path / "new")


NAMES = [f"{row}.png" for row in range(5, 11)] + ["100.png", "cut.png", "empty.png", "gone.png", "page.jpg"]


@pytest.fixture
def names() -> list[str]:
    """The new images in natural order."""
    return NAMES


@pytest.fixture
def echo() -> Echo:
    """An application that would let every page ask."""
    return Echo()


@pytest.fixture
def browser(echo):
    """A window that has been let in to it, past the guard."""
    found = Browser(Guard(echo, port=8765, token=TOKEN, max_body_bytes=1000, timeout_s=0.5))
    found.cookie = found.get(f"/?token={TOKEN}").header("set-cookie").partition(";")[0]
    yield found
    found.close()
