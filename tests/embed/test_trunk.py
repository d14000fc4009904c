"""Networks of timm, filled with weights and folded, and the features that trunks take from them."""

import re
from itertools import chain

import numpy as np
import pytest

from assay.errors import ModelError, UsageError

torch = pytest.importorskip("torch", reason="needs the train extra")
timm = pytest.importorskip("timm", reason="needs the train extra")

from networks import SIZE, normalised, random_weights  # noqa: E402  # after torch is known to be there
from torch import nn  # noqa: E402  # the same

from assay.embed.trunk import (  # noqa: E402  # the same
    LastMap,
    Levels,
    build_network,
    feature_width,
    fold_batch_norms,
    make_trunk,
    needed_tensors,
)
from assay.embed.weights import PACKAGED, Weights, find_weights  # noqa: E402  # the same

pytestmark = pytest.mark.train

SMALL = "test_efficientnet"
WANTED = f"weights of {SMALL}: expected conv_stem.weight of shape (24, 3, 3, 3) and finite, got"
IN_A_ROW = (SMALL, "mobilenetv3_small_050")
"""One of each family whose stages are run without its own code."""


def built(name):
    return build_network(name, random_weights(name))


def test_a_network_holds_its_weights_and_no_classifier():
    """Every tensor is the one given under its name; nothing trains and no batch statistic moves."""
    small, noisy = built(SMALL), random_weights(SMALL).tensors
    kept = small.state_dict()
    assert set(noisy) - set(kept) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(kept[name], noisy[name]) for name in kept)
    assert not small.training
    assert not any(parameter.requires_grad for parameter in small.parameters())


@pytest.mark.parametrize("name", PACKAGED)
def test_the_tensors_of_a_package_are_those_of_timm_in_order(name):
    """At each place the package's tensor has timm's shape and the same last name, and fills it."""
    weights = find_weights(name)
    kept = build_network(name, weights).state_dict()
    assert len(weights.tensors) == len(kept) + 2  # the classifier's come last
    for (theirs, tensor), (ours, held) in zip(weights.tensors.items(), kept.items(), strict=False):
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        assert torch.equal(tensor, held)


def test_only_a_package_is_matched_by_order():
    """A local file with other names is refused, even if its shapes would fit."""
    renamed = {f"other.{name}": tensor for name, tensor in random_weights(SMALL).tensors.items()}
    assert build_network(SMALL, Weights(renamed, "0" * 64, "package"))
    with pytest.raises(ModelError, match=f"^{re.escape(WANTED)} nothing$"):
        build_network(SMALL, Weights(renamed, "0" * 64, "file"))


