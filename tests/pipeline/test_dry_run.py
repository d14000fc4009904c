"""The plan of a run: what would be done, and nothing done."""

from dataclasses import replace

import pytest

from assay.cli.run import plan_text
from assay.errors import DataError, OtherRunError, UsageError
from assay.pipeline.dry_run import dry_run
from assay.pipeline.options import RunOptions


def test_the_plan_counts_and_times(small_data, options, tmp_path):
    """Images, classes, labels, holdout, room for two views in float16, and a time."""
    plan = dry_run(small_data.images, tmp_path / "out", options)
    assert (plan.images, plan.classes, plan.trusted, plan.holdout) == (240, 3, 120, 24)
    assert (plan.backbone, plan.size, plan.mirrored) == ("tiny", 32, True)
    assert plan.cache_bytes == 240 * 2 * 384 * 2
    assert plan.seconds > 0
    assert plan.milliseconds_per_image > 0
    assert plan.milliseconds_to_decode > 0
    assert plan.seconds > 0.24 * plan.milliseconds_to_decode
    assert plan.resumes is False
    assert plan.to_json()["images"] == 240


def test_a_plan_writes_nothing(small_data, options, tmp_path):
    """Neither the folder nor a cache of features comes into being."""
    dry_run(small_data.images, tmp_path / "out", replace(options, cache=tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_that_a_run_is_there(finished, small_data):
    """The folder of the same run is seen, and not touched."""
    before = (finished.out / "run.json").read_bytes()
    assert dry_run(small_data.images, finished.out, finished.options).resumes is True
    assert dry_run(small_data.images, finished.out, finished.options, overwrite=True).resumes is False
    assert (finished.out / "run.json").read_bytes() == before


def test_a_plan_refuses_what_the_run_would_refuse(finished, small_data, options, tmp_path):
    """Other settings, a backbone that does not exist, images that are not there."""
    with pytest.raises(OtherRunError, match=r"holds a run with seed 0 there, 1 now"):
        dry_run(small_data.images, finished.out, replace(finished.options, seed=1))
    with pytest.raises(UsageError, match=r"no-such-network"):
        dry_run(small_data.images, tmp_path / "out", replace(options, backbone="no-such-network"))
    with pytest.raises(DataError, match=r"no such folder or file of images: .*nowhere"):
        dry_run(tmp_path / "nowhere", tmp_path / "out", RunOptions(backbone="tiny"))


@pytest.mark.train
def test_a_plan_of_fine_tuning_says_what_is_looked_at(small_data, options, tmp_path):
    """One view, and the network with its epochs."""
    plan = dry_run(small_data.images, tmp_path / "out", replace(options, preset="balanced"))
    assert plan.mirrored is False
    assert plan.cache_bytes == 240 * 384 * 2
    assert "tf_efficientnet_lite0 on 240 images, epochs: " in plan.fine_tuning
    assert "Features: every image, " in plan_text(plan, "out")
