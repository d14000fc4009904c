"""assay plan: the worth of more trusted labels, and images to label."""

import csv
import json
import shutil

import pytest
from small_runs import quick_head, quick_learning

from assay.cli.app import run_app
from assay.data.decision_store import FILE, open_decisions


@pytest.fixture(scope="session")
def planned(finished, small_data, tmp_path_factory):
    """Where the plan of the finished run was written, and what was printed."""
    folder = tmp_path_factory.mktemp("plan")
    with quick_learning(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.pipeline.label_value.make_head", quick_head)
        assert (
            run_app(["plan", str(finished), "-o", str(folder), "--label", "7", "--more", "50,400", "-q"]) == 0
        )
    return folder


def rows_of(folder):
    with (folder / "plan.csv").open() as file:
        return [*csv.DictReader(file)]


def test_the_curve_is_measured_and_led_on(planned):
    """Sizes up to two thirds of the trusted images, each tested on all of them, and what more would give."""
    facts = json.loads((planned / "plan.json").read_text())
    assert (facts["trusted"], facts["held_out"], facts["tested"]) == (96, 24, 96)
    assert [row["trusted"] for row in facts["curve"]] == [32, 64]
    assert all(0.6 < row[name] <= 1 for row in facts["curve"] for name in ("model", "labels"))
    assert [row["more"] for row in facts["expected"]] == [0, 50, 400]
    for name in ("model", "labels"):
        found = [row[name] for row in facts["expected"]]
        assert found[0]["gain"]["high"] == 0
        estimates = [one["accuracy"]["estimate"] for one in found]
        assert estimates == sorted(estimates)
        assert all(one["accuracy"]["low"] <= one["accuracy"]["high"] for one in found)


def test_more_labels_tell_more(planned):
    """The noise rate and the accuracy are known more closely."""
    facts = json.loads((planned / "plan.json").read_text())
    for name in ("noise_rate_known_to", "accuracy_known_to"):
        widths = [row[name] for row in facts["expected"]]
        assert widths == sorted(widths, reverse=True)
        assert 0 < widths[-1] < widths[0] < 0.25


def test_images_to_label_are_named(planned, finished):
    """At random and by doubt; none that has a trusted label or is held out."""
    rows = rows_of(planned)
    assert [row["part"] for row in rows] == ["random"] * 7 + ["doubtful"] * 7
    with (finished / "labels.csv").open() as file:
        known = {row["name"]: row for row in csv.DictReader(file)}
    assert all(not known[row["name"]]["trusted"] for row in rows)
    assert all(known[row["name"]]["reason"] != "holdout" for row in rows)
    assert all(row["corrected"] == known[row["name"]]["corrected"] for row in rows)
    doubtful = [float(row["confidence"]) for row in rows[7:]]
    open_rows = [row for row in known.values() if not row["trusted"] and row["reason"] != "holdout"]
    assert doubtful == sorted(float(row["confidence"]) for row in open_rows)[:7]
    facts = json.loads((planned / "plan.json").read_text())
    assert facts["doubtful"]["labels_put_right"] == pytest.approx(
        sum(1 - sure for sure in doubtful), abs=1e-3
    )


def test_what_was_looked_at_is_not_doubtful_any_more(assay, finished, planned, tmp_path, monkeypatch):
    """Nobody is asked about it again, and no label that was put right is promised; the sample stays fair."""
    monkeypatch.setattr("assay.pipeline.label_value.make_head", quick_head)
    own = shutil.copytree(finished, tmp_path / "out")
    before = rows_of(planned)
    store = open_decisions(own / FILE)
    for row in before[7:10]:
        store.decide(row["name"], row["corrected"], noisy="", revision=0, who="me", client="here")
    store.close()
    assert assay("plan", own, "-o", tmp_path / "plan", "--label", "7", "-q").code == 0
    after = rows_of(tmp_path / "plan")
    assert after[:7] == before[:7]
    assert after[7:11] == before[10:]
    assert len(after) == 14


def test_the_text_says_all_of_it(assay, finished, planned, tmp_path, monkeypatch):
    """A table to read; the run's own folder stays as it was."""
    monkeypatch.setattr("assay.pipeline.label_value.make_head", quick_head)
    before = {file.name for file in finished.iterdir()}
    noisy = assay("plan", finished, "-o", tmp_path, "--label", "7", "--more", "50,400", "-q")
    assert (noisy.code, noisy.err) == (0, "")
    assert "96 trusted labels teach, 24 are held out. With fewer:" in noisy.out
    assert (
        "With more, the same share of them held out (2,000 at most), and how closely the noise rate and the "
        "accuracy would be known:\n"
    ) in noisy.out
    assert "400 more" in noisy.out
    assert f"{tmp_path}/plan.csv names 7 images at random" in noisy.out
    assert {file.name for file in finished.iterdir()} == before
    for name in ("plan.csv", "plan.json"):
        assert (tmp_path / name).read_bytes() == (planned / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--more", "many"), "--more: expected numbers with commas between them, got 'many'"),
        (("--more", "0"), "expected numbers of labels from 1 on, got 0, 100"),
        (("--more", "5,-1"), "expected numbers of labels from 1 on, got 5, -1, 100"),
    ],
)
def test_strange_numbers_are_refused(assay, finished, tmp_path, words, message):
    """Before anything is learned."""
    noisy = assay("plan", finished, "-o", tmp_path / "plan", *words)
    assert (noisy.code, noisy.out, noisy.err) == (2, "", f"assay: {message}\n")
    assert not (tmp_path / "plan").exists()


def test_without_a_holdout_nothing_is_said_of_one(assay, small_data, tmp_path, monkeypatch):
    """All labels teach, and no accuracy is known."""
    monkeypatch.setattr("assay.pipeline.label_value.make_head", quick_head)
    assert assay(*small_data.command(tmp_path / "out", "-q", "--holdout", "0")).code == 0
    noisy = assay("plan", tmp_path / "out", "-q", "--more", "50", "--label", "7")
    assert noisy.code == 0
    assert "With more, and how closely the noise rate would be known:\n" in noisy.out
    facts = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert [(row["trusted"], row["held_out"]) for row in facts["expected"]] == [(120, 0), (170, 0)]
    assert "accuracy_known_to" not in facts["expected"][0]


def test_too_few_trusted_labels_are_said(assay, small_data, tmp_path):
    """A curve needs two points."""
    few = tmp_path / "few.csv"
    lines = (small_data.folder / "trusted.csv").read_text().splitlines(keepends=True)
    few.write_text("".join(lines[:60]))
    words = [
        word if word != str(small_data.folder / "trusted.csv") else few
        for word in small_data.command(tmp_path / "out", "-q")
    ]
    with quick_learning():
        assert assay(*words).code in (0, 5)
    noisy = assay("plan", tmp_path / "out", "-q")
    assert (noisy.code, noisy.out) == (3, "")
    assert noisy.err.startswith("assay: expected 60 trusted labels or more besides the holdout's")


def test_no_finished_run_is_refused(assay, tmp_path):
    """It has nothing to plan from."""
    assert assay("plan", tmp_path).code == 3
