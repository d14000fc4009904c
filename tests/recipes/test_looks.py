"""What a finished student says of every image, and of the mirrors of those that it is unsure of."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("timm")

from assay.fix.calibrate import NO_FLOOR, Calibration
from assay.learn.second_look import SECOND_LOOK_BELOW
from assay.recipes import looks as module
from assay.recipes.looks import Looks

N = 30
SQUARES = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), np.uint8)
USABLE = np.arange(N) % 5 != 3
LEARNED_FROM = np.arange(N) < 20


def said(images):
    """Of two classes, by the brightness of the left column: sure of half of the images."""
    share = np.clip(images[:, :, 0].mean(axis=(1, 2)) / 255 + np.arange(len(images)) % 2 * 0.45, 0.01, 0.99)
    return np.stack([share, 1 - share], axis=1)


@pytest.fixture
def asked(monkeypatch):
    """What the student was asked: dtype, rows, whether mirrored."""
    questions = []

    def score(network, head, squares, rows, *, workers, progress):
        mirrored = not np.array_equal(squares, SQUARES)
        assert np.array_equal(squares, SQUARES[:, :, ::-1] if mirrored else SQUARES)
        questions.append((network.dtype, rows.tolist(), mirrored))
        return said(squares)[rows]

    monkeypatch.setattr(module, "score", score)
    return questions


@pytest.fixture
def looks(asked):
    """A student whose network is exact in float32."""
    quick = SimpleNamespace(dtype="quick", exact=lambda: SimpleNamespace(dtype="exact"))
    tuned = SimpleNamespace(backbone=quick, head=SimpleNamespace(n_classes=2))
    return Looks(tuned, SQUARES, LEARNED_FROM, USABLE)


@pytest.mark.usefixtures("without_shape_checks")
def test_each_image_is_asked_about_once(looks, asked):
    """Those that were not learned from in float32; of skipped ones nothing is known."""
    assert asked == [
        ("quick", np.flatnonzero(USABLE & LEARNED_FROM).tolist(), False),
        ("exact", np.flatnonzero(USABLE & ~LEARNED_FROM).tolist(), False),
    ]
    assert (looks.first[USABLE] == said(SQUARES)[USABLE]).all()
    assert (looks.first[~USABLE] == 0.5).all()


@pytest.mark.usefixtures("without_shape_checks")
def test_mirrors_are_asked_about_where_it_is_unsure(looks, asked):
    """Skipped images have none; each is asked about once, however often and however calibrated."""
    del asked[:]
    plain = looks.again()
    unsure = USABLE & (looks.first.max(axis=1) < SECOND_LOOK_BELOW)
    assert 0 < unsure.sum() < USABLE.sum()
    rows = [row for _, some, mirrored in asked for row in some if mirrored]
    assert sorted(rows) == np.flatnonzero(unsure).tolist()
    both = np.sqrt(looks.first * said(SQUARES[:, :, ::-1]))
    assert plain[unsure] == pytest.approx((both / both.sum(axis=1, keepdims=True))[unsure])
    assert (plain[~unsure] == looks.first[~unsure]).all()
    softer = Calibration(0.5, np.array([0.1, -0.1]), NO_FLOOR)
    calibrated = looks.again(softer)
    more = [(dtype, row) for dtype, some, _ in asked[2:] for row in some]
    assert more
    assert len({row for _, row in more} - {*rows}) == len(more)
    assert all(dtype == ("quick" if LEARNED_FROM[row] else "exact") for dtype, row in more)
    unsure = USABLE & (softer.apply(looks.first).max(axis=1) < SECOND_LOOK_BELOW)
    assert calibrated[unsure] == pytest.approx(softer.apply(both)[unsure])
    assert (calibrated[USABLE & ~unsure] == softer.apply(looks.first)[USABLE & ~unsure]).all()
