"""Fine-tuning: it learns, it resumes to the same bytes, and its replicas are one student."""

import os
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from networks import quick_probe, random_weights  # noqa: E402  # only where torch is
from safetensors.torch import save_file  # noqa: E402  # the same
from timm.layers.drop import DropPath  # noqa: E402  # the same

from assay.data.resize import to_square  # noqa: E402  # the same
from assay.embed.backbone import load_backbone  # noqa: E402  # the same
from assay.embed.device import Plan  # noqa: E402  # the same
from assay.embed.fast_kernels import FastInvertedResidual  # noqa: E402  # the same
from assay.errors import ResourceError  # noqa: E402  # the same
from assay.train import loop  # noqa: E402  # the same
from assay.train.augment import Augment  # noqa: E402  # the same
from assay.train.finetune import (  # noqa: E402  # the same
    Checkpoint,
    FineTuneData,
    Phase,
    embed_resized,
    fine_tune,
    predict_resized,
    read_checkpoint,
    write_checkpoint,
)
from assay.train.heads import MLPHead  # noqa: E402  # the same
from assay.train.loop import Tuning, backward, blank_trainer, one_cycle, train_epoch  # noqa: E402  # the same
from assay.train.student import Student, network_input  # noqa: E402  # the same
from assay.types import UNKNOWN  # noqa: E402  # the same

pytestmark = [pytest.mark.train, pytest.mark.slow]

PHASES = (Phase(32, 2), Phase(40, 1))
TUNING = Tuning(batch=16, augment=Augment(compressed=0.2, hidden=0.2))


@pytest.fixture(autouse=True, scope="module")
def _quick_probe():
    with quick_probe():
        yield


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Lite0 at two small sizes."""
    cache = tmp_path_factory.mktemp("cache")
    return {
        size: load_backbone("tf_efficientnet_lite0", cache, size=size, dtype="float32") for size in (32, 40)
    }


@pytest.fixture(scope="module")
def data() -> FineTuneData:
    """120 images of stripes, flat or upright; a third of the targets are wrong, a quarter is trusted."""
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 2
    wave = (np.arange(24) // 3 % 2 * 180).astype(np.float64)
    flat = np.broadcast_to(wave[:, None], (24, 24))
    pictures = np.stack([flat.T if label else flat for label in truth])[..., None]
    images = np.clip(pictures + rng.normal(30, 25, (120, 24, 24, 3)), 0, 255).astype(np.uint8)
    noisy = np.where(rng.random(120) < 1 / 3, 1 - truth, truth)
    return FineTuneData(
        images,
        np.arange(100),
        known=np.where(rng.random(120) < 1 / 4, truth, UNKNOWN),
        targets=np.where(np.eye(2)[noisy] == 1, 0.82, 0.18),
        validation=np.arange(100, 120),
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The same of a network of a tenth of the layers, for what does not depend on how well it learns."""
    cache = tmp_path_factory.mktemp("small")
    save_file(random_weights("test_efficientnet").tensors, cache / "weights")
    return {
        size: load_backbone("test_efficientnet", cache, size=size, weights=cache / "weights", dtype="float32")
        for size in (32, 40)
    }


@pytest.fixture(scope="module")
def few(data) -> FineTuneData:
    """The same images, 40 of them to learn from."""
    return replace(data, rows=np.arange(40))


def tune(data, backbones, file, report=None):
    """Fine-tune by the phases above."""
    return fine_tune(
        data, PHASES, backbones, TUNING, checkpoint=file, identity="this", seed=0, workers=1, report=report
    )


@pytest.fixture(scope="module")
def whole(few, small, tmp_path_factory):
    """An uninterrupted run of the small network."""
    return tune(few, small, tmp_path_factory.mktemp("whole") / "state")


@pytest.fixture
def student(data, backbones):
    """The network that is fine-tuned, with a head that knows a little."""
    features = embed_resized(backbones[32], data.images, data.rows)
    head = MLPHead(hidden=16, min_steps=20).fit_soft(features, data.targets[data.rows]).layers_
    return Student(deepcopy(backbones[32].network), head)


def seen(data, backbones, n=4):
    return network_input(backbones[32], data.images[:n].astype(np.float32))


def test_it_learns_more_than_its_targets_say(data, backbones, tmp_path):
    """It knows the class of new images though a third of its targets is wrong."""
    reports = []
    tuned = tune(data, backbones, tmp_path / "state", reports.append)
    assert [(one.epoch, one.size) for one in reports] == [(0, 32), (1, 32), (2, 40)]
    probs = predict_resized(tuned.backbone, tuned.head, data.images, data.validation)
    assert (probs.argmax(axis=1) == data.validation % 2).mean() > 0.9
    assert np.array_equal(reports[-1].validation, probs)
    assert tuned.backbone.digest != backbones[40].digest
    assert tuned.backbone.size == 40


