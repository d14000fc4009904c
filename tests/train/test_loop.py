"""The loop: its rate, its lots, and the parts of a batch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks import random_weights  # noqa: E402  # only where torch is
from safetensors.torch import save_file  # noqa: E402  # the same

from assay.embed.backbone import load_backbone  # noqa: E402  # the same
from assay.train import loop  # noqa: E402  # the same
from assay.train.augment import Augment  # noqa: E402  # the same
from assay.train.loop import Material, Tuning, one_cycle  # noqa: E402  # the same
from assay.train.pace import blank_learner  # noqa: E402  # the same
from assay.train.pixels import to_pixels  # noqa: E402  # the same

STILL = Augment(shift=0.0, zoom=1.0, stretch=1.0, compressed=0.0, blurred=0.0, light=0.0, hidden=0.0)


@pytest.mark.train
def test_a_batch_is_parted_among_all_cores(monkeypatch, tmp_path):
    """Whatever their number, a step goes along the same gradients; a graphics processor parts nothing."""
    backbone = load_backbone("tf_efficientnet_lite0", tmp_path, size=32, dtype="float32")
    rng = np.random.default_rng(0)
    # Which of them are mirrored is drawn by part; here that changes nothing.
    half = rng.integers(0, 256, (12, 24, 12, 3), dtype=np.uint8)
    alike = np.concatenate([half, half[:, :, ::-1]], axis=2)
    material = Material(alike, np.arange(12), np.eye(3)[rng.integers(0, 3, 12)])
    found = {}
    for cores in (1, 5, 64):
        monkeypatch.setattr(loop, "cores", lambda cores=cores: cores)
        learner = blank_learner(backbone, 3, Tuning(batch=12, augment=STILL), 3)
        for epoch in range(3):
            loop.learn_epoch(learner, material, epoch, to_pixels(backbone))
        found[len(learner.students)] = torch.cat([number.detach().flatten() for number in learner.numbers])
    assert [*found] == [2, 5, 8]
    for other in (5, 8):
        torch.testing.assert_close(found[other], found[2], rtol=1e-2, atol=1e-4)
    assert loop._parts_on("cuda") == 1


@pytest.mark.train
def test_batches_that_are_made_ahead_teach_the_same(monkeypatch, tmp_path):
    """As a card has them: to the last byte what is learned from batches made when they are asked for."""
    backbone = load_backbone("tf_efficientnet_lite0", tmp_path, size=32, dtype="float32")
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    material, found = Material(squares, np.arange(24), np.eye(3)[rng.integers(0, 3, 24)]), []
    for depth in (0, 3):
        monkeypatch.setitem(loop.AHEAD, "cpu", depth)
        learner = blank_learner(backbone, 3, Tuning(batch=6), 1)
        loss = loop.learn_epoch(learner, material, 0, to_pixels(backbone))
        found.append((loss, [number.detach().clone() for number in learner.numbers]))
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1], found[1][1]))


@pytest.mark.train
def test_layers_that_no_feature_needs_stop_no_checkpoint(tmp_path):
    """A network that is run whole may have some after its last stage: they keep their numbers."""
    weights = tmp_path / "convnext.safetensors"
    save_file(random_weights("test_convnext").tensors, weights)
    backbone = load_backbone("test_convnext", tmp_path, size=32, weights=weights, dtype="float32")
    squares = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    material = Material(squares, np.arange(8), np.eye(2)[np.arange(8) % 2])
    first, second = (blank_learner(backbone, 2, Tuning(batch=8), 2) for _ in range(2))
    loop.learn_epoch(first, material, 0, to_pixels(backbone))
    without = [place for place, number in enumerate(first.numbers) if number.grad is None]
    assert without
    held = first.tensors()
    assert not any(f"step.{place}" in held for place in without)
    second.restore(held)
    for learner in (first, second):
        loop.learn_epoch(learner, material, 1, to_pixels(backbone))
    ends = [learner.tensors() for learner in (first, second)]
    assert ends[0].keys() == ends[1].keys()
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_lots_fit_the_cache():
    """Up to 96 pixels 64 images go at once, at 128 in halves, at 160 in thirds; there is no empty lot."""
    lots = [
        loop._lots(torch.zeros(n, 3, side, side), "cpu")
        for n, side in ((64, 96), (64, 128), (64, 160), (2, 900))
    ]
    assert lots == [1, 2, 3, 2]
    assert loop._lots(torch.zeros(128, 3, 160, 160), "cuda") == 1
    assert loop._lots(torch.zeros(128, 3, 224, 224), "cuda") == 2


def test_the_rate_rises_once_and_falls_to_nothing():
    """From a twenty-fifth of the peak to the peak at the end of the warm-up, then down."""
    rates = [one_cycle(share, 0.2) for share in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[20] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
    assert np.argmax(rates) == 20
    assert all(np.diff(rates[:21]) > 0)
    assert all(np.diff(rates[20:]) < 0)
