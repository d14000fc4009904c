"""What a finished student says of every image, and of the mirrors of those that it is unsure of."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("timm")

from assay.correct.posterior import NO_FLOOR, Calibration
from assay.pipeline import tta as module
from assay.pipeline.tta import FlipTTA
from assay.predict.flip_tta import FLIP_TTA_BELOW

N = 30
SQUARES = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), np.uint8)
USABLE = np.arange(N) % 5 != 3
LEARNED_FROM = np.arange(N) < 20


def said(images):
    """Of two classes, by the brightness of the left column: sure of half of the images."""
    share = np.clip(images[:, :, 0].mean(axis=(1, 2)) / 255 + np.arange(len(images)) % 2 * 0.45, 0.01, 0.99)
    return np.stack([share, 1 - share], axis=1)


FIRST = said(SQUARES)
UNSURE = USABLE & (FIRST.max(axis=1) < FLIP_TTA_BELOW)


@pytest.fixture
def asked(monkeypatch):
    """What the student was asked: dtype, rows, whether mirrored."""
    questions = []

    def score(network, head, squares, rows, *, workers, progress):
        mirrored = not np.array_equal(squares, SQUARES)
        assert np.array_equal(squares, SQUARES[:, :, ::-1] if mirrored else SQUARES)
        questions.append((network.dtype, rows.tolist(), mirrored))
        return said(squares)[rows]

    def exactly(see, rows, backbone, head, *, mirrored):
        assert see == "files"
        questions.extend([(backbone.dtype, rows.tolist(), mirrored)] if len(rows) else [])
        yield rows, said(SQUARES[:, :, ::-1] if mirrored else SQUARES)[rows]

    monkeypatch.setattr(module, "score", score)
    monkeypatch.setattr(module, "exactly", exactly)
    return questions


@pytest.fixture
def looks(asked):
    """A student whose network is exact in float32."""
    quick = SimpleNamespace(dtype="quick", exact=lambda: SimpleNamespace(dtype="exact"))
    tuned = SimpleNamespace(backbone=quick, head=SimpleNamespace(n_classes=2))
    return FlipTTA(tuned, SQUARES, "files", LEARNED_FROM, USABLE)


@pytest.mark.usefixtures("without_shape_checks")
def test_each_image_is_asked_about_once(looks, asked):
    """Those that were not learned from in float32; of skipped ones nothing is known."""
    says = looks.again()
    assert [question for question in asked if not question[2]] == [
        ("quick", np.flatnonzero(USABLE & LEARNED_FROM).tolist(), False),
        ("exact", np.flatnonzero(USABLE & ~LEARNED_FROM).tolist(), False),
    ]
    sure = USABLE & ~UNSURE
    assert (says[sure] == FIRST[sure]).all()
    assert (says[~USABLE] == 0.5).all()
    del asked[:]
    assert (looks.again() == says).all()
    assert not asked


@pytest.mark.usefixtures("without_shape_checks")
def test_only_images_that_are_wanted_are_asked_about(looks, asked):
    """Any order, one of them twice, a skipped one; the answers are those that all images would have had."""
    rows = np.array([22, 1, 3, 1, 0])
    says = looks.again(rows=rows)
    assert {row for _, some, _ in asked for row in some} == {22, 1, 0}
    assert (says == looks.again()[rows]).all()


@pytest.mark.usefixtures("without_shape_checks")
def test_mirrors_are_asked_about_where_it_is_unsure(looks, asked):
    """Skipped images have none; each is asked about once, however often and however calibrated."""
    plain = looks.again()
    assert 0 < UNSURE.sum() < USABLE.sum()
    rows = [row for _, some, mirrored in asked for row in some if mirrored]
    assert sorted(rows) == np.flatnonzero(UNSURE).tolist()
    both = np.sqrt(FIRST * said(SQUARES[:, :, ::-1]))
    assert plain[UNSURE] == pytest.approx((both / both.sum(axis=1, keepdims=True))[UNSURE])
    del asked[:]
    softer = Calibration(0.5, np.array([0.1, -0.1]), NO_FLOOR)
    calibrated = looks.again(softer)
    more = [(dtype, row) for dtype, some, _ in asked for row in some]
    assert more
    assert len({row for _, row in more} - {*rows}) == len(more)
    assert all(dtype == ("quick" if LEARNED_FROM[row] else "exact") for dtype, row in more)
    unsure = USABLE & (softer.apply(FIRST).max(axis=1) < FLIP_TTA_BELOW)
    assert calibrated[unsure] == pytest.approx(softer.apply(both)[unsure])
    assert (calibrated[USABLE & ~unsure] == softer.apply(FIRST)[USABLE & ~unsure]).all()
