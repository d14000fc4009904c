"""Quick depthwise convolutions have torch's own answers and gradients."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from timm.layers import Conv2dSame  # noqa: E402  # only where torch is
from torch import nn  # noqa: E402  # the same

from assay.learn.quick import Depthwise, SameDepthwise, hasten  # noqa: E402  # the same

LAYERS = {
    "5 x 5": nn.Conv2d(4, 4, 5, padding=2, groups=4),
    "5 x 5, no bias": nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False),
    "5 x 5, skipping": nn.Conv2d(4, 4, 5, stride=2, padding=2, groups=4),
    "5 x 5, TensorFlow's": Conv2dSame(4, 4, 5, stride=2, groups=4, bias=False),
    "3 x 3, TensorFlow's": Conv2dSame(4, 4, 3, stride=2, groups=4, bias=False),
}


def learned(layer, maps):
    """What the layer gives, and the gradients of its maps and numbers."""
    maps = maps.clone().requires_grad_()
    found = layer(maps)
    weights = torch.rand(found.shape, generator=torch.Generator().manual_seed(1)).to(maps.dtype)
    return found, *torch.autograd.grad((found * weights).sum(), [maps, *layer.parameters()])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 6), (7, 8)])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_torchs(name, size):
    """Put together from four corners they are the same, also for maps smaller than the filter."""
    plain = LAYERS[name].double()
    quick = nn.Sequential(plain.__class__(**_told(plain)).double())
    quick[0].load_state_dict(plain.state_dict())
    hasten(quick)
    assert isinstance(quick[0], Depthwise | SameDepthwise)
    maps = torch.rand((3, 4, *size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for one, other in zip(learned(plain, maps), learned(quick[0], maps), strict=True):
        assert one.dtype == other.dtype
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_does_not_learn_is_as_it_was():
    """In evaluation the layer is its parent's, to the last bit; maps that need no gradient get none."""
    layer = LAYERS["5 x 5"].float()
    maps = torch.rand(2, 4, 6, 6)
    before = layer(maps)
    quick = nn.Conv2d(4, 4, 5, padding=2, groups=4)
    quick.load_state_dict(layer.state_dict())
    hasten(nn.Sequential(quick))
    assert torch.equal(quick.eval()(maps), before)
    quick.train()(maps).sum().backward()
    assert maps.grad is None
    assert quick.weight.grad is not None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(4, 4, 5, padding=1, groups=4),
        nn.Conv2d(4, 4, 5, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        Conv2dSame(4, 4, 5, stride=2, dilation=2, groups=4),
    ],
)
def test_other_layers_are_left_alone(layer):
    """More channels out than in, not depthwise, other paddings, holes, 3 x 3."""
    before = type(layer)
    hasten(nn.Sequential(layer))
    assert type(layer) is before


@pytest.mark.parametrize("name", LAYERS)
def test_in_bfloat16_too(name):
    """Under autocast what multiplies is bfloat16, or float32 where that is slow; gradients are float32."""
    layer = LAYERS[name].float()
    quick = layer.__class__(**_told(layer))
    quick.load_state_dict(layer.state_dict())
    hasten(nn.Sequential(quick))
    maps = torch.rand((8, 4, 6, 6), generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = learned(quick, maps)
    for one, other in zip(learned(layer, maps.float()), found, strict=True):
        assert torch.allclose(one, other.float(), rtol=0.05, atol=0.05 * float(one.detach().abs().max()))
    assert [number.dtype for number in found[2:]] == [torch.float32] * (len(found) - 2)


def _told(layer):
    return {
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "groups": 4,
        "bias": layer.bias is not None,
    }
