import re

import numpy as np
import pytest

from assay.errors import ModelError, UsageError

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("timm", reason="needs the train extra")

from networks import SIZE, normalised, random_weights  # noqa: E402  # after torch is known to be there
from torch import nn  # noqa: E402  # the same

from assay.embed.network import build_network, feature_width, fold_batch_norms  # noqa: E402  # the same
from assay.embed.packaged import PACKAGED  # noqa: E402  # the same
from assay.embed.trunk import Levels  # noqa: E402  # the same
from assay.embed.weights import Weights, find_weights  # noqa: E402  # the same

pytestmark = pytest.mark.train

WANTED = "weights of test_efficientnet: expected conv_stem.weight of shape (24, 3, 3, 3) and finite, got"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def small():
    return build_network("test_efficientnet", random_weights("test_efficientnet"))


def test_a_network_holds_its_weights_and_no_classifier(small):
    """Every tensor is the one given under its name; nothing learns and no batch statistic moves."""
    noisy = random_weights("test_efficientnet").tensors
    kept = small.state_dict()
    assert set(noisy) - set(kept) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(kept[name], noisy[name]) for name in kept)
    assert not small.training
    assert not any(parameter.requires_grad for parameter in small.parameters())


@pytest.mark.parametrize("name", PACKAGED)
def test_the_tensors_of_a_package_are_those_of_timm_in_order(name, cache):
    """At each place the package's tensor has timm's shape and the same last name, and fills it."""
    weights = find_weights(name, cache)
    kept = build_network(name, weights).state_dict()
    # The classifier's two, which come last, are left over.
    assert len(weights.tensors) == len(kept) + 2
    for (theirs, tensor), (ours, held) in zip(weights.tensors.items(), kept.items(), strict=False):
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        assert torch.equal(tensor, held)


def test_only_a_package_is_matched_by_order():
    """A local file with other names is refused, even if its shapes would fit."""
    noisy = random_weights("test_efficientnet")
    renamed = {f"other.{name}": tensor for name, tensor in noisy.tensors.items()}
    assert build_network("test_efficientnet", Weights(renamed, "0" * 64, "package"))
    with pytest.raises(ModelError, match=f"^{re.escape(WANTED)} nothing$"):
        build_network("test_efficientnet", Weights(renamed, "0" * 64, "file"))


@pytest.mark.parametrize(
    ("spoil", "came"),
    [
        (lambda tensor: tensor[:, :1], "shape (24, 1, 3, 3)"),
        (lambda tensor: tensor * np.nan, "NaN or infinity"),
        (lambda tensor: tensor * np.inf, "NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_refused(spoil, came):
    """A tensor of another shape, or one that holds no numbers, is named."""
    noisy = random_weights("test_efficientnet")
    bad = Weights({**noisy.tensors, "conv_stem.weight": spoil(noisy.tensors["conv_stem.weight"])}, "", "file")
    with pytest.raises(ModelError, match=f"^{re.escape(f'{WANTED} {came}')}$"):
        build_network("test_efficientnet", bad)


def test_an_unknown_architecture_is_refused():
    """A name in a saved model leads nowhere unless timm knows it."""
    with pytest.raises(UsageError, match=r"expected the name of a model of timm, got 'os\.system'"):
        build_network("os.system", random_weights("test_efficientnet"))


@pytest.mark.parametrize(("name", "left"), [("test_efficientnet", 0), ("test_resnet", 1)])
def test_folding_changes_time_and_not_features(name, left):
    """Without the batch norms that follow a convolution a copy gives the same features."""
    network = Levels(build_network(name, random_weights(name)), 2)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    folded = fold_batch_norms(network, SIZE)
    with torch.inference_mode():
        assert torch.allclose(network(normalised()), folded(normalised()), rtol=1e-3, atol=1e-3)
    # The first norm of a resnet follows a whole stem.
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) > 5
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


def test_a_network_that_folding_would_change_is_left_alone():
    """Neighbours that do not run one after the other are found out, and not folded."""

    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)
            self.norm.running_mean += 5

        def forward(self, x):
            return self.first(self.norm(x)).mean(dim=(2, 3))

    network = Crossed().eval()
    assert fold_batch_norms(network, SIZE) is network


def test_the_width_is_the_number_of_features(small):
    """Counted by running the network once."""
    levels = Levels(small, 2)
    assert feature_width(levels, "test_efficientnet", SIZE) == levels(normalised()).shape[1]


def test_a_size_that_a_network_cannot_take_is_refused():
    """A transformer that takes one size only says so in the user's terms."""
    network = build_network("test_vit", random_weights("test_vit"))
    with pytest.raises(
        UsageError, match=r"^--size: expected a size that test_vit can take, got 50: it says '"
    ):
        feature_width(network, "test_vit", 50)
