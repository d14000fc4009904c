import pytest

from assay.embed.packaged import PACKAGED
from assay.embed.preprocessing import FROM_ZERO_TO_ONE, HALF, preprocessing_of

pytestmark = pytest.mark.train

pytest.importorskip("timm", reason="needs the train extra")


def test_packaged_weights_want_pixels_from_minus_one_to_one():
    """Mean and spread are a half for the packages, and timm's own for the rest."""
    assert {preprocessing_of(name) for name in PACKAGED} == {HALF}
    assert HALF.mean == HALF.std == (0.5, 0.5, 0.5)
    assert preprocessing_of("resnet18").mean == (0.485, 0.456, 0.406)
    assert preprocessing_of("resnet18").std == (0.229, 0.224, 0.225)


def test_pixels_may_go_from_zero_to_one():
    """Without a mean to subtract and a spread to divide by, a pixel is its share of 255."""
    assert (FROM_ZERO_TO_ONE.mean, FROM_ZERO_TO_ONE.std) == ((0, 0, 0), (1, 1, 1))
