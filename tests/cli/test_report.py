"""assay report: what is written where, and what is said."""

import json
import shutil

import pytest


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def test_a_report_is_written_into_the_runs_folder(assay, run):
    """The page's place on stdout, its size and the JSON on stderr."""
    noisy = assay("report", run)
    size = (run / "report.html").stat().st_size
    assert (noisy.code, noisy.out) == (0, f"{run / 'report.html'}\n")
    assert noisy.err == (
        f"{size / 1e6:.2f} MB; open it in a browser. The same facts: {run / 'report.json'}\n"
    )
    assert json.loads((run / "report.json").read_text())["data"]["images"] == 240


def test_a_report_goes_where_it_is_asked_for(assay, run, tmp_path):
    """And the run's folder stays as it is."""
    before = {file.name for file in run.iterdir()}
    noisy = assay("report", run, "-o", "found.html", "-q")
    assert (noisy.code, noisy.out, noisy.err) == (0, "found.html\n", "")
    assert (tmp_path / "here" / "found.json").is_file()
    assert {file.name for file in run.iterdir()} == before


def test_what_is_missing_is_said(assay, run, small_data, tmp_path):
    """Images that moved: a warning, exit code 0; with --images they are there again."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"images": str(tmp_path / "gone")}))
    noisy = assay("report", run)
    assert noisy.code == 0
    assert noisy.err.startswith(
        f"warning: The images are no longer at {tmp_path / 'gone'}, so none is shown; name their place with "
        "--images.\n"
    )
    noisy = assay("report", run, "--images", small_data.images)
    assert (noisy.code, "warning" in noisy.err) == (0, False)


def test_the_audit_of_a_run_is_in_its_report(assay, run):
    """Audit, then report: the findings are those of the audit."""
    assert assay("audit", run, "-q").code == 0
    assert assay("report", run, "-q").code == 0
    audit = json.loads((run / "audit.json").read_text())
    told = json.loads((run / "report.json").read_text())["audit"]
    assert {kind["kind"]: kind["count"] for kind in told["kinds"]} | {
        "images_in_near_duplicates": told["images_in_near_duplicates"]
    } == audit["counts"]
    assert told["outliers"] == audit["outliers"]


def test_a_stale_audit_is_left_out_and_said(assay, run, small_data):
    """Once another run is in the folder the audit of the former is not told as its own."""
    assert assay("audit", run, "-q").code == 0
    assert assay(*small_data.command(run, "--overwrite", "--seed", "1", "-q")).code == 0
    noisy = assay("report", run)
    assert noisy.code == 0
    assert noisy.err.startswith(
        "warning: audit.json is left out: it is not of this very run; give assay audit again\n"
    )
    assert json.loads((run / "report.json").read_text())["audit"] is None


def test_the_run_goes_on_as_before(assay, run, small_data):
    """A report does not make the folder another run's."""
    assert assay("report", run, "-q").code == 0
    noisy = assay(*small_data.command(run))
    assert (noisy.code, "nothing was computed" in noisy.err) == (0, True)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["-o", "found.pdf"], 2, "--out: expected a name ending in .html, got found.pdf"),
        (["--images", "nowhere"], 3, "no such folder or file of images: nowhere"),
        (
            ["-o", "no/a.html"],
            2,
            "--out: expected a file in a folder that is there, got no/a.html",
        ),
    ],
)
def test_what_cannot_be_is_refused(assay, run, flags, code, message):
    """With what was expected, and nothing is written."""
    noisy = assay("report", run, *flags)
    assert (noisy.code, noisy.out) == (code, "")
    assert message in noisy.err


def test_a_folder_without_a_run_is_refused(assay, tmp_path):
    """There is nothing to report."""
    noisy = assay("report", tmp_path)
    assert (noisy.code, "expected the folder of a finished run" in noisy.err) == (3, True)


def test_without_jinja_the_message_is_the_install_line(assay, run, monkeypatch):
    """The page needs it, the rest of the room does not."""
    import sys

    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "assay.report.page", raising=False)
    noisy = assay("report", run)
    assert noisy.code == 2
    assert "in assay's folder, pip install '.[report]'" in noisy.err
