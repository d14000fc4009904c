"""Which trusted images taught, and which judged."""

import csv
import inspect
import json
import re
import sys

import pytest
from report_pages import Page

from assay.data.write import write_json, write_rows
from assay.pipeline import work
from assay.pipeline.outputs import LABEL_COLUMNS
from assay.report.facts import STAGES
from assay.report.write import write_report


@pytest.fixture
def trusted_rows(own_run):
    """Changes rows of labels.csv: the first trusted ones, one a given change."""

    def change(*changes):
        file = own_run / "labels.csv"
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        trusted = [row for row in rows if row["action"] == "trusted"]
        for row, change in zip(trusted, changes, strict=False):
            row.update(change)
        write_rows(file, LABEL_COLUMNS, [[row[column] for row in rows] for column in LABEL_COLUMNS])

    return change


def told(run):
    """What the report says of trusted images: the numbers, and the sentence."""
    written = write_report(run)
    words = Page(written.page.read_text()).words()
    data = json.loads(written.facts.read_text())["data"]
    sentence = words.split("Ranges are 95 % intervals. ")[1].split(".")[0]
    return [data[key] for key in ("trained_on", "validation", "held_out")], sentence


def test_all_that_were_not_held_out_taught(own_run):
    """At effort fast, where folds judge."""
    assert told(own_run) == (
        [48, 0, 12],
        "The model was trained on 48 trusted images",
    )


def test_who_judged_did_not_teach(own_run, trusted_rows):
    """What a fine-tuned model is judged by, watched or a spy, did not teach its trusted label."""
    trusted_rows(*[{"reason": "validation"}] * 5)
    file = own_run / "evaluation.json"
    found = json.loads(file.read_text())
    systems = found["systems"]
    for name, n in (("assay", 5), ("labels", 4)):
        systems[f"{name}_validated"] = systems.pop(f"{name}_cross_validated") | {
            "n": n,
            "source": "validation",
        }
    write_json(file, found)
    assert told(own_run) == (
        [39, 9, 12],
        "The model was trained on 39 trusted images; 9 more were used for validation and calibration, with "
        "their noisy label at most",
    )


def test_skipped_and_decided_images_are_no_trusted_ones(own_run, trusted_rows):
    """What could not be read taught nothing; what a review decided is told apart."""
    skipped = {"action": "skipped", "reason": "truncated", "trusted_label": "", "corrected_label": ""}
    trusted_rows(skipped, skipped, {"reason": "decided"})
    assert told(own_run)[0] == [45, 0, 12]


def test_given_labels_are_counted_against_all_that_were_not_held_out(own_run):
    """Whether they taught or judged: noise is estimated from both."""
    facts = json.loads(write_report(own_run).facts.read_text())
    assert facts["confusions"][0]["source"] == "trusted images that were not held out"
    assert facts["confusions"][0]["n"] == 48


def test_every_stage_of_a_run_has_its_words():
    """What a run times is told in words, in the order of the work."""
    timed = re.findall(
        r'watch\.stage\("([^"]+)"\)',
        inspect.getsource(sys.modules["assay.pipeline.run"]) + inspect.getsource(work),
    )
    assert len(timed) > 8
    assert {*timed} == STAGES.keys()
    order = [*STAGES]
    assert order.index("learn") < order.index("fine-tune") < order.index("measure") < order.index("write")
