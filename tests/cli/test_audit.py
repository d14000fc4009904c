"""assay audit: of a finished run, and of images alone."""

import csv
import json
import shutil

import pytest


@pytest.fixture
def cloned(own_data):
    """The data with one image twice."""
    shutil.copy(own_data.images / "5.png", own_data.images / "6.png")
    return own_data


@pytest.fixture
def run_folder(assay, cloned, tmp_path):
    """A finished run on them; 6.png has no trusted conflict, since only even rows are trusted."""
    out = tmp_path / "out"
    assert assay(*cloned.command(out, "--quiet", "--cache", tmp_path / "cache")).code == 0
    return out


def test_images_alone_are_audited(assay, cloned, tmp_path):
    """No label and no run is needed; without -o nothing is written."""
    noisy = assay("audit", cloned.images, "--backbone", "tiny", "--cache", tmp_path / "cache")
    assert noisy.code == 0
    assert "240 images looked at, 0 skipped." in noisy.out
    row = next(line for line in noisy.out.splitlines() if line.startswith("groups of equal files"))
    assert row.split() == ["groups", "of", "equal", "files", "1", "5.png", "=", "6.png"]
    assert not [*tmp_path.rglob("audit.csv")]


def test_a_run_is_audited(assay, run_folder, cloned, tmp_path):
    """With its own labels and its own features, into its own folder, without a network."""
    noisy = assay("audit", run_folder, cloned.images, "--cache", tmp_path / "cache", "--json", "-q")
    assert (noisy.code, noisy.err) == (0, "")
    facts = json.loads(noisy.out)
    assert facts == json.loads((run_folder / "audit.json").read_text())
    assert facts["findings"]["duplicates"] == [{"name": "5.png", "others": ["6.png"], "score": 1.0}]
    with (run_folder / "audit.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert rows[0] == {"name": "5.png", "kind": "duplicates", "others": "6.png", "score": "1.0"}
    assert len(rows) == sum(len(found) for found in facts["findings"].values())


def test_an_audit_says_of_which_run_it_is(assay, run_folder, cloned, tmp_path):
    """Names and labels, images, split and fixed labels by their digests; an audit of images is of no run."""
    assert assay("audit", run_folder, "--cache", tmp_path / "cache", "-q").code == 0
    run = json.loads((run_folder / "run.json").read_text())
    assert json.loads((run_folder / "audit.json").read_text())["run"] == {
        "labels": run["data"]["labels"],
        "contents": run["data"]["contents"],
        "split": run["split"]["digest"],
        "corrected": run["outputs"]["labels.csv"],
    }
    noisy = assay("audit", cloned.images, "--backbone", "tiny", "--cache", tmp_path / "cache", "--json", "-q")
    assert "run" not in json.loads(noisy.out)


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
def test_flags_of_images_are_refused_for_a_run(assay, finished, tmp_path, words):
    """A run has its own labels and features; nothing is dropped in silence, and nothing written."""
    noisy = assay("audit", finished, *words, "-o", tmp_path / "audit")
    named = ", ".join(word for word in words if word.startswith("--"))
    assert (noisy.code, noisy.out) == (2, "")
    assert noisy.err == (
        f"assay: {named}: expected with images, got the run {finished}, which has its own labels and "
        "features; audit it without, or the images themselves\n"
    )
    assert not (tmp_path / "audit").exists()


def test_settings_for_all_commands_do_not_stop_an_audit(assay, finished, tmp_path, monkeypatch):
    """The environment and assay.toml name labels and backbone for whatever command takes them."""
    monkeypatch.setenv("ASSAY_BACKBONE", "tiny")
    (tmp_path / "here" / "assay.toml").write_text('noisy = "noisy.csv"\n')
    assert assay("audit", finished, "-o", tmp_path / "audit", "-q").code == 0


def test_links_may_lead_to_a_runs_images(assay, finished, small_data, tmp_path):
    """Only where the command says so: they may lead out of the folder."""
    (tmp_path / "links").mkdir()
    for image in small_data.images.iterdir():
        (tmp_path / "links" / image.name).symlink_to(image)
    command = ["audit", finished, tmp_path / "links", "-o", tmp_path / "audit", "-q"]
    assert assay(*command).code == 3
    assert assay(*command, "--follow-symlinks").code == 0


def test_the_run_goes_on_as_before(assay, run_folder, cloned, tmp_path):
    """The files of an audit do not make the folder another run's."""
    assert assay("audit", run_folder, cloned.images, "--cache", tmp_path / "cache", "-q").code == 0
    noisy = assay(*cloned.command(run_folder, "--cache", tmp_path / "cache"))
    assert noisy.code == 0
    assert "nothing was computed" in noisy.err


def test_a_folder_can_be_named(assay, run_folder, cloned, tmp_path):
    """Then the run's own folder stays as it is."""
    where = tmp_path / "audit"
    noisy = assay("audit", run_folder, cloned.images, "--cache", tmp_path / "cache", "-o", where, "-q")
    assert noisy.code == 0
    assert noisy.out.splitlines()[-1] == f"Every finding: {where}/audit.csv"
    assert {file.name for file in where.iterdir()} == {"audit.csv", "audit.json"}
    assert not (run_folder / "audit.csv").exists()


def test_images_that_moved_are_asked_for(assay, run_folder):
    """A run that does not say where its images are, or whose images are gone, is told so."""
    file = run_folder / "run.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"images": "/nowhere/at/all"}))
    noisy = assay("audit", run_folder)
    assert noisy.code == 2
    assert noisy.err == (
        f"assay: the images of {run_folder} were at /nowhere/at/all and are there no more; name their place "
        f"now: assay audit {run_folder} IMAGES\n"
    )
    record.pop("images", None)
    file.write_text(json.dumps(record))
    noisy = assay("audit", run_folder)
    assert (noisy.code, "does not say where its images are; name them: assay audit" in noisy.err) == (2, True)


def test_a_missing_cache_is_asked_for(assay, run_folder, cloned, tmp_path):
    """Features are looked up, not computed again in silence."""
    noisy = assay("audit", run_folder, cloned.images, "--cache", tmp_path / "other")
    assert (noisy.code, noisy.out) == (2, "")
    assert "expected the features that the run computed, but those are missing" in noisy.err
    assert "--cache" in noisy.err


def test_changed_images_are_refused(assay, run_folder, cloned, tmp_path):
    """An audit of other images than the run's would be put beside its labels."""
    shutil.copy(cloned.images / "7.png", cloned.images / "8.png")
    noisy = assay("audit", run_folder, cloned.images, "--cache", tmp_path / "cache")
    assert (noisy.code, noisy.out) == (3, "")
    assert "got files that were changed since" in noisy.err


def test_an_unfinished_run_is_refused(assay, run_folder, cloned):
    """It has no labels to audit yet."""
    file = run_folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "running"}))
    noisy = assay("audit", run_folder, cloned.images)
    assert noisy.code == 3
    assert "expected the folder of a finished run" in noisy.err


