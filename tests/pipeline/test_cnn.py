"""CNN 1 and CNN 2 on drawn images."""

from dataclasses import replace

import numpy as np
import pytest
from small_tasks import small_task, squares_of

from assay.notebook.cnn import Cnn, cnn_1, cnn_2, compiled
from assay.notebook.teaching import TrainingData
from assay.predict.model import read_model
from assay.predict.runtime import load_runtime
from assay.types import UNKNOWN

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def task(small_data, tmp_path_factory):
    return small_task(small_data, tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def one(task):
    return cnn_1(task)


@pytest.fixture(scope="module")
def networks():
    """Each network as it was trained, in order."""
    return []


@pytest.fixture(scope="module")
def two(task, networks):
    fit = TrainingData.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingData, "fit", lambda *noisy: networks.append(fit(*noisy)) or networks[-1])
        return cnn_2(task)


def test_the_layers_are_the_notebooks():
    """32, 64 and 64 maps of 3 by 3, two pools, then 64 units; CNN 2 has a batch norm after flattening."""
    plain, normed = Cnn()(3072, 10), Cnn(batch_norm=True)(3072, 10)
    names = [type(layer).__name__ for layer in plain]
    convolutions = ["Conv2d", "MaxPool2d", "ReLU", "Conv2d", "MaxPool2d", "ReLU", "Conv2d", "ReLU"]
    assert names == ["Pixels", *convolutions, "Flatten", "Linear", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in normed] == [*names[:10], "BatchNorm1d", *names[10:]]
    assert sum(part.numel() for part in plain.parameters()) == 896 + 18_496 + 36_928 + 262_208 + 650
    assert normed[10].momentum == pytest.approx(1 - 0.99)
    assert normed[10].eps == pytest.approx(1e-3)


def test_the_pool_may_come_before_the_relu():
    """Both orders give the same numbers and the same gradients."""
    import torch
    from torch import nn
    from torch.nn import functional

    maps = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for layers in (nn.Sequential(nn.MaxPool2d(2), nn.ReLU()), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))):
        out = layers(maps)
        found.append((out, torch.autograd.grad(functional.softplus(out).sum(), maps)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_settings_are_the_notebooks(task):
    """Adam's and Keras' defaults, ten epochs, batches of 32."""
    network = compiled(task, Cnn())
    assert (network.epochs, network.batch_size, network.learning_rate) == (10, 32, 1e-3)
    assert (network.standardise, network.random_state, network.dtype) == (False, 0, "float32")


def test_cnn_1_learns_noisy_labels_of_all_that_is_not_held_out(one, task):
    """Trusted labels change nothing; each epoch is in the history; the facts say what was computed."""
    assert [(epoch.stage, epoch.epoch) for epoch in one.history] == [("noisy", n) for n in range(1, 11)]
    assert one.model.facts["features_computed"] == 240
    assert {"embed", "train", "export"} <= one.seconds.keys()
    blind = cnn_1(replace(task, dataset=replace(task.dataset, trusted=np.full(240, UNKNOWN))))
    assert blind.model.head.weights[0].tobytes() == one.model.head.weights[0].tobytes()
    assert blind.model.facts["features_computed"] == 0


def test_the_model_is_the_network_that_was_trained(two, networks, task, small_data):
    """Convolutions, the folded batch norm and dense layers say what the torch network says."""
    squares = squares_of(small_data)
    first, second = networks
    expected = second.predict_proba(squares.reshape(240, -1).astype(np.float32))
    assert load_runtime(two.model).probabilities(squares) == pytest.approx(expected, abs=1e-4)
    assert (two.model.architecture, two.model.size) == ("conv", 32)
    assert two.model.labels == task.dataset.classes
    assert first.random_state != second.random_state


def test_cnn_2_keeps_the_labels_it_agrees_with(two, task):
    """First the trusted labels, then those and the agreed ones; how many is said."""
    assert [epoch.stage for epoch in two.history] == ["trusted"] * 10 + ["trusted and kept"] * 10
    noisy = (task.dataset.trusted == UNKNOWN) & ~task.held
    assert two.model.facts["kept_of"] == noisy.sum() == 240 - 120
    assert 0 < two.model.facts["kept"] < two.model.facts["kept_of"]


def test_it_learns_what_is_drawn(two, task, small_data):
    """Held-out images are told apart, which the noisy labels alone would not promise."""
    squares, truth = squares_of(small_data)[task.held], small_data.truth[task.held]
    predicted = load_runtime(two.model).probabilities(squares).argmax(axis=1)
    assert (predicted == truth).mean() > 0.6


def test_as_published_scores_are_rounded(two, task, small_data):
    """At the filter and in the model that is kept; CNN 1 never rounded."""
    published = cnn_2(replace(task, published=True))
    assert published.model.facts["rounded"]
    assert "rounded" not in two.model.facts
    assert "rounded" not in cnn_1(replace(task, published=True)).model.facts
    assert published.model.facts["published"]
    said = load_runtime(published.model).probabilities(squares_of(small_data))
    logs = np.log(said[:, 0]) - np.log(said[:, 1])
    assert logs == pytest.approx(np.round(logs), abs=1e-3)


def test_the_saved_model_loads_again(two, tmp_path, small_data):
    """From its folder, with the same predictions."""
    two.model.save(tmp_path / "model")
    squares = squares_of(small_data)[:20]
    again = load_runtime(read_model(tmp_path / "model")).probabilities(squares)
    assert (again == load_runtime(two.model).probabilities(squares)).all()
