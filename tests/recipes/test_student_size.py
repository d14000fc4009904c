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

TODAY = Effort("tf_efficientnet_lite0", (Stage(40, 1),))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
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


@pytest.mark.parametrize(
    "former",
    [replace(TODAY, stages=(Stage(32, 1),)), replace(TODAY, student="tf_efficientnet_lite1")],
    ids=["size", "network"],
)
def test_a_run_that_another_version_began_goes_on_as_todays(former, asked, tmp_path, monkeypatch):
    """At another size or with another network it is planned anew, and ends as one that was asked for both."""
    images, options = asked
    monkeypatch.setitem(EFFORTS, "balanced", former)

    def killing(line):
        if line.startswith("epoch 1 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "begun", options, say=killing)
    told = replace(options, student_size=40, student=TODAY.student)
    assert "epochs: 2 at 40 px;" in plan_run(images, tmp_path / "told", told).fine_tuning
    run(images, tmp_path / "told", told)
    monkeypatch.setitem(EFFORTS, "balanced", TODAY)
    run(images, tmp_path / "begun", options)
    for name in ("begun", "told"):
        record = json.loads((tmp_path / name / "run.json").read_text())
        planned = record["fine_tuning"]["student"]
        assert (planned["network"], planned["stages"]) == (TODAY.student, [[40, 2]])
        assert load_runtime(tmp_path / name).size == 40
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("begun", "told")]
    assert weights[0] == weights[1]
