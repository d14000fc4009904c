import re

import numpy as np
import pytest

from assay._errors import ModelError, UsageError

torch = pytest.importorskip("torch", reason="needs the train extra")
timm = pytest.importorskip("timm", reason="needs the train extra")

from torch import nn  # noqa: E402  # after torch is known to be there

from assay.embed.network import (  # noqa: E402  # the same
    HALF,
    Levels,
    build_network,
    feature_width,
    fold_batch_norms,
    preprocessing_of,
)
from assay.embed.packaged import PACKAGED  # noqa: E402  # the same
from assay.embed.weights import Weights, find_weights  # noqa: E402  # the same

pytestmark = pytest.mark.train

SIZE = 64
WANTED = "weights of test_efficientnet: expected conv_stem.weight of shape (24, 3, 3, 3) and finite, got"


def random_weights(name: str, origin: str = "file") -> Weights:
    """Weights for a small network of timm, batch statistics included, the same each time."""
    noise = torch.Generator().manual_seed(0)
    tensors = {}
    for key, tensor in timm.create_model(name, pretrained=False).state_dict().items():
        values = torch.randn(tensor.shape, generator=noise)
        if tensor.dtype == torch.int64:
            tensors[key] = tensor
        elif key.endswith("running_var"):
            tensors[key] = values.abs() + 0.5
        elif tensor.ndim > 1:
            tensors[key] = values / tensor[0].numel() ** 0.5
        else:
            tensors[key] = 1 + values / 10 if key.endswith("weight") else values / 10
    return Weights(tensors, "0" * 64, origin)


def images(number: int = 2, size: int = SIZE):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def small():
    return build_network("test_efficientnet", random_weights("test_efficientnet"))


def test_a_network_holds_its_weights_and_no_classifier(small):
    """Every tensor is the one given under its name; nothing learns and no batch statistic moves."""
    given = random_weights("test_efficientnet").tensors
    kept = small.state_dict()
    assert set(given) - set(kept) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(kept[name], given[name]) for name in kept)
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
    given = random_weights("test_efficientnet")
    renamed = {f"other.{name}": tensor for name, tensor in given.tensors.items()}
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
    given = random_weights("test_efficientnet")
    bad = Weights({**given.tensors, "conv_stem.weight": spoil(given.tensors["conv_stem.weight"])}, "", "file")
    with pytest.raises(ModelError, match=f"^{re.escape(f'{WANTED} {came}')}$"):
        build_network("test_efficientnet", bad)


def test_an_unknown_architecture_is_refused():
    """A name in a saved model leads nowhere unless timm knows it."""
    with pytest.raises(UsageError, match=r"expected the name of a model of timm, got 'os\.system'"):
        build_network("os.system", random_weights("test_efficientnet"))


def test_packaged_weights_want_pixels_from_minus_one_to_one():
    """Mean and spread are a half for the packages, and timm's own for the rest."""
    assert {preprocessing_of(name) for name in PACKAGED} == {HALF}
    assert HALF.mean == HALF.std == (0.5, 0.5, 0.5)
    assert preprocessing_of("resnet18").mean == (0.485, 0.456, 0.406)
    assert preprocessing_of("resnet18").std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(("name", "stages"), [("test_efficientnet", "blocks"), ("test_convnext", "stages")])
def test_levels_are_the_means_of_the_last_stages(name, stages, levels):
    """Features equal running the stages one by one and averaging each of the last ones over positions."""
    network = build_network(name, random_weights(name))
    collected = []
    with torch.inference_mode():
        found = Levels(network, levels)(images())
        hooked = [
            stage.register_forward_hook(lambda *call: collected.append(call[2]))
            for stage in getattr(network, stages)
        ]
        network(images())
    expected = []
    for maps in collected[-levels:]:
        total = torch.zeros(maps.shape[:2])
        for y in range(maps.shape[2]):
            for x in range(maps.shape[3]):
                total += maps[:, :, y, x]
        expected.append(total / (maps.shape[2] * maps.shape[3]))
    for hook in hooked:
        hook.remove()
    assert found.shape[1] == sum(maps.shape[1] for maps in collected[-levels:])
    assert torch.allclose(found, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-5)


def test_levels_of_tokens_are_their_means():
    """A transformer's blocks give the mean over tokens."""
    network = build_network("test_vit", random_weights("test_vit"))
    outputs = []
    size = network.patch_embed.img_size[0]
    with torch.inference_mode():
        found = Levels(network, 1)(images(2, size))
        hook = network.blocks[-1].register_forward_hook(lambda *call: outputs.append(call[2]))
        network(images(2, size))
        hook.remove()
    assert torch.allclose(found, outputs[0].mean(dim=1), atol=1e-6)


def test_a_network_without_stages_gives_its_pooled_features():
    """Where there are no stages to look at, the network's own features are taken."""
    network = build_network("test_resnet", random_weights("test_resnet"))
    with torch.inference_mode():
        assert torch.equal(Levels(network, 3)(images()), network(images()))


def test_levels_leave_no_hooks_behind(small):
    """A pass, even one that fails, leaves the network as it was."""
    levels = Levels(small, 2)
    with pytest.raises(RuntimeError):
        levels(torch.zeros(1, 5, SIZE, SIZE))
    levels(images())
    assert not any(module._forward_hooks for module in small.modules())


@pytest.mark.parametrize(("name", "left"), [("test_efficientnet", 0), ("test_resnet", 1)])
def test_folding_changes_time_and_not_features(name, left):
    """Without the batch norms that follow a convolution a copy gives the same features."""
    network = Levels(build_network(name, random_weights(name)), 2)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    folded = fold_batch_norms(network, SIZE)
    with torch.inference_mode():
        assert torch.allclose(network(images()), folded(images()), rtol=1e-3, atol=1e-3)
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
    assert feature_width(levels, "test_efficientnet", SIZE) == levels(images()).shape[1]


def test_a_size_that_a_network_cannot_take_is_refused():
    """A transformer that takes one size only says so in the user's terms."""
    network = build_network("test_vit", random_weights("test_vit"))
    with pytest.raises(
        UsageError, match=r"^--size: expected a size that test_vit can take, got 50: it says '"
    ):
        feature_width(network, "test_vit", 50)
