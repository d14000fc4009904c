"""The rows of a comparison as CSV, as Markdown, as a model's card and in the report of the run."""

import json

import numpy as np
import pytest
from planted import quick
from report_pages import Page
from small_compare import save_models

from assay.data.write import write_json
from assay.drawing import draw_confusion
from assay.evaluate import mcnemar
from assay.notebook.compare import NOT_MEASURED
from assay.notebook.table import (
    COST,
    CSV_COLUMNS,
    QUALITY,
    cells,
    comparison_card,
    comparison_of,
    csv_columns,
    markdown,
    notes,
    write_figures,
)
from assay.pipeline.folder import SCHEMA
from assay.predict.model import read_model
from assay.predict.predictor import load_model
from assay.report.write import write_report

PAIRED = {"p_value": 0.0312, "difference": {"estimate": 0.125, "low": -0.01, "high": 0.26, "level": 0.95}}

FIGURES = {
    "accuracy": 0.45625,
    "accuracy_low": 0.434,
    "accuracy_high": 0.4782,
    "n": 2000,
    "macro_f1": 0.4466,
    "source": "holdout",
}

MEASURED = {
    "system": "cnn-1",
    "title": "CNN 1",
    "status": "done",
    "published": False,
    "error": None,
    **FIGURES,
    "against_baseline": PAIRED,
    "against_model_2": None,
    "train_seconds": 1907.4,
    "milliseconds_alone": 12.34,
    "milliseconds_in_batches": 0.042,
    "peak_memory_bytes": 2**30,
    "peak_memory_predicting_bytes": 2**29,
    "model_bytes": 2_620_237,
    "stages_s": {},
    "facts": {"features_computed": 0},
}

FAILED = {
    **dict.fromkeys(MEASURED),
    "system": "model-2",
    "title": "Model II",
    "status": "failed",
    "published": False,
    "error": "out of memory",
    "facts": {},
}

WHOLE = """\
| | accuracy | 95 % interval | macro F1 | against Baseline | McNemar p | against Model II | McNemar p | train, s | one image alone, ms | in batches, ms | peak memory, GiB | on disk, MB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| CNN 1 | 45.6 % | 43.4 to 47.8 | 0.447 | +12.5 | 0.031 | – | – | 1,907 | 12.3 | 0.04 | 1.00 | 2.6 |
| Model II | – | – | – | – | – | – | – | – | – | – | – | – |

Accuracy on 2,000 holdout images, the same for all systems; 2 holdout images are near-duplicates of training images, excluded from the evaluation.  
Trained on features that were in the cache already: CNN 1.  
Model II failed: out of memory
"""  # noqa: E501, W291  # as it is on the page, with Markdown's line breaks


def record_of(*rows, **more):
    return {"rows": list(rows), "settings": {"as_published": False}, "left_out": []} | more


def test_the_page_is_this():
    """The table with absent figures as dashes, then notes line by line."""
    assert markdown(record_of(MEASURED, FAILED, left_out=["1.png", "2.png"])) == WHOLE


def test_numbers_lose_digits_only_where_they_mean_nothing():
    """Small ones keep their digits, large ones get commas, and no p value is 0."""
    for seconds, shown in ((0.04, "0.0"), (9.94, "9.9"), (12.3, "12"), (1907.4, "1,907")):
        assert cells(MEASURED | {"train_seconds": seconds}, COST)[0] == shown
    for ms, shown in ((0.042, "0.04"), (0.5, "0.50"), (1.26, "1.3"), (1234.0, "1,234.0")):
        assert cells(MEASURED | {"milliseconds_alone": ms}, COST)[1] == shown
    assert cells(MEASURED | {"against_baseline": PAIRED | {"p_value": 0.0}}, QUALITY)[4] == "< 0.001"