@pytest.mark.parametrize(
    ("spoil", "came"),
    [
        (lambda tensor: tensor[:, :1], "shape (24, 1, 3, 3)"),
        (lambda tensor: tensor * np.inf, "NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_refused(spoil, came):
    """A tensor of another shape, or with NaN or infinity, is named."""
    noisy = random_weights(SMALL)
    bad = Weights({**noisy.tensors, "conv_stem.weight": spoil(noisy.tensors["conv_stem.weight"])}, "", "file")
    with pytest.raises(ModelError, match=f"^{re.escape(f'{WANTED} {came}')}$"):
        build_network(SMALL, bad)


@pytest.mark.parametrize(("name", "left"), [(SMALL, 0), ("test_resnet", 1)])
def test_folding_changes_time_and_not_features(name, left):
    """A copy without the batch norms that follow a convolution gives the same features."""
    network = Levels(built(name), 2)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    folded = fold_batch_norms(network, SIZE)
    with torch.inference_mode():
        assert torch.allclose(network(normalised()), folded(normalised()), rtol=1e-3, atol=1e-3)
    # The first norm of a resnet follows a whole stem.
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
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


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize(("name", "stages"), [(SMALL, "blocks"), ("test_convnext", "stages")])
def test_levels_are_the_means_of_the_last_stages(name, stages, levels):
    """Features equal running the stages one by one and averaging each of the last ones over positions."""
    network, collected = built(name), []
    with torch.inference_mode():
        found = Levels(network, levels)(normalised())
        hooks = [
            stage.register_forward_hook(lambda *call: collected.append(call[2]))
            for stage in getattr(network, stages)
        ]
        network(normalised())
    for hook in hooks:
        hook.remove()
    expected = torch.cat([maps.mean(dim=(2, 3)) for maps in collected[-levels:]], dim=1)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert feature_width(Levels(network, levels), name, SIZE) == expected.shape[1]


def test_levels_of_other_networks():
    """Tokens are averaged; without stages pooled features are taken; no hook stays, even after an error."""
    vit, outputs = built("test_vit"), []
    images = normalised(2, vit.patch_embed.img_size[0])
    with torch.inference_mode():
        found = Levels(vit, 1)(images)
        hook = vit.blocks[-1].register_forward_hook(lambda *call: outputs.append(call[2]))
        vit(images)
        hook.remove()
        assert torch.allclose(found, outputs[0].mean(dim=1), atol=1e-6)
        resnet = built("test_resnet")
        assert torch.equal(Levels(resnet, 3)(normalised()), resnet(normalised()))
    with pytest.raises(RuntimeError):
        Levels(vit, 1)(torch.zeros(1, 5, *images.shape[2:]))
    assert not any(module._forward_hooks for module in vit.modules())


@pytest.mark.parametrize("name", IN_A_ROW)
def test_stages_in_a_row_are_the_network_itself(name):
    """To the last bit they give what the network's own code gives, folded or not, in either precision."""
    levels = make_trunk(built(name), "stages", 4)
    assert levels.in_a_row
    for network in (levels, fold_batch_norms(levels, SIZE)):
        for dtype in (torch.float32, torch.bfloat16):
            moved, images = network.to(dtype), normalised().to(dtype)
            with torch.inference_mode():
                row, hooked = moved(images), moved._hooked(images)
            assert len(hooked) == 4
            assert torch.equal(row, torch.cat(hooked, dim=1))


@pytest.mark.parametrize("name", IN_A_ROW)
def test_layers_that_no_feature_needs_are_left_out(name):
    """Features stay the same when all that is left out is damaged."""
    network = built(name)
    levels = make_trunk(network, "stages", 4)
    left_out, images = network.state_dict().keys() - needed_tensors(levels).keys(), normalised()
    with torch.inference_mode():
        before = levels(images)
        for tensor_name, tensor in chain(network.named_parameters(), network.named_buffers()):
            if tensor_name in left_out:
                tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
        assert torch.equal(levels(images), before)
    assert "conv_head.weight" in left_out


@pytest.mark.parametrize(
    ("name", "features"), [("test_convnext", "stages"), ("test_resnet", "stages"), (SMALL, "map")]
)
def test_a_network_that_is_run_whole_is_kept_whole(name, features):
    """Where the network's own code decides what runs, every tensor is kept."""
    network = built(name)
    assert needed_tensors(make_trunk(network, features, 4)).keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", [SMALL, "test_convnext", "test_resnet"])
def test_the_last_map_keeps_its_places(name):
    """The number at (channel, row, column) comes at that place of the flattened map, in float32."""
    network = built(name)
    trunk = make_trunk(network, "map", 4)
    with torch.inference_mode():
        maps, found = network.forward_features(normalised()), trunk(normalised())
        halves = trunk.to(torch.bfloat16)(normalised().to(torch.bfloat16))
    assert torch.equal(found, maps.flatten(1))
    assert halves.dtype == found.dtype == torch.float32


def test_maps_with_channels_last_are_turned():
    """Networks with maps (B, H, W, C) give the order and the pooled features of the others."""
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=0, depths=(1, 1), embed_dim=24
    ).eval()
    mamba = timm.create_model(
        "mambaout_femto", num_classes=0, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)
    ).eval()
    seen = []
    hook = mamba.stages[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        maps, found = swin.forward_features(normalised(1, 224)), LastMap(swin)(normalised(1, 224))
        pooled = make_trunk(mamba, "stages", 4)(normalised(2, 64))
    hook.remove()
    assert torch.equal(found.view(1, 48, 28, 28), maps.permute(0, 3, 1, 2))
    assert pooled.shape == (2, 8 + 16 + 24 + 32)
    assert torch.equal(pooled[:, -32:], seen[0].mean(dim=(1, 2)))


def test_what_a_transformer_cannot_give_is_refused():
    """Its tokens are no map, and most take one size only; both refusals come before any image is embedded."""
    network = built("test_vit")
    message = (
        r"^features 'map': expected a network that ends in a map \(B, C, H, W\), got VisionTransformer, "
        r"which ends in \(1, 101, 64\); choose another backbone, or the features 'stages'$"
    )
    with pytest.raises(UsageError, match=message):
        feature_width(make_trunk(network, "map", 4), "test_vit", network.patch_embed.img_size[0])
    with pytest.raises(UsageError, match=r"^--size: expected a size that test_vit can take, got 50: '"):
        feature_width(network, "test_vit", 50)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize(
    ("name", "features"), [(SMALL, "stages"), (SMALL, "map"), ("test_convnext", "stages")]
)
def test_a_trunk_can_be_traced(name, features):
    """An exporter can follow it, for any number of images, whether or not it hooks the stages."""
    trunk = fold_batch_norms(make_trunk(built(name), features, 4), SIZE)
    dynamic = ({0: torch.export.Dim("N")},)
    traced = torch.export.export(trunk, (normalised(),), dynamic_shapes=dynamic).module()
    with torch.inference_mode():
        assert torch.allclose(traced(normalised(3)), trunk(normalised(3)), atol=1e-6)
