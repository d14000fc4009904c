"""Dense layers of a torch network as arrays."""

import numpy as np
import pytest

from assay.notebook.dense import dense_layers

pytestmark = pytest.mark.train


@pytest.fixture
def network():
    """A batch norm that has seen something, two dense layers, dropout between them."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.BatchNorm1d(6, eps=1e-3), nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)
    )
    with torch.no_grad():
        layers[0].running_mean.normal_()
        layers[0].running_var.uniform_(0.1, 3)
        layers[0].weight.normal_()
        layers[0].bias.normal_()
    return layers.eval()


def scores_of(network, X):
    import torch

    with torch.no_grad():
        return network(torch.from_numpy(X)).numpy()


X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def test_the_arrays_say_what_torch_says(network):
    """With a batch norm before them, and without."""
    assert dense_layers(network).scores(X) == pytest.approx(scores_of(network, X), abs=1e-5)
    assert dense_layers(network[1:]).scores(X) == pytest.approx(scores_of(network[1:], X), abs=1e-5)


def test_features_are_standardised_first(network):
    """Mean and scale come before the batch norm."""
    mean = np.arange(6, dtype=np.float32)
    scale = np.linspace(0.5, 2, 6, dtype=np.float32)
    expected = scores_of(network, (X - mean) / scale)
    assert dense_layers(network, mean, scale).scores(X) == pytest.approx(expected, abs=1e-4)


def test_other_layers_are_refused(network):
    """What Layers cannot say is named; a batch norm in the middle cannot be said either."""
    from torch import nn

    with pytest.raises(ValueError, match="expected Linear, ReLU and Dropout, got Tanh"):
        dense_layers([*network, nn.Tanh()])
    with pytest.raises(ValueError, match="expected Linear, ReLU and Dropout, got BatchNorm1d"):
        dense_layers([*network, nn.BatchNorm1d(3)])
