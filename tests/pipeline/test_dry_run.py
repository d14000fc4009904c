"""The plan of a run; its text, and that nothing is written, are tested where it is printed."""

from dataclasses import replace

import pytest

from assay.errors import DataError, OtherRunError, UsageError
from assay.pipeline.dry_run import EXPORT_S, LEARN_S_AT_LEAST, dry_run


def test_the_plan_counts_and_times(small_data, finished, options, tmp_path):
    """Images, labels, holdout, room for two views in float16 and the time; a run that is there is seen."""
    plan = dry_run(small_data.images, tmp_path / "out", options)
    assert (plan.images, plan.classes, plan.trusted, plan.holdout) == (240, 3, 120, 24)
    assert (plan.backbone, plan.size, plan.mirrored, plan.resumes) == ("tiny", 32, True, False)
    assert plan.cache_bytes == 240 * 2 * 384 * 2
    assert min(plan.milliseconds_per_image, plan.milliseconds_to_decode) > 0
    parts = 0.24 * plan.milliseconds_to_decode + 0.48 * plan.milliseconds_per_image
    assert plan.seconds > parts + LEARN_S_AT_LEAST + EXPORT_S
    before = (finished.out / "run.json").read_bytes()
    assert dry_run(small_data.images, finished.out, options).resumes is True
    assert dry_run(small_data.images, finished.out, options, overwrite=True).resumes is False
    assert (finished.out / "run.json").read_bytes() == before


def test_a_plan_refuses_what_the_run_would_refuse(finished, small_data, options, tmp_path):
    """Other settings, a backbone that does not exist, images that are not there."""
    with pytest.raises(OtherRunError, match=r"holds a run with seed 0 there, 1 now"):
        dry_run(small_data.images, finished.out, replace(options, seed=1))
    with pytest.raises(UsageError, match=r"no-such-network"):
        dry_run(small_data.images, tmp_path / "out", replace(options, backbone="no-such-network"))
    with pytest.raises(DataError, match=r"no such folder or file of images: .*nowhere"):
        dry_run(tmp_path / "nowhere", tmp_path / "out", options)
