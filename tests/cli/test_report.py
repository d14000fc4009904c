"""assay report: where the page goes, and what is printed."""

import sys

import pytest
from written import change_facts, facts_of


def test_a_report_is_written_into_the_runs_folder(assay, run, small_data):
    """The page's path is on stdout, its size on stderr; the folder stays that of the run."""
    found = assay("report", run)
    size = (run / "report.html").stat().st_size
    assert (found.code, found.out) == (0, f"{run / 'report.html'}\n")
    assert found.err == (
        f"{size / 1e6:.2f} MB; open it in a browser. The same as JSON: {run / 'report.json'}\n"
    )
    assert facts_of(run / "report.json")["data"]["images"] == 240
    again = assay(*small_data.command(run))
    assert (again.code, "--overwrite" in again.err) == (0, True)


def test_a_report_may_go_elsewhere(assay, run, here):
    """The run's folder then stays as it is."""
    before = {file.name for file in run.iterdir()}
    found = assay("report", run, "-o", "found.html", "-q")
    assert (found.code, found.out, found.err) == (0, "found.html\n", "")
    assert (here / "found.json").is_file()
    assert {file.name for file in run.iterdir()} == before


def test_moved_images_are_a_warning(assay, run, small_data, tmp_path):
    """With ``--images`` they are shown again."""
    change_facts(run / "run.json", images=str(tmp_path / "gone"))
    found = assay("report", run)
    assert (found.code, found.err.startswith("warning: ")) == (0, True)
    assert f"{tmp_path / 'gone'}" in found.err
    found = assay("report", run, "--images", small_data.images)
    assert (found.code, "warning" in found.err) == (0, False)
    assert assay("report", run, "--images", "nowhere").code == 3


def test_the_audit_of_a_run_is_in_its_report(assay, run, small_data):
    """Once another run is in the folder, the old audit is left out with a warning."""
    assert assay("audit", run, "-q").code == 0
    assert assay("report", run, "-q").code == 0
    audit = facts_of(run / "audit.json")
    reported = facts_of(run / "report.json")["audit"]
    counts = {kind["kind"]: kind["count"] for kind in reported["kinds"]}
    counts["images_in_near_duplicates"] = reported["images_in_near_duplicates"]
    assert counts == audit["counts"]
    assert reported["outliers"] == audit["outliers"]
    assert assay(*small_data.command(run, "--overwrite", "--seed", "1", "-q")).code == 0
    found = assay("report", run)
    assert (found.code, found.err.startswith("warning: audit.json")) == (0, True)
    assert facts_of(run / "report.json")["audit"] is None


def test_a_folder_without_a_run_is_refused(refused, tmp_path):
    """There is nothing to report."""
    refused(3, "expected the folder of a finished run", "report", tmp_path)


def test_a_missing_package_is_named(refused, run, monkeypatch):
    """The message is the install line."""
    pytest.importorskip("jinja2")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "assay.report.page", raising=False)
    refused(2, "pip install '.[report]'", "report", run)
