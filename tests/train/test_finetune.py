"""Fine-tuning: it learns, it goes on where it was killed, and its copies are one student."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks import quick_probe  # noqa: E402  # only where torch is
from timm.layers.drop import DropPath  # noqa: E402  # the same

from assay.data.resize import to_square  # noqa: E402  # the same
from assay.embed.backbone import load_backbone  # noqa: E402  # the same
from assay.embed.device import Plan  # noqa: E402  # the same
from assay.embed.fast_kernels import FastInvertedResidual  # noqa: E402  # the same
from assay.train import loop  # noqa: E402  # the same
from assay.train.augment import Augment  # noqa: E402  # the same
from assay.train.checkpoint import read_checkpoint  # noqa: E402  # the same
from assay.train.finetune import Phase, TuningData, fine_tune  # noqa: E402  # the same
from assay.train.loop import Material, Tuning, gradients_of  # noqa: E402  # the same
from assay.train.pixels import to_pixels  # noqa: E402  # the same
from assay.train.scoring import features_of, score  # noqa: E402  # the same
from assay.train.student import Student, copies_of, put  # noqa: E402  # the same
from assay.types import UNKNOWN  # noqa: E402  # only where torch is

pytestmark = [pytest.mark.train, pytest.mark.slow]

SIDES = (32, 40)
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
    return {side: load_backbone("tf_efficientnet_lite0", cache, size=side, dtype="float32") for side in SIDES}


@pytest.fixture(scope="module")
def training_data() -> TuningData:
    """120 images of stripes, flat or upright; a third of the targets are wrong, a quarter is trusted."""
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 2
    wave = (np.arange(24) // 3 % 2 * 180).astype(np.float64)
    flat = np.broadcast_to(wave[:, None], (24, 24))
    pictures = np.stack([flat.T if label else flat for label in truth])[..., None]
    squares = np.clip(pictures + rng.normal(30, 25, (120, 24, 24, 3)), 0, 255).astype(np.uint8)
    said = np.where(rng.random(120) < 1 / 3, 1 - truth, truth)
    targets = np.where(np.eye(2)[said] == 1, 0.82, 0.18)
    taught = np.where(rng.random(120) < 1 / 4, truth, UNKNOWN)
    return TuningData(
        squares,
        np.arange(100),
        taught,
        targets,
        calibration_rows=np.arange(3),
        validation=np.arange(100, 120),
    )


def tune(training_data, backbones, file, hear=None, targets=None):
    """Fine-tune by the phases above; after each epoch ``hear`` is told, and ``targets`` are the next."""

    def judge(told):
        if hear:
            hear(told)
        return (training_data.targets if targets is None else targets)[told.rows]

    return fine_tune(
        training_data, PHASES, backbones, judge, TUNING, seed=0, workers=1, kept=file, identity="this"
    )


@pytest.fixture(scope="module")
def whole(training_data, backbones, tmp_path_factory):
    """An unbroken run, and what was told after each epoch."""
    told = []
    return tune(training_data, backbones, tmp_path_factory.mktemp("whole") / "state", told.append), told


def test_it_learns_more_than_the_targets_say(training_data, backbones, whole):
    """Of images that it never saw it knows the class, though a third of what it was told is wrong."""
    tuned, told = whole
    assert [(said.epoch, said.size) for said in told] == [(0, 32), (1, 32), (2, 40)]
    new = np.arange(100, 120)
    probs = score(tuned.backbone, tuned.head, training_data.squares, new)
    assert (probs.argmax(axis=1) == new % 2).mean() > 0.9
    asked = np.union1d(np.flatnonzero(training_data.taught[:100] == UNKNOWN), training_data.calibration_rows)
    assert [said.rows.tolist() for said in told] == [asked.tolist(), asked.tolist(), []]
    assert told[0].probs.shape == (len(asked), 2)
    assert np.allclose(told[0].probs.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(told[-1].validation, probs)
    assert tuned.backbone.digest != backbones[40].digest
    assert tuned.backbone.size == 40


def test_a_killed_run_ends_as_an_unbroken_one(training_data, backbones, whole, tmp_path):
    """It goes on after the last epoch that was kept, to the same numbers, to the last bit."""

    def killing(told):
        if told.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(training_data, backbones, tmp_path / "state", killing)
    seen = []
    resumed = tune(training_data, backbones, tmp_path / "state", lambda told: seen.append(told.epoch))
    assert seen == [1, 2]
    for one, other in zip(whole[0].head.weights, resumed.head.weights, strict=True):
        assert np.array_equal(one, other)
    assert whole[0].backbone.digest == resumed.backbone.digest


def test_a_run_killed_after_its_last_epoch_ends_as_an_unbroken_one(training_data, backbones, tmp_path):
    """Nothing is learned any more, and the network is that of the last size, to the last bit."""
    first = tune(training_data, backbones, tmp_path / "state")
    seen = []
    again = tune(training_data, backbones, tmp_path / "state", lambda told: seen.append(told.epoch))
    assert seen == []
    assert first.backbone.digest == again.backbone.digest
    assert first.backbone.size == again.backbone.size == 40


def test_the_judge_decides_what_is_learned_next(training_data, backbones, whole, tmp_path):
    """With targets that say the opposite from the second epoch on, the end is another."""
    other = tune(training_data, backbones, tmp_path / "state", targets=1 - training_data.targets)
    assert other.backbone.digest != whole[0].backbone.digest


def test_a_settled_target_stays_also_where_it_is_judged(training_data, backbones, tmp_path):
    """Spies are asked about however sure their targets are, and learned from as any other image is."""
    sure = training_data.targets.copy()
    sure[0] = [0.99, 0.01]
    tune(replace(training_data, targets=sure), backbones, tmp_path / "state", targets=1 - sure)
    kept = read_checkpoint(tmp_path / "state", "this").tensors["targets"]
    assert training_data.taught[:2].tolist() == [UNKNOWN, UNKNOWN]
    assert kept[0].tolist() == [0.99, 0.01]
    assert np.allclose(kept[1], 1 - sure[1])


def test_copies_are_one_student(training_data, backbones):
    """They share their numbers and not their gradients, and agree to the last bit."""
    head = _head(training_data, backbones[32])
    student = Student(deepcopy(backbones[32].network), head)
    first, second = copies_of(student.train(), 2)
    put(first, [number + 0.01 for number in first.learning()])
    pixels = to_pixels(backbones[32])(training_data.squares[:4].astype(np.float32))
    logits = [copy(pixels) for copy in (first, second)]
    assert torch.equal(*logits)
    logits[0].sum().backward()
    assert all(number.grad is None for number in second.learning())
    assert all(number.grad is not None for number in first.learning())


def test_an_untouched_student_says_what_backbone_and_head_say(training_data, backbones):
    """Before it learns anything it is the frozen network with its head."""
    head = _head(training_data, backbones[32])
    student = Student(deepcopy(backbones[32].network), head)
    rows = np.arange(6)
    enlarged = np.stack([to_square(training_data.squares[row], 32, "sharp") for row in rows]).astype(
        np.float32
    )
    student.eval()
    with torch.no_grad():
        found = student(to_pixels(backbones[32])(enlarged)).softmax(dim=1).numpy()
    assert np.allclose(found, score(backbones[32], head, training_data.squares, rows), atol=1e-3)
    assert all(
        np.array_equal(one, other)
        for one, other in zip(student.head.layers().weights, head.weights, strict=True)
    )


def test_what_is_learned_depends_on_no_lot_and_no_statistics(training_data, backbones, monkeypatch):
    """Cut into lots of one, images have the gradients that they have together; norms stay as they were."""
    student = Student(deepcopy(backbones[32].network), _head(training_data, backbones[32])).train()
    material = Material(training_data.squares, training_data.rows, training_data.targets)
    look, rows = to_pixels(backbones[32]), np.arange(5)
    before = {name: held.clone() for name, held in student.network.named_buffers()}
    losses, gradients = [], []
    see = partial(loop._see, material, rows, TUNING.augment, look, (0,))
    for at_once in (loop.AT_ONCE["cpu"], 1):
        monkeypatch.setitem(loop.AT_ONCE, "cpu", at_once)
        losses.append(float(loop._learn_from(student, see)))
        gradients.append(gradients_of(student))
        student.zero_grad()
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(gradients[0]) == len(student.learning())
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-3 * float(one.abs().max()))
    assert all(torch.equal(held, before[name]) for name, held in student.network.named_buffers())


def test_each_image_is_seen_through_a_window_of_its_own(training_data, backbones):
    """Another one in the next step; drawn by seed, so that a run that goes on sees the same."""
    student = Student(deepcopy(backbones[32].network), _head(training_data, backbones[32])).train()
    material, look = (
        Material(training_data.squares, training_data.rows, training_data.targets),
        to_pixels(backbones[32]),
    )
    drawn = []

    def watching(images, crops=None):
        drawn.append(crops.extent)
        return look(images, crops)

    for seed in (0, 0, 1):
        see = partial(loop._see, material, np.arange(5), TUNING.augment, watching, (seed,))
        loop._learn_from(student, see)
    assert [len(np.unique(extent)) for extent in drawn] == [10, 10, 10]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_nothing_is_left_to_chance_or_to_the_order_of_images(training_data, backbones):
    """Whatever normalises by a batch or drops out stays as it is when asked; the rest learns."""
    network = deepcopy(backbones[32].network)
    network.others = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(3), DropPath(0.1))
    Student(network, _head(training_data, backbones[32])).train()
    assert not any(module.training for module in network.others)
    assert not network.blocks[-1][0].bn1.training
    assert network.blocks[-1].training


def test_the_front_stays_as_it_is(training_data, backbones):
    """Stem, first three stages and layers that no feature needs do not learn; all others have a gradient."""
    student = Student(deepcopy(backbones[32].network), _head(training_data, backbones[32])).train()
    names = {name for name, number in student.network.named_parameters() if not number.requires_grad}
    assert {name.rsplit(".", 1)[0] for name in names if "blocks" not in name} == {
        "conv_stem",
        "bn1",
        "conv_head",
        "bn2",
    }
    assert {name.split(".")[1] for name in names if "blocks" in name} == {"0", "1", "2"}
    before = student.network.bn1.running_mean.clone()
    student(to_pixels(backbones[32])(training_data.squares[:4].astype(np.float32))).sum().backward()
    assert all(number.grad is not None for number in student.learning())
    assert torch.equal(student.network.bn1.running_mean, before)
    assert not student.network.bn1.training
    assert student.network.blocks[-1].training


def test_a_quick_front_is_the_front(training_data, backbones):
    """Folded, it gives what the network's own stages give; the stages after it learn as before."""
    student = Student(deepcopy(backbones[32].network), _head(training_data, backbones[32])).eval()
    pixels = to_pixels(backbones[32])(training_data.squares[:4].astype(np.float32))
    with torch.no_grad():
        before = student(pixels)
        student.quicken(backbones[32].plan, 32)
        assert torch.allclose(student(pixels), before, rtol=1e-3, atol=1e-3)
    # What fuses its layers knows no others.
    assert not any(isinstance(module, FastInvertedResidual) for module in student.front().modules())
    assert sum(isinstance(module, FastInvertedResidual) for module in student.modules()) > 1
    student.train()(pixels).sum().backward()
    assert all(number.grad is not None for number in student.learning())


def test_it_learns_in_the_dtype_of_the_plan_and_answers_in_float32(training_data, backbones):
    """Products are bfloat16 while it learns; gradients, and all that it says when asked, are float32."""
    student = Student(deepcopy(backbones[32].network), _head(training_data, backbones[32]))
    pixels = to_pixels(backbones[32])(training_data.squares[:4].astype(np.float32))
    student.quicken(Plan("bfloat16", "channels_last", 8), 32)
    seen = []
    hook = student.network.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    logits = student.train()(pixels)
    gradients = torch.autograd.grad(logits.sum(), student.learning())
    with torch.no_grad():
        asked = student.eval()(pixels)
    hook.remove()
    assert seen == [torch.bfloat16, torch.float32]
    assert {found.dtype for found in (logits, asked, *gradients)} == {torch.float32}
    assert all(found.isfinite().all() for found in gradients)


def _head(training_data, backbone):
    from assay.train.heads import MLPHead

    features = features_of(backbone, training_data.squares, training_data.rows)
    return (
        MLPHead(hidden=16, min_steps=20).fit_soft(features, training_data.targets[training_data.rows]).layers_
    )