def test_csv_has_the_numbers_as_they_are():
    """Paired tests are spread over columns; what is not known is None, in a column of its own still."""
    columns = dict(zip(CSV_COLUMNS, csv_columns([MEASURED, FAILED]), strict=True))
    assert columns["system"] == ["cnn-1", "model-2"]
    assert columns["accuracy"] == [0.45625, None]
    assert columns["against_baseline"] == [0.125, None]
    assert columns["against_baseline_low"] == [-0.01, None]
    assert columns["against_baseline_high"] == [0.26, None]
    assert columns["against_baseline_p"] == [0.0312, None]
    assert columns["against_model_2_p"] == [None, None]
    assert (columns["error"], columns["status"]) == ([None, "out of memory"], ["done", "failed"])


def test_the_notes_say_what_was_not_measured_and_what_is_as_published():
    """Without a holdout image there is no accuracy."""
    alone = MEASURED | NOT_MEASURED | {"facts": {}}
    found = notes(record_of(alone, settings={"as_published": True}))
    assert found == [
        "Accuracy is not measured: there are no holdout images to measure it on.",
        "As published: with the notebook's defects that change results.",
    ]


# The card of a model.

CARD = """\
# CNN 1: image classifier, 3 classes

System `cnn-1` of a comparison. Network `tiny` at 32 px.

## Measured

Accuracy 0.4562 (0.4340 to 0.4782, 95 % interval, n = 2,000), macro F1 0.4466; holdout.

## Limits
"""


@pytest.fixture
def place(small_data, tmp_path):
    """The model of CNN 1, quick."""
    out = save_models(small_data, tmp_path / "out", tmp_path / "cache", {"cnn-1": quick})
    return out / "models" / "cnn-1"


def test_figures_are_put_into_a_model_that_stays_the_same(place, small_data):
    """Config, card and manifest have them, it predicts as before; a second time writes nothing."""
    assert "Not measured yet: the comparison" in (place / "README.md").read_text()
    weights = (place / "model.safetensors").read_bytes()
    before = load_model(place).predict(small_data.images)
    write_figures(place, read_model(place), FIGURES | {"other": 1})
    assert read_model(place).facts["figures"] == {"cnn-1": FIGURES}
    assert (place / "README.md").read_text().startswith(CARD)
    assert (place / "model.safetensors").read_bytes() == weights
    assert (load_model(place).predict(small_data.images).probs == before.probs).all()
    times = {file: file.stat().st_mtime_ns for file in place.iterdir()}
    write_figures(place, read_model(place), FIGURES)
    assert {file: file.stat().st_mtime_ns for file in place.iterdir()} == times
    none = "the accuracy of this model is not measured."
    assert none in comparison_card(read_model(place), NOT_MEASURED)


# The report of the run in the same folder.


def row(system, title, accuracy):
    """A row of compare.json; without an accuracy, of a system that failed."""
    truth, known = np.zeros(40, dtype=int), accuracy is not None
    if not known:
        failed = {"system": system, "title": title, "error": "it ran out of <memory>"}
        return FAILED | failed
    rival = mcnemar(truth, np.arange(40) % 3, np.arange(40) % 2).to_json()
    figures = {
        "accuracy_low": accuracy - 0.1,
        "accuracy_high": accuracy + 0.05,
        "macro_f1": accuracy,
        "n": 24,
    }
    costs = {"train_seconds": 12.5, "model_bytes": 2_000_000, "facts": {}, "against_baseline": rival}
    return MEASURED | figures | costs | {"system": system, "title": title, "accuracy": accuracy}


@pytest.fixture
def reported(own_run):
    """The run with a comparison in its folder."""
    run = json.loads((own_run / "run.json").read_text())
    record = {
        "holdout_evaluations": 1,
        "schema": SCHEMA,
        "status": "done",
        "rows": [
            row("histogram", "Baseline", 0.3),
            row("cnn-1", "CNN 1", 0.6),
            row("cnn-2", "CNN 2", None),
            row("assay", "Assay", 0.9),
        ],
        "left_out": [],
        "settings": run["settings"] | {"as_published": False},
        "data": run["data"],
    }
    write_json(own_run / "compare.json", record)
    (own_run / "pictures").mkdir()
    for system in ("cnn-1", "assay", "noisy"):
        names = ("ash", "birch", "cedar")
        drawn = draw_confusion(np.diag([5, 6, 7]), names, title=f"{system}: predicted & trusted")
        (own_run / "pictures" / f"confusion_{system}.svg").write_text(drawn)
    return own_run


