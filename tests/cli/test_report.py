"""assay report: where the page goes, and what is printed."""

import json
import sys

import pytest


def test_a_report_is_written_into_the_runs_folder(assay, run, small_data):
    """The page's path is on stdout, its size on stderr; the folder stays that of the run."""
    found = assay("report", run)
    size = (run / "report.html").stat().st_size
    assert (found.code, found.out) == (0, f"{run / 'report.html'}\n")
    assert found.err == (
        f"{size / 1e6:.2f} MB; open it in a browser. The same as JSON: {run / 'report.json'}\n"
    )
    assert json.loads((run / "report.json").read_text())["data"]["images"] == 240
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
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"images": str(tmp_path / "gone")}))
    found = assay("report", run)
    assert found.code == 0
    assert found.err.startswith("warning: ")
    assert f"{tmp_path / 'gone'}" in found.err
    found = assay("report", run, "--images", small_data.images)
    assert (found.code, "warning" in found.err) == (0, False)
    assert assay("report", run, "--images", "nowhere").code == 3


def test_the_audit_of_a_run_is_in_its_report(assay, run, small_data):
    """Once another run is in the folder, the old audit is left out with a warning."""
    assert assay("audit", run, "-q").code == 0
    assert assay("report", run, "-q").code == 0
    audit = json.loads((run / "audit.json").read_text())
    reported = json.loads((run / "report.json").read_text())["audit"]
    counts = {kind["kind"]: kind["count"] for kind in reported["kinds"]}
    counts["images_in_near_duplicates"] = reported["images_in_near_duplicates"]
    assert counts == audit["counts"]
    assert reported["outliers"] == audit["outliers"]
    assert assay(*small_data.command(run, "--overwrite", "--seed", "1", "-q")).code == 0
    found = assay("report", run)
    assert found.code == 0
    assert found.err.startswith("warning: audit.json")
    assert json.loads((run / "report.json").read_text())["audit"] is None


def test_a_folder_without_a_run_is_refused(assay, tmp_path):
    """There is nothing to report."""
    found = assay("report", tmp_path)
    assert (found.code, "expected the folder of a finished run" in found.err) == (3, True)


def test_a_missing_package_is_named(assay, run, monkeypatch):
    """The message is the install line."""
    pytest.importorskip("jinja2")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "assay.report.page", raising=False)
    found = assay("report", run)
    assert found.code == 2
    assert "pip install '.[report]'" in found.err
