"""Figures of a run: which of them a reader should take."""

import pytest

from assay.pipeline.shown import ENOUGH, main_figures


@pytest.mark.parametrize(
    ("images", "name"),
    [
        ({"assay": 7, "assay_cross_validated": 300}, "assay_cross_validated"),
        ({"assay": ENOUGH, "assay_cross_validated": 8_000}, "assay"),
        ({"assay": 60, "assay_validated": 40}, "assay"),
        ({"assay_validated": 40, "labels_validated": 700}, "assay_validated"),
        ({"labels_cross_validated": 28}, ""),
    ],
    ids=["small holdout", "holdout", "smaller yet", "no holdout", "none"],
)
def test_the_headline_is_of_enough_images(images, name):
    """The holdout's figure where it has a hundred images, else that of the most; never the labels' figure."""
    assert main_figures({"histogram": 9_000, **images}) == name
