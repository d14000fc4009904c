"""A run on everything with the figures of its partial twin."""

import json
from dataclasses import replace

import pytest
from small_runs import write_labels

from assay.errors import UsageError
from assay.notebook.compare_judge import NOT_MEASURED
from assay.notebook.compare_options import CompareOptions
from assay.notebook.compare_twin import assay_options, twin_rows
from assay.pipeline import run
from assay.pipeline.carried import CARRIED, carried_figures, check_twin, partial_run


@pytest.fixture
def full(options, finished):
    """The options of the finished run, with nothing held out and its figures."""
    return replace(options, holdout=0, figures_from=finished.out)


@pytest.fixture(scope="module")
def data(finished):
    """What run.json says of the data."""
    return json.loads((finished.out / "run.json").read_text())["data"]


def test_a_full_run_carries_the_partial_figures_over(full, finished, small_data, tmp_path):
    """Marked as such in evaluation.json, the model and its card; it learned from the holdout too."""
    result = run(small_data.images, tmp_path / "out", full)
    partial = finished.result.evaluations["assay"]
    assert result.evaluations["assay"].to_json() == partial.to_json() | {"source": CARRIED}
    assert {one.source for one in result.evaluations.values()} == {CARRIED, "cross-validation"}
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())["systems"]["assay"]
    assert (figures["source"], figures["n"]) == (CARRIED, partial.n)
    assert CARRIED in (tmp_path / "out" / "model" / "README.md").read_text()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["holdout_evaluations"], record["split"]["holdout"]) == (0, 0)
    weights = [out / "model" / "model.safetensors" for out in (tmp_path / "out", finished.out)]
    assert weights[0].read_bytes() != weights[1].read_bytes()


def test_only_figures_of_the_holdout_are_carried(finished):
    """Cross-validated ones are the full model's own."""
    assert set(carried_figures(finished.out)) <= set(finished.result.evaluations)
    assert {one.source for one in carried_figures(finished.out).values()} == {CARRIED}


def test_other_settings_or_data_are_refused(full, small_data, own_data, read_of, tmp_path):
    """The holdout may differ, nothing else; nothing is written."""
    message = r"--figures-from .*: expected the same settings and data but for the holdout, got seed 0 there"
    with pytest.raises(UsageError, match=message):
        run(small_data.images, tmp_path / "new", replace(full, seed=1))
    write_labels(own_data.folder / "noisy.csv", range(240), own_data.truth)
    with pytest.raises(UsageError, match="got other images or labels"):
        run(own_data.images, tmp_path / "new", replace(full, read=read_of(own_data)))
    assert not (tmp_path / "new").exists()


def test_images_that_changed_are_refused(full, own_data, read_of, tmp_path):
    """Labels and names are the same: it shows once the bytes are read."""
    (own_data.images / "1.png").write_bytes((own_data.images / "3.png").read_bytes())
    with pytest.raises(UsageError, match="got images whose files were changed since"):
        run(own_data.images, tmp_path / "new", replace(full, read=read_of(own_data)))


def test_there_must_be_a_finished_run_with_a_holdout(full, data, own_run, tmp_path):
    """Neither nothing, nor half a run, nor one that held nothing out."""
    settings = full.settings()
    with pytest.raises(UsageError, match=r"nowhere: expected the folder of a finished run with a holdout$"):
        partial_run(tmp_path / "nowhere", settings, data)
    record = json.loads((own_run / "run.json").read_text())
    (own_run / "run.json").write_text(json.dumps(record | {"status": "running"}))
    with pytest.raises(UsageError, match=r"expected the folder of a finished run with a holdout$"):
        partial_run(own_run, settings, data)
    bare = record | {"settings": record["settings"] | {"holdout": 0}}
    with pytest.raises(UsageError, match="expected a run with a holdout, which it had not"):
        check_twin(own_run, bare, settings, data)


@pytest.fixture
def twin(options, finished, data, tmp_path):
    """The options of a full comparison, and its partial twin's record, which a test may change."""
    place = tmp_path / "twin"
    place.mkdir()
    partial = CompareOptions(run=options, backbone="tiny")
    row = {"system": "cnn-1", "status": "done"} | NOT_MEASURED | {"accuracy": 0.5, "n": 24}
    record = {
        "schema": 1,
        "status": "done",
        "settings": partial.settings(),
        "data": data,
        "rows": [row | {"source": "holdout"}, row | {"system": "cnn-2"}],
    }
    full = replace(partial, run=replace(options, holdout=0), figures_from=place)

    def write(**changes):
        (place / "compare.json").write_text(json.dumps(record | changes))
        return full

    return write


def test_rows_of_a_partial_comparison_are_marked(twin, data):
    """Those that were measured; a row that failed there has nothing to carry."""
    options = twin()
    found = twin_rows(options, options.settings(), data)
    assert found == {"cnn-1": NOT_MEASURED | {"accuracy": 0.5, "n": 24, "source": CARRIED}}
    alone = replace(options, figures_from=None)
    assert twin_rows(alone, alone.settings(), data) == {}


def test_a_comparison_that_is_no_twin_is_refused(twin, data):
    """Unfinished, with other settings, or on other images."""
    options = twin(status="running")
    with pytest.raises(UsageError, match=r"expected the folder of a finished comparison with a holdout$"):
        twin_rows(options, options.settings(), data)
    options = replace(twin(), published=True)
    with pytest.raises(UsageError, match=r"got as_published False there, True now$"):
        twin_rows(options, options.settings(), data)
    with pytest.raises(UsageError, match=r"got images whose files were changed since$"):
        twin_rows(twin(), twin().settings(), {**data, "contents": "other"})


def test_assay_carries_over_itself_where_there_is_a_run(twin, finished):
    """Its run is told of a partial run in that folder, if there is one."""
    options = twin()
    assert assay_options(options).run.figures_from is None
    with_run = replace(options, figures_from=finished.out)
    assert assay_options(with_run).run.figures_from == finished.out


def test_the_figures_are_never_those_that_would_be_overwritten(finished, small_data, own_run):
    """The folder of the partial run is not the place of the full one."""
    options = replace(finished.options, holdout=0, figures_from=own_run)
    with pytest.raises(UsageError, match=r"expected another folder than --out"):
        run(small_data.images, own_run, options, overwrite=True)
    assert (own_run / "labels.csv").read_bytes() == (finished.out / "labels.csv").read_bytes()
