"""What is said of classes that no image was measured of."""

import json

import pytest
from report_pages import Page

from assay.data.write import write_json
from assay.pipeline.finished import read_finished_run
from assay.report import facts as module
from assay.report.facts import class_facts
from assay.report.write import write_report


@pytest.fixture
def unmeasured(own_run):
    """The run as if the holdout had no image of birch, and no image were called ash."""
    file = own_run / "evaluation.json"
    found = json.loads(file.read_text())
    report = found["systems"]["assay"]["report"]
    report["confusion"] = [[0, 1, 2], [0, 0, 0], [0, 4, 5]]
    scores = [(0.0, 0.0, 0.0, 3), (0.0, 0.0, 0.0, 0), (5 / 7, 5 / 9, 0.625, 9)]
    keys = ("precision", "recall", "f1", "support")
    for one, values in zip(report["classes"], scores, strict=True):
        one |= dict(zip(keys, values, strict=True))
    write_json(file, found)
    return own_run


def test_what_was_not_measured_is_a_dash(unmeasured):
    """No share of no image is a number, in page and JSON alike; a class that is never found has a recall."""
    written = write_report(unmeasured)
    _, *rows = Page(written.page.read_text()).table("Wrong: share of the images of the class")
    assert [row[3:7] for row in rows] == [
        ["–", "0.000", "0.000", "3"],
        ["–", "–", "–", "0"],
        ["0.714", "0.556", "0.625", "9"],
    ]
    rows = json.loads(written.facts.read_text())["by_class"]["rows"]
    assert [(row["precision"], row["recall"], row["f1"]) for row in rows[:2]] == [(None, 0, 0), (None,) * 3]


@pytest.mark.parametrize(("most", "names"), [(1, ["ash"]), (2, ["ash", "cedar"])])
def test_the_worst_classes_are_measured_ones(unmeasured, monkeypatch, most, names):
    """Of more classes than the table holds those that nobody measured are the last."""
    monkeypatch.setattr(module, "MAX_ROWS", most)
    noise, evaluation = (
        json.loads((unmeasured / f"{name}.json").read_text()) for name in ("noise", "evaluation")
    )
    facts = class_facts(read_finished_run(unmeasured), noise, evaluation)
    assert [row["name"] for row in facts["rows"]] == names
