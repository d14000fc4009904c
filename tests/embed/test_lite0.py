import hashlib

import numpy as np
import pytest

from assay.embed import load_backbone
from assay.errors import ModelError, UsageError
from assay.types import Backbone

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("timm", reason="needs the train extra")

from safetensors.torch import save_file  # noqa: E402  # after torch is known to be there

from assay.embed.backbone import LEVELS  # noqa: E402  # the same
from assay.embed.packaged import PACKAGED  # noqa: E402  # the same
from assay.embed.preprocessing import FROM_ZERO_TO_ONE  # noqa: E402  # the same
from assay.embed.trunk import Levels  # noqa: E402  # the same

pytestmark = pytest.mark.train

LITE0, SIZE = "tf_efficientnet_lite0", 64


def images(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def exact(cache):
    """Lite0 at a small size in float32."""
    return load_backbone(LITE0, cache, size=SIZE, dtype="float32")


@pytest.mark.parametrize("number", [1, 5, 17])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_company_does_not_matter(cache, number, dtype):
    """An image has the same features in whatever batch and at whatever place it comes."""
    backbone = load_backbone(LITE0, cache, size=SIZE, dtype=dtype)
    batch = images(20)
    together = backbone.embed(batch)
    parts = [backbone.embed(batch[start : start + number]) for start in range(0, 20, number)]
    assert np.array_equal(np.concatenate(parts), together)


def test_it_keeps_the_contract_of_a_backbone(exact):
    """Name, size, width, dtype and an empty batch are as every caller expects."""
    features = exact.embed(images(3))
    assert isinstance(exact, Backbone)
    assert (exact.name, exact.size, exact.origin) == (LITE0, SIZE, "package")
    assert (features.shape, features.dtype) == ((3, exact.width), np.float32)
    assert exact.embed(images(0)).shape == (0, exact.width)


def test_features_are_those_of_the_plain_network(exact):
    """Folding, layout and padding change no feature: pixels scaled by hand go through plain modules."""
    pixels = torch.from_numpy(images(3).transpose(0, 3, 1, 2) / 127.5 - 1).float()
    with torch.inference_mode():
        expected = Levels(exact.network, LEVELS)(pixels).numpy()
    assert exact.embed(images(3)) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_half_precision_is_near_enough(cache, exact):
    """bfloat16 features lie close to those of float32."""
    half = load_backbone(LITE0, cache, size=SIZE, dtype="bfloat16").embed(images(6))
    full = exact.embed(images(6))
    assert np.corrcoef(half.ravel(), full.ravel())[0, 1] > 0.999


def test_the_images_are_left_as_they_are(exact):
    """A batch may be read only, and is not written to."""
    batch = images(3)
    batch.flags.writeable = False
    exact.embed(batch)
    assert np.array_equal(batch, images(3))


def test_the_digest_is_over_what_changes_the_features(cache, exact):
    """The same again has the same digest; another size or dtype has another."""
    again = load_backbone(LITE0, cache, size=SIZE, dtype="float32")
    larger = load_backbone(LITE0, cache, size=SIZE + 32, dtype="float32")
    half = load_backbone(LITE0, cache, size=SIZE, dtype="bfloat16")
    assert again.digest == exact.digest
    assert len({backbone.digest for backbone in (exact, larger, half)}) == 3


def test_every_choice_has_a_digest_of_its_own(cache, exact):
    """Features of another kind, of other pixels or of squares made otherwise are never taken for these."""
    choices = {"features": "map", "interpolation": "nearest", "preprocessing": FROM_ZERO_TO_ONE}
    digests = {
        load_backbone(LITE0, cache, size=SIZE, dtype="float32", **{name: choice}).digest
        for name, choice in choices.items()
    }
    assert len(digests | {exact.digest}) == 4


def test_the_digest_of_the_first_choices_stays(cache, exact):
    """What is stored in caches is found again: it names no choice from before there was one."""
    first = load_backbone(LITE0, cache, size=SIZE, dtype="float32", interpolation="bicubic")
    identity = {
        "name": LITE0,
        "weights": PACKAGED[LITE0].sha256,
        "size": SIZE,
        "levels": LEVELS,
        "torch": torch.__version__,
        "mean": exact.mean,
        "std": exact.std,
    }
    wanted = hashlib.sha256(repr((identity, exact.plan.key)).encode()).hexdigest()
    assert first.digest == wanted
    assert exact.digest != wanted


def test_the_trunk_gives_the_features(cache, exact):
    """Scaled by hand, pixels go through the trunk to the features that ``embed`` gives, of either kind."""
    pixels = torch.from_numpy(images(3).transpose(0, 3, 1, 2)).float()
    whole = load_backbone(
        LITE0, cache, size=SIZE, dtype="float32", features="map", preprocessing=FROM_ZERO_TO_ONE
    )
    for backbone, scaled in ((exact, pixels / 127.5 - 1), (whole, pixels / 255)):
        trunk = backbone.trunk()
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in trunk.modules())
        assert not any(module.training for module in trunk.modules())
        with torch.inference_mode():
            found = trunk(scaled).numpy()
        assert found.dtype == np.float32
        assert backbone.embed(images(3)) == pytest.approx(found, rel=1e-3, abs=1e-3)
    assert whole.width == 1280 * 2 * 2
    assert (whole.features, whole.interpolation) == ("map", "sharp")


def test_a_model_holds_what_the_features_need(cache, exact):
    """The layer after the last stage, 1.7 MB, is no part of a model that looks at stages."""
    whole = load_backbone(LITE0, cache, size=SIZE, dtype="float32", features="map").tensors()
    kept = exact.tensors()
    assert whole.keys() == exact.network.state_dict().keys()
    left_out = whole.keys() - kept.keys()
    assert {name.split(".")[0] for name in left_out} == {"conv_head", "bn2"}
    assert sum(whole[name].nbytes for name in left_out) > 1_600_000
    assert all(np.array_equal(kept[name], whole[name]) for name in kept)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"features": "pooled"}, "features: expected stages or map, got 'pooled'"),
        (
            {"interpolation": "bilinear"},
            "interpolation: expected sharp or bicubic or nearest, got 'bilinear'",
        ),
    ],
)
def test_an_unknown_choice_is_refused(cache, choice, message):
    """Before anything is loaded."""
    with pytest.raises(UsageError, match=f"^{message}$"):
        load_backbone(LITE0, cache, size=SIZE, **choice)


def test_local_weights_of_the_same_network_give_the_same_features(cache, exact, tmp_path):
    """A network saved as safetensors and given back by hand is the same but for its origin."""
    save_file(exact.network.state_dict(), tmp_path / "mine.safetensors")
    local = load_backbone(LITE0, cache, size=SIZE, weights=tmp_path / "mine.safetensors", dtype="float32")
    assert np.array_equal(local.embed(images(3)), exact.embed(images(3)))
    assert local.origin == "file"
    assert local.digest != exact.digest


def test_weights_of_another_network_are_refused(cache, exact, tmp_path):
    """Lite0's tensors do not make a lite2."""
    save_file(exact.network.state_dict(), tmp_path / "mine.safetensors")
    with pytest.raises(
        ModelError, match=r"^weights of tf_efficientnet_lite2: expected .*, got (shape|nothing)"
    ):
        load_backbone("tf_efficientnet_lite2", cache, weights=tmp_path / "mine.safetensors")


def test_an_unknown_dtype_is_refused(cache):
    """The flag's message reaches the caller."""
    with pytest.raises(UsageError, match=r"^--dtype: expected auto, float32 or bfloat16, got 'half'$"):
        load_backbone(LITE0, cache, size=SIZE, dtype="half")
