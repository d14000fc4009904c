"""Full comparisons carry the figures of their partial ones."""

import json
from dataclasses import replace

import pytest

from assay.errors import UsageError
from assay.notebook.compare_judge import NOT_MEASURED
from assay.notebook.compare_options import CompareOptions
from assay.notebook.compare_twin import CARRIED, check_apart_from, twin_rows
from assay.pipeline.folder import SCHEMA


@pytest.fixture(scope="module")
def data(finished):
    """What run.json says of the data."""
    return json.loads((finished.out / "run.json").read_text())["data"]


@pytest.fixture
def twin(options, finished, data, tmp_path):
    """The options of a full comparison, and its partial twin's record, which a test may change."""
    place = tmp_path / "twin"
    place.mkdir()
    partial = CompareOptions(run=options, backbone="tiny")
    row = {"system": "cnn-1", "status": "done"} | NOT_MEASURED | {"accuracy": 0.5, "n": 24}
    record = {
        "schema": SCHEMA,
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


def test_the_figures_are_never_those_that_would_be_overwritten(tmp_path):
    """The folder of the partial comparison is not the place of the full one."""
    with pytest.raises(UsageError, match=r"expected another folder than --out"):
        check_apart_from(tmp_path, tmp_path / "x" / "..")


def test_a_comparison_cannot_refit(options):
    """It measures the models that it saves, and a refitted one was trained on the holdout."""
    with pytest.raises(UsageError, match=r"^--refit: a comparison measures the models that it saves"):
        CompareOptions(run=replace(options, refit=True))
