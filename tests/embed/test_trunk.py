from itertools import chain

import pytest

from assay.errors import UsageError

torch = pytest.importorskip("torch", reason="needs the train extra")
timm = pytest.importorskip("timm", reason="needs the train extra")

from networks import SIZE, normalised, random_weights  # noqa: E402  # after torch is known to be there

from assay.embed.network import build_network, feature_width, fold_batch_norms  # noqa: E402  # the same
from assay.embed.trunk import LastMap, Levels, make_trunk, needed_tensors  # noqa: E402  # the same

pytestmark = pytest.mark.train

IN_A_ROW = ("test_efficientnet", "mobilenetv3_small_050")
"""One of each family whose stages are run without its own code."""


@pytest.fixture(scope="module")
def listened():
    """A network whose own code runs its stages."""
    return build_network("test_convnext", random_weights("test_convnext"))


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(("name", "stages"), [("test_efficientnet", "blocks"), ("test_convnext", "stages")])
def test_levels_are_the_means_of_the_last_stages(name, stages, levels):
    """Features equal running the stages one by one and averaging each of the last ones over positions."""
    network = build_network(name, random_weights(name))
    collected = []
    with torch.inference_mode():
        found = Levels(network, levels)(normalised())
        hooked = [
            stage.register_forward_hook(lambda *call: collected.append(call[2]))
            for stage in getattr(network, stages)
        ]
        network(normalised())
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
        found = Levels(network, 1)(normalised(2, size))
        hook = network.blocks[-1].register_forward_hook(lambda *call: outputs.append(call[2]))
        network(normalised(2, size))
        hook.remove()
    assert torch.allclose(found, outputs[0].mean(dim=1), atol=1e-6)


def test_a_network_without_stages_gives_its_pooled_features():
    """Where there are no stages to look at, the network's own features are taken."""
    network = build_network("test_resnet", random_weights("test_resnet"))
    with torch.inference_mode():
        assert torch.equal(Levels(network, 3)(normalised()), network(normalised()))


def test_levels_leave_no_hooks_behind(listened):
    """A pass, even one that fails, leaves the network as it was."""
    levels = Levels(listened, 2)
    with pytest.raises(RuntimeError):
        levels(torch.zeros(1, 5, SIZE, SIZE))
    levels(normalised())
    assert not any(module._forward_hooks for module in listened.modules())


@pytest.mark.parametrize("name", IN_A_ROW)
def test_stages_in_a_row_are_the_network_itself(name):
    """To the last bit they give what the network's own code gives, folded or not, in either precision."""
    levels = make_trunk(build_network(name, random_weights(name)), "stages", 4)
    assert levels.in_a_row
    for network in (levels, fold_batch_norms(levels, SIZE)):
        for dtype in (torch.float32, torch.bfloat16):
            moved, images = network.to(dtype), normalised().to(dtype)
            with torch.inference_mode():
                row, hooked = moved._row(images), moved._hooked(images)
            assert len(row) == len(hooked) == 4
            assert all(torch.equal(*pair) for pair in zip(row, hooked, strict=True))


@pytest.mark.parametrize("name", IN_A_ROW)
def test_layers_that_no_feature_needs_are_left_out(name):
    """Features stay the same when all that is left out is damaged, and the layer after the stages is."""
    network = build_network(name, random_weights(name))
    levels = make_trunk(network, "stages", 4)
    needed, images = needed_tensors(levels), normalised()
    left_out = network.state_dict().keys() - needed.keys()
    with torch.inference_mode():
        before = levels(images)
        for tensor_name, tensor in chain(network.named_parameters(), network.named_buffers()):
            if tensor_name in left_out:
                tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
        assert torch.equal(levels(images), before)
    assert "conv_head.weight" in left_out
    assert not any(tensor_name.startswith(("conv_stem", "bn1", "blocks")) for tensor_name in left_out)


@pytest.mark.parametrize(
    ("name", "features"),
    [("test_convnext", "stages"), ("test_resnet", "stages"), ("test_efficientnet", "map")],
)
def test_a_network_that_is_run_whole_is_kept_whole(name, features):
    """Where the network's own code decides what runs, every tensor is kept."""
    network = build_network(name, random_weights(name))
    assert needed_tensors(make_trunk(network, features, 4)).keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_resnet"])
def test_the_last_map_keeps_its_places(name):
    """The number at (channel, row, column) comes at that place of the flattened map, in float32."""
    network = build_network(name, random_weights(name))
    trunk = make_trunk(network, "map", 4)
    with torch.inference_mode():
        maps, found = network.forward_features(normalised()), trunk(normalised())
        halves = trunk.to(torch.bfloat16)(normalised().to(torch.bfloat16))
    channels, height, width = maps.shape[1:]
    assert found.shape == (2, channels * height * width)
    assert halves.dtype == found.dtype == torch.float32
    for channel, row, column in ((0, 0, 1), (1, 1, 0), (channels - 1, height - 1, width - 1)):
        place = (channel * height + row) * width + column
        assert torch.equal(found[:, place], maps[:, channel, row, column])


def test_a_map_with_channels_last_is_turned():
    """Networks that end in (B, H, W, C) give the same order as the others."""
    network = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, depths=(1, 1), embed_dim=24)
    with torch.inference_mode():
        maps = network.eval().forward_features(normalised(1, 224))
        found = LastMap(network)(normalised(1, 224))
    assert maps.shape[1:] == (28, 28, 48)
    assert torch.equal(found.view(1, 48, 28, 28), maps.permute(0, 3, 1, 2))


def test_stages_with_channels_last_are_pooled_over_places():
    """Networks whose maps are (B, H, W, C) give a feature for each channel, as others do."""
    network = timm.create_model(
        "mambaout_femto", num_classes=0, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)
    ).eval()
    seen = []
    hook = network.stages[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        found = make_trunk(network, "stages", 4)(normalised(2, 64))
    hook.remove()
    assert found.shape == (2, 8 + 16 + 24 + 32)
    assert torch.equal(found[:, -32:], seen[0].mean(dim=(1, 2)))


def test_tokens_are_no_map():
    """A transformer's tokens are refused in words, before any image is embedded."""
    network = build_network("test_vit", random_weights("test_vit"))
    message = (
        r"^features 'map': expected a network that ends in a map \(B, C, H, W\), got VisionTransformer, "
        r"which ends in \(1, 101, 64\); choose another backbone, or the features 'stages'$"
    )
    with pytest.raises(UsageError, match=message):
        feature_width(make_trunk(network, "map", 4), "test_vit", network.patch_embed.img_size[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize(
    ("name", "features"),
    [("test_efficientnet", "stages"), ("test_efficientnet", "map"), ("test_convnext", "stages")],
)
def test_a_trunk_can_be_traced(name, features):
    """An exporter can follow it, for any number of images, whether or not it listens to the stages."""
    trunk = fold_batch_norms(make_trunk(build_network(name, random_weights(name)), features, 4), SIZE)
    dynamic = ({0: torch.export.Dim("N")},)
    traced = torch.export.export(trunk, (normalised(),), dynamic_shapes=dynamic).module()
    with torch.inference_mode():
        assert torch.allclose(traced(normalised(3)), trunk(normalised(3)), atol=1e-6)
