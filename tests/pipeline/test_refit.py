"""--refit: after measuring, the model is trained on the holdout too and carries the figures of before."""

import json
from dataclasses import replace

import pytest
from small_runs import quick_learning, read_record

from assay.errors import UsageError
from assay.pipeline.export_run import measured_rows
from assay.pipeline.finished import read_finished_run
from assay.pipeline.run import run
from assay.pipeline.run_files import REFIT, read_facts


@pytest.fixture(scope="module")
def refitted(finished, small_data, tmp_path_factory):
    """The shared run with --refit, killed once after it was measured."""
    out = tmp_path_factory.mktemp("refit") / "out"
    options = replace(finished.options, refit=True)

    def killed(*_):
        raise KeyboardInterrupt

    with quick_learning():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("assay.pipeline.run.assemble_model", killed)
            with pytest.raises(KeyboardInterrupt):
                run(small_data.images, out, options)
        return run(small_data.images, out, options).path


def test_figures_and_labels_are_those_of_before(finished, refitted):
    """Labels, noise and evaluations are the same; files of the model name when they were measured."""
    for name in ("labels.csv", "holdout.csv", "noise.json"):
        assert (refitted / name).read_bytes() == (finished.out / name).read_bytes()
    facts, before = read_facts(refitted), read_facts(finished.out)
    assert facts["systems"] == before["systems"]
    assert (facts["refit"], "refit" in before) == (REFIT, False)
    config = json.loads((refitted / "model" / "config.json").read_text())["assay"]
    assert config["refit"] is True
    assert config["figures"]["assay"]["source"] == "holdout, before the refit"
    assert "Measured on the model before the refit." in (refitted / "model" / "README.md").read_text()
    assert measured_rows(read_finished_run(refitted))[1] is True  # an export measures on training images


def test_the_model_is_that_of_a_run_without_a_holdout(finished, refitted, without_holdout):
    """It has the weights of --holdout 0 on the same data, after a kill too."""
    refit, plain, before = (
        (place / "model" / "model.safetensors").read_bytes()
        for place in (refitted, without_holdout.path, finished.out)
    )
    assert refit == plain != before
    record = read_record(refitted)
    assert (record["refit"]["fit"], record["refit"]["holdout"]) == (120, 0)
    assert (record["split"]["fit"], record["processes"]) == (96, 2)


def test_without_a_holdout_there_is_nothing_to_refit(options, own_data, tmp_path):
    """Refused with --holdout 0, and with so few trusted labels that none is held out."""
    with pytest.raises(UsageError, match=r"^--refit: expected a holdout to measure the model on before"):
        replace(options, refit=True, holdout=0)
    few = (own_data.folder / "trusted.csv").read_text().splitlines()[:5]
    (own_data.folder / "trusted.csv").write_text("\n".join(few) + "\n")
    wrong = replace(options, refit=True, read=own_data.read)
    with pytest.raises(UsageError, match=r"^--refit: expected a holdout to measure on before, got none"):
        run(own_data.images, tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()
