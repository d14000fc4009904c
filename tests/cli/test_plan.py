"""assay plan: what more trusted labels would gain, and images to label."""

import json

import pytest
from written import facts_of, rows_of

from assay.data.decisions import FILE, DecisionRequest, open_decisions


@pytest.fixture
def plan(assay):
    """Give ``assay plan``."""
    return lambda run, *more: assay("plan", run, "--label", "7", "-q", *more)


def test_the_plan_is_measured_and_forecast(plan, finished, tmp_path):
    """The curve is measured on part of the trusted images; more labels gain and are known more closely."""
    before = {file.name for file in finished.iterdir()}
    found = plan(finished, "-o", tmp_path, "--more", "50,400")
    assert (found.code, found.err) == (0, "")
    assert "96 trusted labels are used for training, 24 are held out." in found.out
    assert "of which the same share is held out (2,000 at most)" in found.out
    assert "120 more" in found.out  # all images without a trusted label, of which 400 are more than there are
    assert f"{tmp_path}/plan.csv lists 7 random images" in found.out
    assert {file.name for file in finished.iterdir()} == before

    facts = facts_of(tmp_path / "plan.json")
    assert facts == json.loads(plan(finished, "-o", tmp_path, "--more", "50,400", "--json").out)
    assert (facts["trusted"], facts["held_out"], facts["tested"]) == (96, 24, 96)
    assert [row["trusted"] for row in facts["curve"]] == [32, 64]
    assert all(0.6 < row[name] <= 1 for row in facts["curve"] for name in ("model", "labels"))
    assert [row["more"] for row in facts["expected"]] == [0, 50, 120]
    for name in ("model", "labels"):
        expected = [row[name] for row in facts["expected"]]
        assert expected[0]["gain"]["high"] == 0
        estimates = [one["accuracy"]["estimate"] for one in expected]
        assert estimates == sorted(estimates)
        assert all(one["accuracy"]["low"] <= one["accuracy"]["high"] for one in expected)
    for name in ("noise_rate_known_to", "accuracy_known_to"):
        margins = [row[name] for row in facts["expected"]]
        assert margins == sorted(margins, reverse=True)
        assert 0 < margins[-1] < margins[0] < 0.25


def test_images_to_label_are_chosen(plan, run, tmp_path):
    """At random and by doubt, none trusted or held out; a reviewed one is not doubtful any more."""
    assert plan(run, "-o", tmp_path / "one").code == 0
    rows = rows_of(tmp_path / "one" / "plan.csv")
    assert [row["part"] for row in rows] == ["random"] * 7 + ["doubtful"] * 7
    known = {row["file"]: row for row in rows_of(run / "labels.csv")}
    is_open = {name: not row["trusted_label"] and row["reason"] != "holdout" for name, row in known.items()}
    assert all(is_open[row["file"]] for row in rows)
    assert all(row["corrected_label"] == known[row["file"]]["corrected_label"] for row in rows)
    doubtful = [float(row["confidence"]) for row in rows[7:]]
    assert doubtful == sorted(float(known[name]["confidence"]) for name in known if is_open[name])[:7]
    facts = facts_of(tmp_path / "one" / "plan.json")
    expected = sum(1 - confidence for confidence in doubtful)
    assert facts["doubtful"]["expected_corrections"] == pytest.approx(expected, abs=1e-3)

    store = open_decisions(run / FILE)
    requests = [DecisionRequest(row["file"], row["corrected_label"], "", 0) for row in rows[7:10]]
    store.decide(requests, who="me", client="here")
    store.close()
    assert plan(run, "-o", tmp_path / "two").code == 0
    after = rows_of(tmp_path / "two" / "plan.csv")
    assert (len(after), after[:7], after[7:11]) == (14, rows[:7], rows[10:])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("many", "--more: expected numbers with commas between them, got 'many'"),
        ("0", "from 1 on, got 0, 7"),
        ("5,-1", "from 1 on, got 5, -1, 7"),
    ],
)
def test_strange_numbers_are_refused(plan, finished, tmp_path, more, message):
    """Nothing is computed or written."""
    found = plan(finished, "-o", tmp_path / "plan", "--more", more)
    assert (found.code, found.out) == (2, "")
    assert message in found.err
    assert not (tmp_path / "plan").exists()


def test_without_a_holdout_there_is_no_accuracy(assay, plan, small_data, tmp_path):
    """All labels are used for training, and only the noise rate is forecast."""
    assert assay(*small_data.command(tmp_path / "out", "-q", "--holdout", "0")).code == 0
    found = plan(tmp_path / "out", "--more", "50")
    assert "With more trusted labels, and the margin of error of the noise rate:\n" in found.out
    facts = facts_of(tmp_path / "out" / "plan.json")
    assert [(row["trusted"], row["held_out"]) for row in facts["expected"]] == [(120, 0), (170, 0)]
    assert "accuracy_known_to" not in facts["expected"][0]


def test_too_few_trusted_labels_are_refused(assay, plan, own_data, tmp_path):
    """A curve needs two points."""
    file = own_data.folder / "trusted.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:60]))
    assert assay(*own_data.command(tmp_path / "out", "-q")).code in (0, 5)
    found = plan(tmp_path / "out")
    assert (found.code, found.out) == (3, "")
    assert "60 trusted labels or more" in found.err
    assert plan(tmp_path).code == 3