def test_two_places_need_a_run(assay, cloned):
    """The second place says where a run's images are; without a run it means nothing."""
    noisy = assay("audit", cloned.images, cloned.images)
    assert noisy.code == 2
    assert noisy.err == (
        f"assay: {cloned.images}: expected the folder of a run before IMAGES, got none; give one place only\n"
    )


def test_nothing_there_ends_with_3(assay, tmp_path):
    """A place that does not exist."""
    noisy = assay("audit", tmp_path / "none")
    assert noisy.code == 3
    assert noisy.err == f"assay: no such folder or file of images: {tmp_path / 'none'}\n"


def test_skipped_images_end_with_4_when_strict(assay, cloned, tmp_path):
    """A damaged image is counted with its reason, and audit_skipped.csv names it."""
    (cloned.images / "9.png").write_bytes(b"")
    command = ["audit", cloned.images, "--backbone", "tiny", "--cache", tmp_path / "cache"]
    noisy = assay(*command, "--strict", "-o", tmp_path / "found")
    assert noisy.code == 4
    assert noisy.out.startswith("239 images looked at, 1 skipped: 1 empty_file.")
    with (tmp_path / "found/audit_skipped.csv").open() as file:
        assert [(row["name"], row["reason"]) for row in csv.DictReader(file)] == [("9.png", "empty_file")]
    assert json.loads((tmp_path / "found/audit.json").read_text())["skipped_because"] == {"empty_file": 1}
