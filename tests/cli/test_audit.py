"""assay audit: of a finished run, and of images alone."""

import json
import shutil

import pytest
from written import change_facts, facts_of, rows_of


@pytest.fixture
def cloned(own_data):
    """The data with one image twice."""
    shutil.copy(own_data.images / "5.png", own_data.images / "6.png")
    return own_data


@pytest.fixture
def of_run(assay, cloned, tmp_path):
    """A finished run on them, and a way to audit it."""
    out, cache = tmp_path / "out", ("--cache", tmp_path / "cache")
    assert assay(*cloned.command(out, "--quiet", *cache)).code == 0
    return out, lambda *more: assay("audit", out, cloned.images, *cache, *more)


@pytest.fixture
def of_images(assay, cloned, tmp_path):
    """Audit the images alone."""
    more = ("--backbone", "tiny", "--cache", tmp_path / "cache")
    return lambda *flags: assay("audit", cloned.images, *more, *flags)


def test_images_alone_are_audited(of_images, tmp_path):
    """No label and no run is needed; without -o nothing is written."""
    found = of_images()
    assert found.code == 0
    assert "240 images audited, 0 skipped." in found.out
    assert any(" 1  5.png = 6.png" in line for line in found.out.splitlines())
    assert not [*tmp_path.rglob("audit.csv")]
    assert "run" not in json.loads(of_images("--json", "-q").out)


def test_a_run_is_audited(of_run, assay, cloned, tmp_path):
    """With its own labels and features; into its folder, which stays that of the run, or another."""
    out, audit = of_run
    found = audit("-o", tmp_path / "audit", "-q")
    assert found.out.splitlines()[-1] == f"All findings: {tmp_path / 'audit'}/audit.csv"
    assert {file.name for file in (tmp_path / "audit").iterdir()} == {"audit.csv", "audit.json"}
    assert not (out / "audit.csv").exists()
    found = audit("--json", "-q")
    assert (found.code, found.err) == (0, "")
    facts = json.loads(found.out)
    assert facts == facts_of(out / "audit.json")
    assert facts["findings"]["duplicates"] == [{"file": "5.png", "others": ["6.png"], "score": 1.0}]
    rows = rows_of(out / "audit.csv")
    assert rows[0] == {"file": "5.png", "kind": "duplicates", "others": "6.png", "score": "1.0"}
    assert len(rows) == sum(len(found) for found in facts["findings"].values())
    run = facts_of(out / "run.json")
    assert facts["run"] == {
        "labels": run["data"]["labels"],
        "contents": run["data"]["contents"],
        "split": run["split"]["digest"],
        "corrected": run["outputs"]["labels.csv"],
    }
    again = assay(*cloned.command(out, "--cache", tmp_path / "cache"))
    assert (again.code, "--overwrite" in again.err) == (0, True)


@pytest.mark.parametrize(
    "words",
    [
        ["--noisy", "noisy.csv"],
        ["--trusted", "t.csv", "--classes", "c.txt", "--class-map", "a=b"],
        ["--path-col", "file", "--label-col", "label", "--duplicates", "vote"],
        ["--allow-new-classes", "--normalize-labels", "--allow-empty-classes"],
        ["--backbone", "tiny", "--size", "160", "--dtype", "auto"],  # also what is the default
    ],
)
def test_options_of_images_are_refused_for_a_run(refused, finished, tmp_path, words):
    """A run has its own labels and features; no option is dropped in silence, and nothing is written."""
    named = ", ".join(word for word in words if word.startswith("--"))
    message = f"assay: {named}: expected with images, got the run {finished}"
    refused(2, message, "audit", finished, *words, "-o", tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


def test_links_may_lead_to_a_runs_images(assay, finished, small_data, tmp_path):
    """They may lead out of the folder only on request (fault 20)."""
    (tmp_path / "links").mkdir()
    for image in small_data.images.iterdir():
        (tmp_path / "links" / image.name).symlink_to(image)
    command = ["audit", finished, tmp_path / "links", "-o", tmp_path / "audit", "-q"]
    assert assay(*command).code == 3
    assert assay(*command, "--follow-symlinks").code == 0


def test_moved_images_must_be_named(refused, run):
    """A run whose images are gone, or that does not record their place, says what to do."""
    for place in ("/nowhere/at/all", None):
        change_facts(run / "run.json", images=place)
        refused(2, f"assay audit {run} IMAGES", "audit", run)


def test_what_does_not_fit_the_run_is_refused(refused, of_run, cloned, tmp_path):
    """Features that are not in the cache, changed images (fault 29), a run that is not finished."""
    out, _ = of_run
    command = ["audit", out, cloned.images, "--cache"]
    refused(2, "--cache", *command, tmp_path / "other")
    shutil.copy(cloned.images / "7.png", cloned.images / "8.png")
    refused(3, "changed", *command, tmp_path / "cache")
    change_facts(out / "run.json", status="running")
    refused(3, "expected the folder of a finished run", *command, tmp_path / "cache")


def test_other_places_are_refused(refused, cloned, tmp_path):
    """A second place needs a run; a missing one has no images."""
    refused(2, "expected the folder of a run before IMAGES", "audit", cloned.images, cloned.images)
    refused(3, str(tmp_path / "none"), "audit", tmp_path / "none")


def test_skipped_images_end_with_4_when_strict(of_images, cloned, tmp_path):
    """A damaged image is counted with its reason and listed."""
    (cloned.images / "9.png").write_bytes(b"")
    found = of_images("--strict", "-o", tmp_path / "found")
    assert found.code == 4
    assert found.out.startswith("239 images audited, 1 skipped: 1 empty_file.")
    issues = rows_of(tmp_path / "found/image_issues.csv")
    assert [(row["file"], row["reason"]) for row in issues] == [("9.png", "empty_file")]
    assert facts_of(tmp_path / "found/audit.json")["skipped_because"] == {"empty_file": 1}
