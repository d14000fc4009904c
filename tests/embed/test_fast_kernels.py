"""Fast kernels give torch's own outputs and gradients, and what they cannot compute stays plain."""

from copy import deepcopy
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("timm", reason="needs the train extra")

from networks import random_weights  # noqa: E402  # only where torch is
from timm.layers import GroupNormAct, SqueezeExcite  # noqa: E402  # the same
from timm.layers.conv2d_same import Conv2dSame  # noqa: E402  # the same
from timm.models._efficientnet_blocks import InvertedResidual  # noqa: E402  # the same
from torch import nn  # noqa: E402  # the same

from assay.embed import fast_kernels  # noqa: E402  # the same
from assay.embed.fast_kernels import (  # noqa: E402  # the same
    FastInvertedResidual,
    FusedConvolution,
    fuse_convolutions,
    use_fast_training,
)
from assay.embed.trunk import Levels, build_network, fold_batch_norms  # noqa: E402  # the same

pytestmark = pytest.mark.train

NAME = "tf_mobilenetv3_small_minimal_100"
"""A network with TensorFlow's padding and ReLU."""

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")

BLOCKS = {
    "3 x 3": {},
    "5 x 5": {"dw_kernel_size": 5},
    "7 x 7": {"dw_kernel_size": 7},
    "3 x 3, stride 2": {"stride": 2, "out_chs": 6},
    "5 x 5, stride 2": {"dw_kernel_size": 5, "stride": 2, "out_chs": 6},
    "3 x 3, TensorFlow's": {"stride": 2, "pad_type": "same", "out_chs": 6},
    "5 x 5, TensorFlow's": {"dw_kernel_size": 5, "stride": 2, "pad_type": "same", "out_chs": 6},
    "ReLU": {"dw_kernel_size": 5, "act_layer": nn.ReLU},
    "SiLU, squeezed": {"dw_kernel_size": 5, "act_layer": nn.SiLU, "se_layer": SqueezeExcite},
    "wider at its end": {"out_chs": 16, "exp_ratio": 2.0},
}

OTHERS = {
    "dilation": {"dilation": 2},
    "wide projection": {"pw_kernel_size": 3},
    "wide expansion": {"exp_kernel_size": 3},
    "grouped": {"group_size": 2},
    "stride 3": {"stride": 3},
    "space to depth": {"s2d": 1},
    "another norm": {"norm_layer": partial(GroupNormAct, num_groups=2)},
}


def pictures(side):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def fused_in(network):
    return sum(isinstance(module, FusedConvolution) for module in network.modules())


def small_network(activation):
    """Convolutions with activations after them, two strides padded as TensorFlow pads."""
    torch.manual_seed(0)
    layers = [
        Conv2dSame(3, 8, 3, stride=2), activation(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), activation(),
        Conv2dSame(8, 8, 5, stride=2, groups=8),
        nn.Conv2d(8, 6, 1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ]  # fmt: skip  # each convolution beside what follows it
    return nn.Sequential(*layers).eval()


@onednn
@pytest.mark.parametrize("side", [31, 32, 33, 34])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
def test_fused_features_stay_the_same(activation, side):
    """Whatever the padding is at a size, in float32 and bfloat16; the network itself is not changed."""
    network = small_network(activation)
    with torch.inference_mode():
        wanted = network(pictures(side))
        fused = fuse_convolutions(network, pictures(side)[:1])
        assert torch.allclose(fused(pictures(side)), wanted, rtol=1e-4, atol=1e-5)
        half = network.bfloat16()
        images = pictures(side).bfloat16()
        found = fuse_convolutions(half, images[:1])(images)
        assert torch.allclose(found.float(), half(images).float(), rtol=0.02, atol=0.02)
    assert (fused_in(fused), fused_in(network)) == (4, 0)
    assert wanted.std() > 0.01


@onednn
def test_the_padding_of_a_network_of_timm_is_fused():
    """All its convolutions with TensorFlow's padding are replaced."""
    network = fold_batch_norms(Levels(build_network(NAME, random_weights(NAME)), 2), 32)
    padded = sum(type(module) is Conv2dSame for module in network.modules())
    fused = fuse_convolutions(network, pictures(32))
    with torch.inference_mode():
        assert torch.allclose(fused(pictures(32)), network(pictures(32)), rtol=1e-3, atol=1e-4)
    assert fused_in(fused) >= padded > 0
    assert not any(type(module) is Conv2dSame for module in fused.modules())


class Crossed(nn.Module):
    """Its activation stands after a convolution that it runs before."""

    def __init__(self):
        super().__init__()
        self.convolution, self.activation = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, images):
        """(B, 3)."""
        return self.convolution(self.activation(images)).mean(dim=(2, 3))