def test_an_interrupted_run_ends_as_an_uninterrupted_one(few, small, whole, tmp_path):
    """It goes on after the last epoch that was kept, to the last bit; after the last one it only ends."""

    def killing(predictions):
        if predictions.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(few, small, tmp_path / "state", killing)
    epochs = []
    for wanted in ([1, 2], [1, 2]):
        resumed = tune(few, small, tmp_path / "state", lambda one: epochs.append(one.epoch))
        assert epochs == wanted
        assert all(map(np.array_equal, whole.head.weights, resumed.head.weights))
        assert (resumed.backbone.digest, resumed.backbone.size) == (whole.backbone.digest, 40)


def test_known_labels_replace_their_targets(few, small, whole, tmp_path):
    """A trusted label is trained on, whatever its target says; another label gives another network."""
    known = np.flatnonzero(few.known != UNKNOWN)
    targets = few.targets.copy()
    targets[known] = 1 - targets[known]
    same = tune(replace(few, targets=targets), small, tmp_path / "same")
    assert same.backbone.digest == whole.backbone.digest
    labels = few.known.copy()
    labels[known[0]] = 1 - labels[known[0]]
    other = tune(replace(few, known=labels), small, tmp_path / "other")
    assert other.backbone.digest != whole.backbone.digest


def test_replicas_are_one_student(data, backbones, student):
    """They share their parameters and not their gradients, and agree to the last bit."""
    first, second = student.train().replicas(2)
    first.load([parameter + 0.01 for parameter in first.trained_parameters()])
    logits = [replica(seen(data, backbones)) for replica in (first, second)]
    assert torch.equal(*logits)
    logits[0].sum().backward()
    assert all(parameter.grad is None for parameter in second.trained_parameters())
    assert all(parameter.grad is not None for parameter in first.trained_parameters())


def test_an_untrained_student_is_its_backbone_and_head(data, backbones, student):
    """Before the first step it predicts what the frozen network with its head predicts."""
    rows, head = np.arange(6), student.head.layers()
    enlarged = np.stack([to_square(data.images[row], 32, "sharp") for row in rows]).astype(np.float32)
    with torch.no_grad():
        found = student.eval()(network_input(backbones[32], enlarged)).softmax(dim=1).numpy()
    assert np.allclose(found, predict_resized(backbones[32], head, data.images, rows), atol=1e-3)


def test_gradients_do_not_depend_on_micro_batches(data, backbones, student, monkeypatch):
    """Images one by one have the gradients that they have together, and batch norms keep their statistics."""
    student.train()
    before = {name: held.clone() for name, held in student.network.named_buffers()}
    part = seen(data, backbones, 5), torch.from_numpy(data.targets[:5].astype(np.float32))
    losses, gradients = [], []
    for pixels in (loop.MICRO_BATCH_PIXELS["cpu"], 1):
        monkeypatch.setitem(loop.MICRO_BATCH_PIXELS, "cpu", pixels)
        losses.append(float(backward(student, lambda: part)))
        gradients.append([parameter.grad for parameter in student.trained_parameters()])
        student.zero_grad()
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-3 * float(one.abs().max()))
    assert all(torch.equal(held, before[name]) for name, held in student.network.named_buffers())


def test_nothing_in_training_depends_on_chance_or_on_other_images(backbones, student):
    """Batch norms and dropout stay in evaluation mode; the other layers train."""
    network = deepcopy(backbones[32].network)
    network.others = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(3), DropPath(0.1))
    Student(network, student.head.layers()).train()
    assert not any(module.training for module in network.others)
    assert not network.blocks[-1][0].bn1.training
    assert network.blocks[-1].training


def test_the_front_is_frozen(data, backbones, student):
    """Stem, first three stages and layers that no feature needs are frozen; all others have a gradient."""
    names = {name for name, one in student.network.named_parameters() if not one.requires_grad}
    outside = {name.rsplit(".", 1)[0] for name in names if "blocks" not in name}
    assert outside == {"conv_stem", "bn1", "conv_head", "bn2"}
    assert {name.split(".")[1] for name in names if "blocks" in name} == {"0", "1", "2"}
    student.train()(seen(data, backbones)).sum().backward()
    assert all(parameter.grad is not None for parameter in student.trained_parameters())


def test_the_fast_front_is_the_front(data, backbones, student):
    """Folded, it gives what the network's own stages give; the stages after it have fast training kernels."""
    student.eval()
    with torch.no_grad():
        before = student(seen(data, backbones))
        student.use_plan(backbones[32].plan, 32)
        assert torch.allclose(student(seen(data, backbones)), before, rtol=1e-3, atol=1e-3)
    assert not any(isinstance(module, FastInvertedResidual) for module in student.front().modules())
    assert sum(isinstance(module, FastInvertedResidual) for module in student.modules()) > 1


