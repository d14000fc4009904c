"""The size of a student's images: asked for, or another one than a former version had."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("timm")

from networks import quick_probe
from small_runs import draw_data, quick_learning

from assay.data.dataset import ReadOptions
from assay.learn.finetune import Stage
from assay.predict.runtime import load_runtime
from assay.recipes import run
from assay.recipes.options import RunOptions
from assay.recipes.plan_run import plan_run
from assay.recipes.schedule import EFFORTS, Effort

pytestmark = [pytest.mark.train, pytest.mark.slow]

FORMER = Effort("tf_efficientnet_lite0", (Stage(32, 1),))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(EFFORTS, "balanced", FORMER)
    monkeypatch.setattr("assay.recipes.schedule.MOST_TIMES", 2)
    with quick_probe(), quick_learning():
        yield


@pytest.fixture
def asked(tmp_path):
    """Images and options of a small run."""
    data = draw_data(tmp_path / "data")
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    cache = tmp_path / "features"
    return data.images, RunOptions(read=read, backbone="tiny", cache=cache, effort="balanced")


def test_a_run_that_another_version_began_goes_on_at_todays_size(asked, tmp_path, monkeypatch):
    """It is planned anew, and ends as one does that was asked for that size from the start."""
    images, options = asked

    def killing(line):
        if line.startswith("epoch 1 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "begun", options, say=killing)
    told = replace(options, student_size=40)
    assert "epochs: 2 at 40 px;" in plan_run(images, tmp_path / "told", told).fine_tuning
    run(images, tmp_path / "told", told)
    monkeypatch.setitem(EFFORTS, "balanced", replace(FORMER, stages=(Stage(40, 1),)))
    run(images, tmp_path / "begun", options)
    for name in ("begun", "told"):
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert record["fine_tuning"]["student"]["stages"] == [[40, 2]]
        assert load_runtime(tmp_path / name).size == 40
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("begun", "told")]
    assert weights[0] == weights[1]