def test_what_differs_or_cannot_run_stays_plain(monkeypatch):
    """The self-check finds neighbours that do not run in a row, and a missing operator."""
    network = Crossed().eval()
    assert fuse_convolutions(network, pictures(8)) is network

    def refuses(_, __):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(FusedConvolution, "forward", refuses)
    network = small_network(nn.ReLU6)
    assert fuse_convolutions(network, pictures(32)) is network


def block(**options):
    """A block with trained numbers, its batch norms as fine-tuning has them."""
    options = {"in_chs": 4, "out_chs": 4, "exp_ratio": 2.0, "act_layer": nn.ReLU6} | options
    torch.manual_seed(0)
    made = InvertedResidual(**options).train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 4)
            nn.init.uniform_(module.bias, -0.5, 1)
            module.eval()
    return made


def fast(plain):
    copy = deepcopy(plain)
    use_fast_training(nn.Sequential(copy))
    return copy


def results(layer, maps):
    """The output, and the gradients of maps and parameters."""
    maps = maps.clone().requires_grad_()
    output = layer(maps)
    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(1)).to(maps.dtype)
    return output, *torch.autograd.grad((output * weights).sum(), [maps, *layer.parameters()])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 8)])
@pytest.mark.parametrize("name", BLOCKS)
def test_outputs_and_gradients_are_torchs(name, size):
    """Folded, multiplied as matrices, put together from halves: the same numbers, also of tiny maps."""
    plain = block(**BLOCKS[name]).double()
    quick = fast(plain)
    assert type(quick) is FastInvertedResidual
    maps = torch.randn((3, 4, *size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for one, other in zip(results(plain, maps), results(quick, maps), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_under_autocast_are_near(name):
    """Products are bfloat16; the gradients of parameters are float32."""
    plain = block(**BLOCKS[name])
    maps = torch.rand((8, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    quick = fast(plain)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(quick, maps)
    assert found[0].dtype == torch.bfloat16
    assert {part.dtype for part in found[1:]} == {torch.float32}
    for one, other in zip(results(plain, maps), found, strict=True):
        # An activation that just opens in one and not in the other makes most of it.
        assert (one - other.float()).norm() / one.norm().clamp(min=1e-3) < 0.2


def test_outside_of_training_a_block_is_its_parent():
    """In evaluation, and where batch norms measure, to the last bit; maps without gradient get none."""
    plain, maps = block(dw_kernel_size=5), torch.rand(2, 4, 6, 6)
    quick = fast(plain)
    quick(maps).sum().backward()
    assert maps.grad is None
    assert all(number.grad is not None for number in quick.parameters())
    assert torch.equal(quick.eval()(maps), plain.eval()(maps))
    assert torch.equal(quick.train()(maps), plain.train()(maps))
    assert torch.equal(quick.bn1.running_mean, plain.bn1.running_mean)


@pytest.mark.parametrize("name", OTHERS)
def test_other_blocks_stay_plain(name):
    """Blocks with layers that have no fast form are not touched."""
    torch.manual_seed(0)
    assert type(fast(InvertedResidual(4, 4, exp_ratio=2.0, **OTHERS[name]))) is InvertedResidual


def test_a_block_with_wrong_gradients_stays_plain(monkeypatch):
    """The self-check compares gradients too: a kernel that another torch computes otherwise is not used."""
    right = fast_kernels._depthwise_gradients
    monkeypatch.setattr(
        fast_kernels, "_depthwise_gradients", lambda *parts: (right(*parts)[0], 1.1 * right(*parts)[1])
    )
    assert type(fast(block())) is InvertedResidual
