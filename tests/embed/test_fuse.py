"""embed.fuse: convolutions that rectify and pad while they multiply."""

import pytest

torch = pytest.importorskip("torch")
from tests.support.networks import random_weights  # noqa: E402  # the same
from torch import nn  # noqa: E402  # only where torch is installed

from assay.embed.fuse import Fused, fuse  # noqa: E402  # the same
from assay.embed.network import build_network, fold_batch_norms  # noqa: E402  # the same
from assay.embed.trunk import Levels  # noqa: E402  # the same

NAME = "test_efficientnet"
"""Rectifies by another function than the Lites: only its padding is taken over."""

quick = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


def fused_parts(network):
    """How many convolutions do more than before."""
    return sum(isinstance(module, Fused) for module in network.modules())


def pictures(side):
    """Two, of noise."""
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def rectifying(rectifier):
    """A small network in which convolutions are rectified, two strides of them padded as TensorFlow pads."""
    from timm.layers.conv2d_same import Conv2dSame

    torch.manual_seed(0)
    layers = [
        Conv2dSame(3, 8, 3, stride=2), rectifier(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), rectifier(),
        Conv2dSame(8, 8, 5, stride=2, groups=8),
        nn.Conv2d(8, 6, 1), rectifier(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ]  # fmt: skip  # each convolution beside what follows it
    return nn.Sequential(*layers).eval()


@quick
@pytest.mark.parametrize("side", [31, 32, 33, 34])
@pytest.mark.parametrize("rectifier", [nn.ReLU, nn.ReLU6])
def test_features_stay_what_they_were(rectifier, side):
    """Whatever the padding is at a size, with both rectifiers; the network that was given is not touched."""
    network = rectifying(rectifier)
    with torch.inference_mode():
        wanted = network(pictures(side))
        fused = fuse(network, pictures(side)[:1])
        assert fused_parts(fused) == 4
        assert torch.allclose(fused(pictures(side)), wanted, rtol=1e-4, atol=1e-5)
        assert wanted.std() > 0.01
    assert fused_parts(network) == 0
    assert sum(isinstance(module, rectifier) for module in network.modules()) == 3


@quick
@pytest.mark.parametrize("rectifier", [nn.ReLU, nn.ReLU6])
def test_in_bfloat16_too(rectifier):
    """As near as bfloat16 rounds, where a processor can multiply in it at all."""
    network = rectifying(rectifier).to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = pictures(32).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = fuse(network, images[:1])(images)
        assert torch.allclose(found.float(), network(images).float(), rtol=0.02, atol=0.02)


@quick
def test_a_network_of_timm_is_padded_on_the_way():
    """All its convolutions that are padded as TensorFlow pads, and no others."""
    from timm.layers.conv2d_same import Conv2dSame

    network = fold_batch_norms(Levels(build_network(NAME, random_weights(NAME)), 2), 32)
    padded = sum(type(module) is Conv2dSame for module in network.modules())
    fused = fuse(network, pictures(32))
    with torch.inference_mode():
        assert torch.allclose(fused(pictures(32)), network(pictures(32)), rtol=1e-3, atol=1e-4)
    assert fused_parts(fused) >= padded
    assert not any(type(module) is Conv2dSame for module in fused.modules())


class Crossed(nn.Module):
    """Its rectifier stands after a convolution that it runs before."""

    def __init__(self):
        super().__init__()
        self.convolution, self.rectifier = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, images):
        """(B, 3)."""
        return self.convolution(self.rectifier(images)).mean(dim=(2, 3))


def test_neighbours_that_do_not_follow_each_other_are_found_out():
    """What would give other features stays as it was."""
    network = Crossed().eval()
    assert fuse(network, pictures(8)) is network


def test_without_the_operator_all_stays_as_it_was(monkeypatch):
    """Another processor, or a torch that has none of it, runs the network itself."""

    def refuses(_, __):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(Fused, "forward", refuses)
    network = rectifying(nn.ReLU6)
    assert fuse(network, pictures(32)) is network