def test_training_has_the_plans_dtype_and_prediction_float32(data, backbones, student):
    """Products are bfloat16 in training; gradients and logits are float32."""
    student.use_plan(Plan("bfloat16", "channels_last", 8), 32)
    dtypes = []
    hook = student.network.blocks[-1].register_forward_hook(lambda _, __, out: dtypes.append(out.dtype))
    logits = student.train()(seen(data, backbones))
    gradients = torch.autograd.grad(logits.sum(), student.trained_parameters())
    with torch.no_grad():
        predicted = student.eval()(seen(data, backbones))
    hook.remove()
    assert dtypes == [torch.bfloat16, torch.float32]
    assert {found.dtype for found in (logits, predicted, *gradients)} == {torch.float32}
    assert all(found.isfinite().all() for found in gradients)


def test_a_batch_is_split_among_all_cores(small, monkeypatch):
    """Whatever their number, a step follows the same gradients."""
    still = Augment(shift=0.0, zoom=1.0, stretch=1.0, compressed=0.0, blurred=0.0, light=0.0, hidden=0.0)
    rng = np.random.default_rng(0)
    # Symmetric: which images are mirrored is drawn by part, and must not matter here.
    half = rng.integers(0, 256, (12, 24, 12, 3), dtype=np.uint8)
    images, targets = np.concatenate([half, half[:, :, ::-1]], axis=2), np.eye(3)[rng.integers(0, 3, 12)]
    found = {}
    for cores in (1, 5, 64):
        monkeypatch.setattr(loop, "cores", lambda cores=cores: cores)
        trainer = blank_trainer(small[32], 3, Tuning(batch=12, augment=still), 3)
        for epoch in range(3):
            train_epoch(trainer, small[32], images, np.arange(12), targets, epoch)
        found[len(trainer.students)] = torch.cat([one.detach().flatten() for one in trainer.parameters])
    assert [*found] == [2, 5, 8]
    for other in (5, 8):
        torch.testing.assert_close(found[other], found[2], rtol=1e-2, atol=1e-4)


def test_prefetched_batches_train_the_same(data, small, monkeypatch):
    """As on a GPU: to the last byte the same as batches that are made when they are needed."""
    found = []
    for depth in (0, 3):
        monkeypatch.setitem(loop.PREFETCH, "cpu", depth)
        trainer = blank_trainer(small[32], 2, Tuning(batch=6), 1)
        loss = train_epoch(trainer, small[32], data.images, np.arange(24), data.targets, 0)
        found.append((loss, [parameter.detach().clone() for parameter in trainer.parameters]))
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1], found[1][1]))


def test_layers_that_no_feature_needs_do_not_break_a_checkpoint(data, tmp_path):
    """A network that is run whole may have some after its last stage, without gradients."""
    weights = tmp_path / "convnext.safetensors"
    save_file(random_weights("test_convnext").tensors, weights)
    backbone = load_backbone("test_convnext", tmp_path, size=32, weights=weights, dtype="float32")

    def epoch(trainer, number):
        train_epoch(trainer, backbone, data.images, np.arange(8), data.targets, number)

    first, second = (blank_trainer(backbone, 2, Tuning(batch=8), 2) for _ in range(2))
    epoch(first, 0)
    assert any(parameter.grad is None for parameter in first.parameters)
    second.restore(first.tensors())
    ends = []
    for trainer in (first, second):
        epoch(trainer, 1)
        ends.append(trainer.tensors())
    assert ends[0].keys() == ends[1].keys()
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_learning_rate_rises_once_and_falls_to_zero():
    """From a twenty-fifth of the peak to the peak at the end of the warm-up, then down."""
    rates = [one_cycle(share, 0.2) for share in np.linspace(0, 1, 101)]
    assert (rates[0], rates[20], rates[-1]) == pytest.approx((0.04, 1, 0))
    assert all(np.diff(rates[:21]) > 0)
    assert all(np.diff(rates[20:]) < 0)


def test_a_checkpoint_is_read_back_whole_or_not_at_all(tmp_path, monkeypatch):
    """Another identity, half a file or a full disk gives no half state; the one before stays."""
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "step.0": np.float32(7).reshape(())}
    file = tmp_path / "checkpoints" / "state.safetensors"
    assert read_checkpoint(file, "this") is None
    write_checkpoint(file, Checkpoint(tensors, {"epoch": 3}), "this")
    found = read_checkpoint(file, "this")
    assert found.facts == {"epoch": 3}
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {"a": (3, 2), "step.0": ()}
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in tensors.items())
    assert read_checkpoint(file, "another") is None

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("assay.data.write.os.write", full)
        with pytest.raises(ResourceError, match="free disk space"):
            write_checkpoint(file, Checkpoint({}, {"epoch": 4}), "this")
    assert read_checkpoint(file, "this").facts["epoch"] == 3
    bytes_before = file.read_bytes()
    for damaged in (bytes_before[: len(bytes_before) // 2], b"", b"{}", os.urandom(64)):
        file.write_bytes(damaged)
        assert read_checkpoint(file, "this") is None
