"""Quick blocks and depthwise convolutions have torch's own answers and gradients."""

from copy import deepcopy
from functools import partial

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from timm.layers import GroupNormAct, SqueezeExcite  # noqa: E402  # only where torch is
from timm.models._efficientnet_blocks import InvertedResidual  # noqa: E402  # the same
from torch import nn  # noqa: E402  # the same

from assay.train.depthwise import QuickDepthwise  # noqa: E402  # the same
from assay.train.fast_blocks import QuickResidual, use_fast_kernels  # noqa: E402  # the same

BLOCKS = {
    "3 x 3": {},
    "5 x 5": {"dw_kernel_size": 5},
    "7 x 7": {"dw_kernel_size": 7},
    "3 x 3, skipping": {"stride": 2, "out_chs": 6},
    "5 x 5, skipping": {"dw_kernel_size": 5, "stride": 2, "out_chs": 6},
    "3 x 3, TensorFlow's": {"stride": 2, "pad_type": "same", "out_chs": 6},
    "5 x 5, TensorFlow's": {"dw_kernel_size": 5, "stride": 2, "pad_type": "same", "out_chs": 6},
    "ReLU": {"dw_kernel_size": 5, "act_layer": nn.ReLU},
    "SiLU, squeezed": {"dw_kernel_size": 5, "act_layer": nn.SiLU, "se_layer": SqueezeExcite},
    "wider at its end": {"out_chs": 16, "exp_ratio": 2.0},
}

OTHERS = {
    "holes": {"dilation": 2},
    "wide ends": {"pw_kernel_size": 3},
    "wide beginnings": {"exp_kernel_size": 3},
    "several channels each": {"group_size": 2},
    "skips two": {"stride": 3},
    "space to depth": {"s2d": 1},
    "another norm": {"norm_layer": partial(GroupNormAct, num_groups=2)},
}


def block(**told):
    """A block that has learned something, its batch norms as a student has them."""
    told = {"in_chs": 4, "out_chs": 4, "exp_ratio": 2.0, "act_layer": nn.ReLU6} | told
    torch.manual_seed(0)
    made = InvertedResidual(**told)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 4)
            nn.init.uniform_(module.bias, -0.5, 1)
    return keeping(made.train())


def keeping(network):
    """The same, its batch norms measuring nothing."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def hastened(plain):
    """A copy that learns quickly."""
    quick = deepcopy(plain)
    use_fast_kernels(nn.Sequential(quick))
    return quick


def learned(layer, maps):
    """What the block gives, and the gradients of its maps and numbers."""
    maps = maps.clone().requires_grad_()
    found = layer(maps)
    weights = torch.rand(found.shape, generator=torch.Generator().manual_seed(1)).to(maps.dtype)
    return found, *torch.autograd.grad((found * weights).sum(), [maps, *layer.parameters()])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 6), (7, 8)])
@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_are_torchs(name, size):
    """Folded, multiplied as matrices, put together from halves they are the same, also of tiny maps."""
    plain = block(**BLOCKS[name]).double()
    quick = hastened(plain)
    assert type(quick) is QuickResidual
    maps = torch.randn((3, 4, *size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for one, other in zip(learned(plain, maps), learned(quick, maps), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 8)])
@pytest.mark.parametrize("told", [{}, {"bias": False}, {"stride": 2}], ids=str)
def test_filters_five_wide_are_quick_on_their_own_too(told, size):
    """In blocks of other families: their gradients are torch's."""
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 4, 5, padding=2, groups=4, **told).double()
    quick = hastened(plain)
    assert type(quick) is QuickDepthwise
    maps = torch.randn((3, 4, *size), dtype=torch.float64)
    for one, other in zip(learned(plain, maps), learned(quick, maps), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)
    assert torch.equal(plain.eval()(maps), quick.eval()(maps))
    with torch.autocast("cpu", torch.bfloat16):
        assert quick.train()(maps.float()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(4, 4, 5, padding="same", groups=4),
        nn.Conv2d(4, 4, 5, dilation=2, groups=4),
        nn.Conv2d(4, 4, 5, stride=3, groups=4),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 5, padding=2, padding_mode="reflect", groups=4),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(layer):
    """More channels out than in, not depthwise, padded by a word, holes, long steps, 3 x 3, mirrors."""
    assert type(hastened(layer)) is nn.Conv2d


def test_maps_that_need_no_gradient_get_none():
    """The first block that learns has what does not learn before it."""
    quick, maps = hastened(block()), torch.rand(2, 4, 6, 6)
    quick(maps).sum().backward()
    assert maps.grad is None
    assert all(number.grad is not None for number in quick.parameters())


def test_what_does_not_learn_is_as_it_was():
    """In evaluation, and where batch norms measure, a block is its parent's to the last bit."""
    plain, maps = block(dw_kernel_size=5), torch.rand(2, 4, 6, 6)
    quick = hastened(plain)
    assert torch.equal(quick.eval()(maps), plain.eval()(maps))
    assert torch.equal(quick.train()(maps), plain.train()(maps))
    assert torch.equal(quick.bn1.running_mean, plain.bn1.running_mean)


@pytest.mark.parametrize("name", OTHERS)
def test_other_blocks_are_left_alone(name):
    """Layers that are not multiplied here: holes, wide filters, groups, long steps, other norms."""
    torch.manual_seed(0)
    plain = InvertedResidual(4, 4, exp_ratio=2.0, **OTHERS[name])
    assert type(hastened(plain)) is InvertedResidual


@pytest.mark.parametrize("name", BLOCKS)
def test_in_bfloat16_too(name):
    """Under autocast what multiplies is bfloat16; the gradients of numbers are float32."""
    plain = block(**BLOCKS[name])
    maps = torch.rand((8, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = learned(hastened(plain), maps)
    assert found[0].dtype == torch.bfloat16
    assert {part.dtype for part in found[1:]} == {torch.float32}
    for one, other in zip(learned(plain, maps), found, strict=True):
        apart = (one - other.float()).norm() / one.norm().clamp(min=1e-3)
        # A rectifier that just opens in one and not in the other makes most of it.
        assert apart < 0.2
