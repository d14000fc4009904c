"""The rows of a comparison as CSV and Markdown."""

from assay.notebook.compare_judge import NOT_MEASURED
from assay.notebook.compare_table import (
    COST,
    CSV_COLUMNS,
    QUALITY,
    cells,
    csv_columns,
    markdown,
    milliseconds,
    notes,
    p_value,
    seconds,
)

PAIRED = {"p_value": 0.0312, "difference": {"estimate": 0.125, "low": -0.01, "high": 0.26, "level": 0.95}}

MEASURED = {
    "system": "cnn-1",
    "title": "CNN 1",
    "status": "done",
    "published": False,
    "error": None,
    "accuracy": 0.45625,
    "accuracy_low": 0.434,
    "accuracy_high": 0.4782,
    "n": 2000,
    "macro_f1": 0.4466,
    "source": "holdout",
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
    **NOT_MEASURED,
    "system": "model-2",
    "title": "Model II",
    "status": "failed",
    "published": False,
    "error": "out of memory",
    "facts": {},
}


def record_of(*rows, **more):
    return {"rows": list(rows), "settings": {"as_published": False}, "left_out": []} | more


def test_a_measured_row_has_all_its_cells():
    """Percent, points and units as people write them; nothing where there is no rival."""
    assert cells(MEASURED, QUALITY) == ["45.6 %", "43.4 to 47.8", "0.447", "+12.5", "0.031", "–", "–"]
    assert cells(MEASURED, COST) == ["1,907", "12.3", "0.04", "1.00", "2.6"]


def test_a_failed_row_has_no_figure():
    """Each cell says that there is nothing to say."""
    assert cells(FAILED, QUALITY) == ["–"] * 7
    assert cells(FAILED, COST) == ["–"] * 5


def test_numbers_lose_digits_only_where_they_mean_nothing():
    """Small ones keep their digits, large ones get commas, and no p value is 0."""
    assert [p_value(p) for p in (0.0, 0.0009, 0.001, 0.0312, 0.3, 1.0)] == [
        "< 0.001",
        "< 0.001",
        "0.001",
        "0.031",
        "0.30",
        "1.00",
    ]
    assert [seconds(s) for s in (0.04, 9.94, 12.3, 1907.4)] == ["0.0", "9.9", "12", "1,907"]
    assert [milliseconds(ms) for ms in (0.042, 0.5, 1.26, 1234.0)] == ["0.04", "0.50", "1.3", "1,234.0"]


def test_csv_has_the_numbers_as_they_are():
    """Paired tests are spread over columns; what is not known is None, in a column of its own still."""
    columns = dict(zip(CSV_COLUMNS, csv_columns([MEASURED, FAILED]), strict=True))
    assert columns["accuracy"] == [0.45625, None]
    assert columns["against_baseline"] == [0.125, None]
    assert columns["against_baseline_low"] == [-0.01, None]
    assert columns["against_baseline_high"] == [0.26, None]
    assert columns["against_baseline_p"] == [0.0312, None]
    assert columns["against_model_2_p"] == [None, None]
    assert (columns["error"], columns["status"]) == ([None, "out of memory"], ["done", "failed"])


WHOLE = """\
| | accuracy | 95 % interval | macro F1 | against Baseline | McNemar p | against Model II | McNemar p | train, s | one image alone, ms | in batches, ms | peak memory, GiB | on disk, MB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| CNN 1 | 45.6 % | 43.4 to 47.8 | 0.447 | +12.5 | 0.031 | – | – | 1,907 | 12.3 | 0.04 | 1.00 | 2.6 |
| Model II | – | – | – | – | – | – | – | – | – | – | – | – |

Accuracy on 2,000 held-out images, the same for all; 2 whose picture was learned from are left out.  
Trained on features that were in the cache already: CNN 1.  
Model II failed: out of memory
"""  # noqa: E501, W291  # as it is on the page, with Markdown's line breaks


def test_the_page_is_this():
    """The table, then what it rests on, line by line."""
    assert markdown(record_of(MEASURED, FAILED, left_out=["1.png", "2.png"])) == WHOLE


def test_the_notes_say_what_the_accuracy_is_of():
    """Of held-out images, of the partial models, or not measured."""
    carried = MEASURED | {"source": "holdout of the partial model", "facts": {}}
    assert notes(record_of(carried)) == [
        "Accuracy is that of the partial models on 2,000 images that they did not learn from; these very "
        "models learned from all images and were not measured."
    ]
    alone = MEASURED | NOT_MEASURED | {"facts": {}}
    assert notes(record_of(alone)) == ["Accuracy is not measured: no held-out image could judge the models."]
    published = notes(record_of(alone, settings={"as_published": True}))
    assert published[1] == "As published: with the notebook's defects that change results."
