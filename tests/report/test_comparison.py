"""A comparison of systems in the folder of a run, as the report of the run shows it."""

import json

import numpy as np
import pytest
from report_pages import Page

from assay.data.write import write_json
from assay.drawing import draw_confusion
from assay.evaluate import mcnemar
from assay.notebook.shown import comparison_of
from assay.pipeline.folder import SCHEMA
from assay.report.write import write_report

NAMES = ("ash", "birch", "cedar")


def report_of(run):
    """The page and the facts, with the comparison in the same folder."""
    comparison, notes = comparison_of(run)
    written = write_report(run, comparison=comparison, notes=notes)
    return Page(written.page.read_text()), json.loads(written.facts.read_text())


def row(system, title, accuracy, **others):
    """A row of compare.json; without an accuracy, of a recipe that failed."""
    truth = np.zeros(40, dtype=int)
    rival = mcnemar(truth, np.arange(40) % 3, np.arange(40) % 2).to_json()
    costs = ("milliseconds_alone", "milliseconds_in_batches", "peak_memory_bytes", "model_bytes")
    known = accuracy is not None
    return {
        "system": system,
        "title": title,
        "status": "done" if known else "failed",
        "error": None if known else "it ran out of <memory>",
        "accuracy": accuracy,
        "accuracy_low": accuracy and accuracy - 0.1,
        "accuracy_high": accuracy and accuracy + 0.05,
        "macro_f1": accuracy,
        "n": 24 if known else None,
        "source": "holdout" if known else None,
        "against_baseline": rival if known else None,
        "against_model_2": None,
        "train_seconds": 12.5 if known else None,
        "facts": {},
        **dict.fromkeys(costs, 2_000_000 if known else None),
        **others,
    }


@pytest.fixture
def compared(own_run):
    """The run with a comparison in its folder."""
    run = json.loads((own_run / "run.json").read_text())
    rows = [
        row("histogram", "Baseline", 0.3),
        row("cnn-1", "CNN 1", 0.6),
        row("cnn-2", "CNN 2", None),
        row("assay", "Assay", 0.9),
    ]
    record = {
        "holdout_evaluations": 1,
        "schema": SCHEMA,
        "status": "done",
        "rows": rows,
        "left_out": [],
        "settings": run["settings"] | {"as_published": False},
        "data": run["data"],
    }
    write_json(own_run / "compare.json", record)
    (own_run / "pictures").mkdir()
    counts = np.diag([5, 6, 7])
    for system in ("cnn-1", "assay", "noisy"):
        drawn = draw_confusion(counts, NAMES, title=f"{system}: predicted & trusted")
        (own_run / "pictures" / f"confusion_{system}.svg").write_text(drawn)
    return own_run


def test_every_recipe_of_a_comparison_is_there(compared):
    """With accuracy, interval, cost and size; one that failed says why; their confusions are shown."""
    page, facts = report_of(compared)
    _, *rows = page.table("How good each system is")
    assert [shown[0] for shown in rows] == ["Baseline", "CNN 1", "CNN 2", "Assay"]
    assert rows[1][1:3] == ["60.0 %", "50.0 to 65.0"]
    assert {*rows[2][1:]} == {"–"}
    _, *rows = page.table("What each system costs")
    assert (rows[1][1], rows[1][-1]) == ("12", "2.0")
    assert "The holdout was evaluated 1 time by the run and 1 time by the comparison." in page.words()
    assert "CNN 2 failed: it ran out of <memory>" in page.words()
    assert facts["comparison"]["rows"] == json.loads((compared / "compare.json").read_text())["rows"]
    assert "Of 3 systems on the same images Assay has the highest accuracy, 90.0 %." in facts["summary"]
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert "CNN 1: predicted against trusted labels" in alts


@pytest.mark.parametrize(("part", "change"), [("settings", {"seed": 1}), ("data", {"labels": "others"})])
def test_a_comparison_of_other_images_is_left_out(compared, part, change):
    """Its figures are of another holdout than the run's beside them, and the reader is told."""
    file = compared / "compare.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {part: record[part] | change}))
    page, facts = report_of(compared)
    assert facts["comparison"] is None
    assert facts["notes"] == ["compare.json is left out: it was made on other data, or another holdout"]
    assert "Of the other systems" not in page.words()
    assert "cnn-1" not in page.words()


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("settings", {"preset": "balanced"}, "preset 'fast' there, 'balanced' now"),
        ("data", {"decisions": "some"}, "other decisions"),
        ("backbone", {"name": "other"}, "backbone 'small' there, 'other' now"),
    ],
)
def test_the_row_of_another_run_is_left_out(compared, part, change, words):
    """The other recipes stay: they are judged by the same images, and the reader is told."""
    file = compared / "compare.json"
    record = json.loads(file.read_text())
    record["rows"][3]["facts"] = {"backbone": "small", "size": 32}
    file.write_text(json.dumps(record))
    file = compared / "run.json"
    run = json.loads(file.read_text())
    run["backbone"] |= {"name": "small", "size": 32}
    file.write_text(json.dumps(run))
    assert len(report_of(compared)[1]["comparison"]["rows"]) == 4
    file.write_text(json.dumps(run | {part: run[part] | change}))
    page, facts = report_of(compared)
    _, *rows = page.table("How good each system is")
    assert [shown[0] for shown in rows] == ["Baseline", "CNN 1", "CNN 2"]
    assert facts["notes"] == [
        f"Assay is left out of the comparison: its row is of another run ({words}); repeat assay compare "
        "with the settings of this run and --overwrite"
    ]
    assert facts["notes"][0] in page.words()
    assert "Of 2 systems on the same images CNN 1 has the highest accuracy, 60.0 %." in facts["summary"]


def test_a_comparison_of_another_run_alone_is_left_out(compared):
    """Nothing is left of it but the sentence."""
    file = compared / "compare.json"
    record = json.loads(file.read_text())
    settings = record["settings"] | {"preset": "best"}
    file.write_text(json.dumps(record | {"rows": record["rows"][3:], "settings": settings}))
    facts = report_of(compared)[1]
    assert (facts["comparison"], len(facts["notes"])) == (None, 1)


def test_a_comparison_that_goes_on_is_not_told(compared):
    """Its table is not final."""
    file = compared / "compare.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "running"}))
    assert report_of(compared)[1]["comparison"] is None
