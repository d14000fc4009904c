"""The size of a student's images: asked for, or another one than a former version had; and late refusals."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("timm")

from networks import quick_probe
from small_runs import draw_data, quick_learning

from assay.data.dataset import ReadOptions
from assay.errors import UsageError
from assay.pipeline import refine_run
from assay.pipeline.dry_run import dry_run
from assay.pipeline.options import RunOptions
from assay.pipeline.presets import PRESETS, Preset
from assay.pipeline.refine_run import load_networks
from assay.pipeline.run import run
from assay.predict.runtime import load_runtime
from assay.train.finetune import Phase

pytestmark = [pytest.mark.train, pytest.mark.slow]

TODAY = Preset("tf_efficientnet_lite0", (Phase(40, 1),))


@pytest.fixture(autouse=True, scope="module")
def _small():
    with quick_probe(), quick_learning(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "balanced", TODAY)
        patch.setattr("assay.pipeline.presets.MOST_TIMES", 2)
        yield


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Images and options of a small run."""
    place = tmp_path_factory.mktemp("asked")
    data = draw_data(place / "data")
    read = ReadOptions(noisy=data.folder / "noisy.csv", trusted=data.folder / "trusted.csv")
    cache = place / "features"
    return data.images, RunOptions(read=read, backbone="tiny", cache=cache, preset="balanced")


@pytest.fixture(scope="module")
def told(asked, tmp_path_factory):
    """The folder of a run that was asked for today's network and size."""
    images, options = asked
    out = tmp_path_factory.mktemp("told") / "out"
    options = replace(options, student_size=40, student=TODAY.student)
    assert "epochs: 2 at 40 px;" in dry_run(images, out, options).fine_tuning
    run(images, out, options)
    return out


def test_another_network_or_another_size_is_another_plan(asked, told):
    """Both are in run.json, and both have to be today's."""
    record, networks = json.loads((told / "run.json").read_text()), load_networks(asked[1])
    planned = record["fine_tuning"]["student"]
    assert refine_run._is_planned(record, networks)
    for other in ({"network": "tf_efficientnet_lite1"}, {"milliseconds": {"32": {}}}):
        assert not refine_run._is_planned({"fine_tuning": {"student": planned | other}}, networks)
    assert not refine_run._is_planned({}, networks)


def test_a_run_that_another_version_began_goes_on_as_todays(asked, told, tmp_path, monkeypatch):
    """At another size it is planned anew, and ends as one that was asked for today's."""
    images, options = asked
    monkeypatch.setitem(PRESETS, "balanced", replace(TODAY, phases=(Phase(32, 1),)))

    def killing(line):
        if line.startswith("epoch 2 "):
            raise KeyboardInterrupt

    begun = tmp_path / "begun"
    with pytest.raises(KeyboardInterrupt):
        run(images, begun, options, notify=killing)
    monkeypatch.setitem(PRESETS, "balanced", TODAY)
    said: list[str] = []
    run(images, begun, options, notify=said.append)
    assert "warning: student.safetensors was kept by another way to learn: fine-tuning begins anew" in said
    for out in (begun, told):
        planned = json.loads((out / "run.json").read_text())["fine_tuning"]["student"]
        assert (planned["network"], planned["stages"]) == (TODAY.student, [[40, 2]])
        assert load_runtime(out).size == 40
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (begun, told)]
    assert weights[0] == weights[1]


def test_what_is_refused_after_learning_is_kept(asked, told, tmp_path, monkeypatch):
    """The same command goes on with the last epoch, and ends as if nothing had been in its way."""

    def refusing(*_):
        raise UsageError("planted")

    images, options = asked
    options = replace(options, student_size=40, student=TODAY.student)
    with monkeypatch.context() as patch:
        patch.setattr("assay.pipeline.work.assemble_model", refusing)
        with pytest.raises(UsageError, match="planted"):
            run(images, tmp_path / "out", options)
    said: list[str] = []
    run(images, tmp_path / "out", options, notify=said.append)
    assert not [line for line in said if line.startswith("epoch ")]
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (tmp_path / "out", told)]
    assert weights[0] == weights[1]
