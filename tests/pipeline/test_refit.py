"""--refit: after measuring, the model is trained on the holdout too and carries the figures of before."""

import json
from dataclasses import replace

import pytest

from assay.errors import UsageError
from assay.pipeline.export_run import _measured_rows
from assay.pipeline.finished import read_finished_run
from assay.pipeline.outputs import REFIT, read_facts
from assay.pipeline.run import run


@pytest.fixture(scope="module")
def refitted(finished, small_data, tmp_path_factory):
    """The shared run with --refit, killed once after it was measured."""
    from small_runs import quick_learning

    out = tmp_path_factory.mktemp("refit") / "out"
    options = replace(finished.options, refit=True)
    with quick_learning(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.pipeline.run.assemble_model", killed)
        with pytest.raises(KeyboardInterrupt):
            run(small_data.images, out, options)
        patch.undo()
    with quick_learning():
        return run(small_data.images, out, options)


def killed(*_, **__):
    raise KeyboardInterrupt


def test_the_figures_are_those_of_the_model_before(finished, refitted):
    """Labels, noise and evaluations are the same, and marked as measured before the refit."""
    for name in ("labels.csv", "holdout.csv", "noise.json"):
        assert (refitted.path / name).read_bytes() == (finished.out / name).read_bytes()
    facts, before = read_facts(refitted.path), read_facts(finished.out)
    assert facts["systems"] == before["systems"]
    assert (facts["refit"], "refit" in before) == (REFIT, False)


def test_the_model_is_another_and_says_so(finished, refitted):
    """It was trained on the holdout too; config.json and the card say when its figures were measured."""
    weights = [place / "model" / "model.safetensors" for place in (refitted.path, finished.out)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    config = json.loads((refitted.path / "model" / "config.json").read_text())["assay"]
    assert config["refit"] is True
    assert config["figures"]["assay"]["source"] == "holdout, before the refit"
    assert "Measured on the model before the refit." in (refitted.path / "model" / "README.md").read_text()
    assert _measured_rows(read_finished_run(refitted.path))[1] is True


def test_the_model_is_that_of_a_run_without_a_holdout(finished, small_data, refitted, tmp_path):
    """The same settings on the same data: the same weights, after a kill too."""
    run(small_data.images, tmp_path / "out", replace(finished.options, holdout=0))
    weights = [place / "model" / "model.safetensors" for place in (refitted.path, tmp_path / "out")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    record = json.loads((refitted.path / "run.json").read_text())
    assert (record["refit"]["fit"], record["refit"]["holdout"]) == (120, 0)
    assert (record["split"]["fit"], record["processes"]) == (96, 2)


def test_without_a_holdout_there_is_nothing_to_refit(options, small_data, own_data, read_of, tmp_path):
    """Neither with --holdout 0 nor with so few trusted labels that none is held out."""
    with pytest.raises(UsageError, match=r"^--refit: expected a holdout to measure the model on before"):
        replace(options, refit=True, holdout=0)
    few = (own_data.folder / "trusted.csv").read_text().splitlines()[:5]
    (own_data.folder / "trusted.csv").write_text("\n".join(few) + "\n")
    wrong = replace(options, refit=True, read=read_of(own_data))
    with pytest.raises(UsageError, match=r"^--refit: expected a holdout to measure on before, got none"):
        run(own_data.images, tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()