def change(file, **changes):
    """Change some fields of a JSON file."""
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | changes))


def report_of(run):
    """The page and the facts, with the comparison in the same folder."""
    comparison, left_out = comparison_of(run)
    written = write_report(run, comparison=comparison, notes=left_out)
    return Page(written.page.read_text()), json.loads(written.facts.read_text())


def test_every_system_of_a_comparison_is_in_the_report(reported):
    """With accuracy, interval, cost and size; one that failed has its reason; their confusions are shown."""
    page, facts = report_of(reported)
    _, *rows = page.table("How good each system is")
    assert [shown[0] for shown in rows] == ["Baseline", "CNN 1", "CNN 2", "Assay"]
    assert rows[1][1:3] == ["60.0 %", "50.0 to 65.0"]
    assert {*rows[2][1:]} == {"–"}
    _, *rows = page.table("What each system costs")
    assert (rows[1][1], rows[1][-1]) == ("12", "2.0")
    assert "The holdout was evaluated 1 time by the run and 1 time by the comparison." in page.words()
    assert "CNN 2 failed: it ran out of <memory>" in page.words()
    assert facts["comparison"]["rows"] == json.loads((reported / "compare.json").read_text())["rows"]
    assert "Of 3 systems on the same images Assay has the highest accuracy, 90.0 %." in facts["summary"]
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert "CNN 1: predicted against trusted labels" in alts


@pytest.mark.parametrize(("part", "other"), [("settings", {"seed": 1}), ("data", {"labels": "others"})])
def test_a_comparison_of_other_images_is_left_out(reported, part, other):
    """Its figures are of another holdout than the run's beside them, and the reader is told."""
    record = json.loads((reported / "compare.json").read_text())
    change(reported / "compare.json", **{part: record[part] | other})
    comparison, left_out = comparison_of(reported)
    assert comparison is None
    assert left_out == ["compare.json is left out: it was made on other data, or another holdout"]


@pytest.mark.parametrize(
    ("part", "other", "words"),
    [
        ("settings", {"preset": "balanced"}, "preset 'fast' there, 'balanced' now"),
        ("data", {"decisions": "some"}, "other decisions"),
        ("backbone", {"name": "other"}, "backbone 'small' there, 'other' now"),
    ],
)
def test_the_row_of_another_run_is_left_out(reported, part, other, words):
    """The other systems stay: they are measured on the same images, and the reader is told."""
    record = json.loads((reported / "compare.json").read_text())
    record["rows"][3]["facts"] = {"backbone": "small", "size": 32}
    change(reported / "compare.json", rows=record["rows"])
    run = json.loads((reported / "run.json").read_text())
    run["backbone"] |= {"name": "small", "size": 32}
    change(reported / "run.json", backbone=run["backbone"])
    assert len(comparison_of(reported)[0]["rows"]) == 4
    change(reported / "run.json", **{part: run[part] | other})
    comparison, left_out = comparison_of(reported)
    assert [one["title"] for one in comparison["rows"]] == ["Baseline", "CNN 1", "CNN 2"]
    assert left_out == [
        f"Assay is left out of the comparison: its row is of another run ({words}); repeat assay compare "
        "with the settings of this run and --overwrite"
    ]
    change(reported / "compare.json", rows=record["rows"][3:])
    assert comparison_of(reported) == (None, left_out)


def test_a_comparison_that_goes_on_is_not_reported(reported):
    """Its table is not final."""
    change(reported / "compare.json", status="running")
    assert comparison_of(reported) == (None, [])
