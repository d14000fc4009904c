"""Results of a finished run, read back from its folder."""

import json

import pytest

from assay.errors import DataError
from assay.pipeline.finished import load_run
from assay.pipeline.outputs import read_facts


def test_what_is_read_back_is_what_was_written(finished):
    """Noise, evaluations and warnings are those of the files."""
    result, facts = load_run(str(finished.out)), read_facts(finished.out)
    assert facts["folder"] == str(finished.out)
    noise = {name: facts["noise"][name] for name in result.noise.to_json()}
    assert json.loads(json.dumps(result.noise.to_json())) == noise
    for name, found in result.evaluation.items():
        assert json.loads(json.dumps(found.to_json())) == facts["systems"][name]
    assert result.cost.to_json() == facts["cost"]


def test_a_result_is_short_to_read(finished):
    """Noise, labels, figures and warnings, a line each, also as HTML."""
    lines = repr(finished.result).splitlines()
    assert lines[0] == f"RunResult({str(finished.out)!r})"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "noise",
        "labels",
        "histogram baseline",
        "assay",
        "assay, cross-validated",
        "corrected labels, cross-validated",
        "warning",
    ]
    assert "n = 24" in lines[4]
    assert finished.result._repr_html_().count("<tr>") == 7


def test_labels_are_a_table(finished, small_data):
    """One row an image; the issues are unchecked labels that are probably wrong, the likeliest first."""
    labels = finished.result.labels
    assert (len(labels), labels.frame["confidence"].dtype.is_float()) == (240, True)
    assert repr(labels).startswith("240 labels: 96 trusted, ")
    issues = labels.issues
    rows = [int(name.removesuffix(".png")) for name in issues["file"]]
    assert (small_data.noisy[rows] != small_data.truth[rows]).mean() > 0.9
    assert issues["label_quality"].is_sorted()
    assert set(issues["action"]) <= {"changed", "unsure"}
    assert labels.to_pandas().shape == (240, 8)
    assert labels.to_pandas()["trusted_label"][1] == ""
    assert "<table" in labels._repr_html_()


def test_a_folder_without_a_finished_run_is_refused(own_run, tmp_path):
    """Neither nothing, nor half a run, nor results that somebody changed."""
    with pytest.raises(DataError, match=r"expected the folder of a finished run; run 'assay run' to its end"):
        load_run(tmp_path / "nothing")
    facts = json.loads((own_run / "noise.json").read_text())
    (own_run / "noise.json").write_text(json.dumps({**facts, "rate": "high"}))
    with pytest.raises(DataError, match=r"expected the results that assay wrote, got others \("):
        load_run(own_run)
    (own_run / "noise.json").unlink()
    with pytest.raises(DataError, match=r"expected the folder of a finished run \(.*noise.json"):
        load_run(own_run)
