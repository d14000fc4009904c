import re
import sys
from pathlib import Path

import pytest

from assay.embed import load_backbone
from assay.embed.tiny import TinyBackbone
from assay.errors import MissingExtraError, UsageError

LITE0 = "tf_efficientnet_lite0"


def test_tiny_needs_no_torch(tmp_path, monkeypatch):
    """The tiny backbone comes without the train extra, and writes nothing."""
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


def test_tiny_takes_no_weights(tmp_path):
    """A file of weights that would not be used is refused."""
    message = "--weights: the backbone 'tiny' has none, got mine.safetensors; leave the flag out"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        load_backbone("tiny", tmp_path, weights=Path("mine.safetensors"))


@pytest.mark.parametrize("choice", [{"features": "map"}, {"interpolation": "nearest"}])
def test_tiny_has_no_other_features(tmp_path, choice):
    """A choice that would be ignored is refused."""
    message = "the backbone 'tiny' has features of its own only; name a network of timm"
    with pytest.raises(UsageError, match=f"^{message}$"):
        load_backbone("tiny", tmp_path, **choice)
