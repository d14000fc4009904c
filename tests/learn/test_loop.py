"""The loop: its rate, its lots, and the parts of a batch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from assay.embed.backbone import load_backbone  # noqa: E402  # only where torch is
from assay.learn import loop  # noqa: E402  # the same
from assay.learn.augment import Augment  # noqa: E402  # the same
from assay.learn.loop import Material, Tuning, one_cycle  # noqa: E402  # the same
from assay.learn.pace import blank_learner  # noqa: E402  # the same
from assay.learn.pixels import to_pixels  # noqa: E402  # the same

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


def test_lots_fit_the_cache():
    """Up to 96 pixels 64 images go at once, at 128 in halves, at 160 in thirds; there is no empty lot."""
    lots = [
        loop._lots(torch.zeros(n, 3, side, side)) for n, side in ((64, 96), (64, 128), (64, 160), (2, 900))
    ]
    assert lots == [1, 2, 3, 2]


def test_the_rate_rises_once_and_falls_to_nothing():
    """From a twenty-fifth of the peak to the peak at the end of the warm-up, then down."""
    rates = [one_cycle(share, 0.2) for share in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[20] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
    assert np.argmax(rates) == 20
    assert all(np.diff(rates[:21]) > 0)
    assert all(np.diff(rates[20:]) < 0)
