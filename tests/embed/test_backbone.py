"""A network of timm as a backbone: its digest, features, choices and refusals."""

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.embed import load_backbone
from assay.embed.tiny import TinyBackbone
from assay.errors import MissingExtraError, ModelError, UsageError
from assay.types import Backbone

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("timm", reason="needs the train extra")

from safetensors.torch import save_file  # noqa: E402  # after torch is known to be there

from assay.embed.backbone import FROM_ZERO_TO_ONE, HALF, LEVELS, preprocessing_of  # noqa: E402  # the same
from assay.embed.trunk import Levels  # noqa: E402  # the same
from assay.embed.weights import PACKAGED, find_weights  # noqa: E402  # the same

pytestmark = pytest.mark.train

LITE0, SIZE = "tf_efficientnet_lite0", 64
SMALL = 32  # without its instructions bfloat16 is slow


def images(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def exact(cache):
    """Lite0 at a small size in float32."""
    return load_backbone(LITE0, cache, size=SIZE, dtype="float32")


def test_tiny_needs_no_torch(tmp_path, monkeypatch):
    """The tiny backbone works without the train extra and writes nothing."""
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert load_backbone("tiny", tmp_path) == TinyBackbone()
    assert list(tmp_path.iterdir()) == []


def test_a_network_needs_the_extra(tmp_path, monkeypatch):
    """Without timm the message is the install line."""
    monkeypatch.setitem(sys.modules, "timm", None)
    message = "this needs timm, which is not installed: in assay's folder, pip install '.[train]'"
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        load_backbone(LITE0, tmp_path)


@pytest.mark.parametrize(
    ("name", "choice", "message"),
    [
        (
            "tiny",
            {"weights": Path("my.safetensors")},
            "--weights: the backbone 'tiny' has none, got my.safetensors; leave the flag out",
        ),
        (
            "tiny",
            {"interpolation": "nearest"},
            "the backbone 'tiny' has features of its own only; name a network of timm",
        ),
        (LITE0, {"features": "pooled"}, "features: expected stages or map, got 'pooled'"),
        (
            LITE0,
            {"interpolation": "bilinear"},
            "interpolation: expected sharp or bicubic or nearest, got 'bilinear'",
        ),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(cache, name, choice, message):
    """Nothing that was asked for is silently ignored."""
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        load_backbone(name, cache, size=SIZE, **choice)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_image_has_the_same_features_in_any_batch(cache, dtype):
    """At whatever place and in whatever company it comes."""
    backbone = load_backbone(LITE0, cache, size=SMALL, dtype=dtype)
    batch = images(20)[:, :SMALL, :SMALL]
    expected = backbone.embed(batch)
    for number, n in ((1, 4), (5, 10), (17, 20)):
        parts = [backbone.embed(batch[start : min(start + number, n)]) for start in range(0, n, number)]
        assert np.array_equal(np.concatenate(parts), expected[:n])


def test_it_keeps_the_contract_of_a_backbone(exact):
    """Name, size, width, dtype, an empty batch and a read-only batch are as every caller expects."""
    batch = images(3)
    batch.flags.writeable = False
    features = exact.embed(batch)
    assert isinstance(exact, Backbone)
    assert (exact.name, exact.size, exact.origin) == (LITE0, SIZE, "package")
    assert (features.shape, features.dtype) == ((3, exact.width), np.float32)
    assert exact.embed(images(0)).shape == (0, exact.width)
    assert np.array_equal(batch, images(3))


def test_features_are_those_of_the_plain_network(cache, exact):
    """Folding, layout and padding change no feature, and bfloat16 changes them little."""
    pixels = torch.from_numpy(images(6).transpose(0, 3, 1, 2) / 127.5 - 1).float()
    with torch.inference_mode():
        expected = Levels(exact.network, LEVELS)(pixels).numpy()
    full = exact.embed(images(6))
    assert full == pytest.approx(expected, rel=1e-3, abs=1e-3)
    few = images(6)[:, :SMALL, :SMALL]
    single, half = (
        load_backbone(LITE0, cache, size=SMALL, dtype=dtype).embed(few) for dtype in ("float32", "bfloat16")
    )
    assert np.corrcoef(half.ravel(), single.ravel())[0, 1] > 0.999


def test_the_digest_covers_all_that_changes_the_features(cache):
    """The same again has the same digest; another size, dtype or other choice has its own."""
    first, again = (load_backbone(LITE0, cache, size=SMALL, dtype="float32").digest for _ in range(2))
    assert first == again
    choices = [
        {"size": SIZE},
        {"dtype": "bfloat16"},
        {"features": "map"},
        {"interpolation": "nearest"},
        {"preprocessing": FROM_ZERO_TO_ONE},
    ]
    others = {
        load_backbone(LITE0, cache, **({"size": SMALL, "dtype": "float32"} | one)).digest for one in choices
    }
    assert len(others | {first}) == 6


def test_the_digest_of_old_caches_stays(cache, exact):
    """Features that earlier versions cached are found: default choices are not part of the digest."""
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
    assert first.digest == hashlib.sha256(repr((identity, exact.plan.key)).encode()).hexdigest()


def test_what_lies_in_the_cache_is_never_taken_for_weights(cache, exact):
    """Fault 60: an altered copy of the weights in the cache changes neither the digest nor the features."""
    copy = cache / "weights" / f"{PACKAGED[LITE0].sha256}.safetensors"  # where there once was one
    copy.parent.mkdir()
    tensors = find_weights(LITE0).tensors.items()
    save_file({f"{i:05d}|{name}": -value.contiguous() for i, (name, value) in enumerate(tensors)}, copy)
    found = load_backbone(LITE0, cache, size=SIZE, dtype="float32")
    assert found.digest == exact.digest
    np.testing.assert_array_equal(found.embed(images(3)), exact.embed(images(3)))


def test_the_trunk_and_its_tensors_give_the_features(cache, exact):
    """The exported module gives what ``embed`` gives; a model of stages has no last layer, 1.7 MB."""
    pixels = torch.from_numpy(images(3).transpose(0, 3, 1, 2)).float()
    whole = load_backbone(
        LITE0, cache, size=SIZE, dtype="float32", features="map", preprocessing=FROM_ZERO_TO_ONE
    )
    for backbone, scaled in ((exact, pixels / 127.5 - 1), (whole, pixels / 255)):
        trunk = backbone.trunk()
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in trunk.modules())
        with torch.inference_mode():
            found = trunk(scaled).numpy()
        assert backbone.embed(images(3)) == pytest.approx(found, rel=1e-3, abs=1e-3)
    assert whole.width == 1280 * 2 * 2
    everything, kept = whole.tensors(), exact.tensors()
    assert everything.keys() == exact.network.state_dict().keys()
    assert {name.split(".")[0] for name in everything.keys() - kept.keys()} == {"conv_head", "bn2"}
    assert all(np.array_equal(kept[name], everything[name]) for name in kept)


def test_local_weights_of_the_same_network_give_the_same_features(cache, exact, tmp_path):
    """Only origin and digest differ; weights of another network are refused."""
    file = tmp_path / "my.safetensors"
    save_file(exact.network.state_dict(), file)
    local = load_backbone(LITE0, cache, size=SIZE, weights=file, dtype="float32")
    assert np.array_equal(local.embed(images(3)), exact.embed(images(3)))
    assert (local.origin, local.digest != exact.digest) == ("file", True)
    with pytest.raises(ModelError, match=r"^weights of tf_efficientnet_lite2: .*, got (shape|nothing)"):
        load_backbone("tf_efficientnet_lite2", cache, weights=file)


def test_pixels_are_scaled_as_the_weights_were_trained():
    """Mean and spread are a half for the packages, and timm's own for the rest."""
    assert {preprocessing_of(name) for name in PACKAGED} == {HALF}
    assert preprocessing_of("resnet18").mean == (0.485, 0.456, 0.406)
    assert preprocessing_of("resnet18").std == (0.229, 0.224, 0.225)
