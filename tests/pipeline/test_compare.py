"""Every recipe on the same data, in one table."""

import csv
import json
import os
import shutil
from dataclasses import replace

import planted
import pytest
from small_compare import GOOD, HELD, KNOWN, compare_options

from assay.data.read import read_dataset
from assay.data.split import draw_holdout
from assay.errors import UsageError
from assay.notebook.compare import compare
from assay.notebook.compare_options import CompareOptions
from assay.notebook.compare_twin import CARRIED

pytestmark = pytest.mark.slow


def test_one_recipes_failure_does_not_lose_the_others(partly):
    """Its row says why, in words; the exit code is that of the first that failed."""
    failed = {row["system"]: row["error"] for row in partly.found.rows if row["status"] == "failed"}
    assert failed == {
        "cnn-1": "its process was killed (SIGKILL), as the system does when memory runs out",
        "model-1": failed["model-1"],
    }
    assert failed["model-1"].startswith("expected a model with model.onnx")
    assert [row["system"] for row in partly.found.rows if row["status"] == "done"] == ["histogram", "model-2"]
    assert partly.found.exit_code == 6
    assert f"warning: CNN 1 failed: {failed['cnn-1']}" in partly.said
    rows = partly.rows()
    assert all(rows[system]["accuracy"] is None for system in failed)
    assert all(rows[system]["train_seconds"] is None for system in failed)


def test_the_table_has_its_failures_in_all_forms(partly):
    """JSON, CSV and Markdown tell of the same rows; a comma in a message breaks no column."""
    with (partly.out / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == [row["system"] for row in partly.found.rows]
    assert [row["error"] for row in rows] == [row["error"] or "" for row in partly.found.rows]
    assert [row["accuracy"] for row in rows] == [
        "" if row["accuracy"] is None else str(row["accuracy"]) for row in partly.found.rows
    ]
    page = (partly.out / "compare.md").read_text()
    assert "CNN 1 failed: its process was killed (SIGKILL), as the system does when" in page
    assert json.loads((partly.out / "compare.json").read_text()) == dict(partly.found.record)


def test_each_recipe_has_a_process_of_its_own(compared):
    """Its id is another one, and neither its memory nor its time is its neighbour's."""
    greedy, modest = compared.rows()["histogram"], compared.rows()["model-2"]
    pids = {os.getpid(), greedy["facts"]["pid"], modest["facts"]["pid"]}
    assert len(pids) == 3
    assert greedy["peak_memory_bytes"] > modest["peak_memory_bytes"] + 0.5 * planted.HUNGER_BYTES
    assert greedy["train_seconds"] > 0.5
    assert greedy["peak_memory_predicting_bytes"] < greedy["peak_memory_bytes"]


def test_no_recipe_sees_the_holdout(compared, small_data):
    """Of its labels none reaches a recipe; all rows are of the same images, those that were sealed."""
    for system in ("histogram", "model-2"):
        facts = compared.rows()[system]["facts"]
        assert (facts["held"], facts["seen"]) == (HELD, 0)
    assert {row["n"] for row in compared.found.rows} == {HELD}
    dataset = read_dataset(small_data.images, compared.options.run.read)
    held = [dataset.names[row] for row in draw_holdout(dataset.trusted).holdout]
    for system in GOOD:
        lines = (compared.out / "models" / system / "holdout.csv").read_text().splitlines()[1:]
        assert [line.partition(",")[0] for line in lines] == held


def test_rows_are_compared_with_their_rivals(compared):
    """The one that always says ash is right as often as ash comes; assay is better; rivals have no rival."""
    rows = compared.rows()
    assert rows["histogram"]["accuracy"] == pytest.approx(9 / HELD)
    assert rows["assay"]["accuracy"] > rows["histogram"]["accuracy"]
    for row in rows.values():
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
    assert (rows["histogram"]["against_baseline"], rows["model-2"]["against_model_2"]) == (None, None)
    paired = rows["assay"]["against_baseline"]
    difference = rows["assay"]["accuracy"] - rows["histogram"]["accuracy"]
    assert paired["difference"]["estimate"] == pytest.approx(difference)
    assert paired["p_value"] < 0.05


def test_the_figures_of_the_run_are_those_of_its_row(compared, finished):
    """What assay's own run measured on the holdout is what its saved model says of it here."""
    own = finished.result.evaluation["assay"]
    row = compared.rows()["assay"]
    assert (row["accuracy"], row["n"]) == (own.accuracy.estimate, own.n)


def test_the_seal_is_opened_once_a_comparison(partly, compared):
    """Counted before the labels are read; a second table, of other recipes, is a second look."""
    assert partly.found.record["holdout_evaluations"] == 1
    assert compared.found.record["holdout_evaluations"] == 2
    # The run was there and was not done again.
    assert compared.found.record["holdout_evaluations_by_run"] == 1
    assert json.loads((compared.out / "run.json").read_text())["processes"] == 1


def test_each_model_says_what_was_measured_of_it(compared):
    """In its config.json and its card."""
    row = compared.rows()["model-2"]
    config = json.loads((compared.out / "models" / "model-2" / "config.json").read_text())
    figures = config["assay"]["figures"]["model-2"]
    assert (figures["accuracy"], figures["n"], figures["source"]) == (row["accuracy"], HELD, "holdout")
    card = (compared.out / "models" / "model-2" / "README.md").read_text()
    assert f"Accuracy {row['accuracy']:.4f}" in card


def test_results_among_the_images_are_refused(small_data, options):
    """They would count as images."""
    asked = CompareOptions(run=options, backbone="tiny")
    with pytest.raises(UsageError, match="expected a folder outside"):
        compare(small_data.images, small_data.images / "out", asked, known=KNOWN)
    assert not (small_data.images / "out").exists()


@pytest.mark.usefixtures("here")
def test_full_models_carry_the_partial_figures(compared, small_data, tmp_path):
    """With nothing held out the rows have the partial rows' figures, marked; the models too."""
    out, full = tmp_path / "full", replace(compared.options.run, holdout=0)
    asked = replace(compared.options, run=full, systems=("model-2", "assay"), figures_from=compared.out)
    found = compare(small_data.images, out, asked, known=KNOWN)
    for row in found.rows:
        partial = compared.rows()[row["system"]]
        assert row["source"] == CARRIED
        for name in ("accuracy", "n", "macro_f1", "against_baseline", "against_model_2"):
            assert row[name] == partial[name], name
    assert found.rows[0]["facts"]["held"] == 0
    assert (found.record["holdout_evaluations"], found.record["held_out"]) == (0, 0)
    config = json.loads((out / "models" / "model-2" / "config.json").read_text())
    assert config["assay"]["figures"]["model-2"]["source"] == CARRIED
    assert "was not measured itself" in (out / "models" / "model-2" / "README.md").read_text()
    assert CARRIED in (out / "model" / "README.md").read_text()


def test_figures_of_another_comparison_are_refused_before_anything_is_written(compared, small_data, tmp_path):
    """Other settings, or a folder without a comparison."""
    full = replace(compared.options.run, holdout=0)
    other = replace(compared.options, run=replace(full, seed=1), figures_from=compared.out)
    with pytest.raises(UsageError, match=r"same settings and data but for the holdout, got seed 0 there, 1"):
        compare(small_data.images, tmp_path / "full", other, known=KNOWN)
    nowhere = replace(compared.options, run=full, figures_from=tmp_path)
    with pytest.raises(UsageError, match="expected the folder of a finished comparison with a holdout"):
        compare(small_data.images, tmp_path / "full", nowhere, known=KNOWN)
    assert not (tmp_path / "full").exists()


@pytest.mark.usefixtures("here")
def test_what_cannot_be_used_counts_for_none(own_data, tmp_path):
    """A damaged held-out image is skipped, a copy of a learned one left out; the table says so."""
    asked = compare_options(own_data, tmp_path / "cache", systems=("model-2",))
    dataset = read_dataset(own_data.images, asked.run.read)
    split = draw_holdout(dataset.trusted)
    broken, copied = split.holdout[:2]
    same = next(row for row in split.fit if dataset.trusted[row] == dataset.trusted[copied])
    (own_data.images / dataset.names[broken]).write_bytes(b"")
    shutil.copy(own_data.images / dataset.names[same], own_data.images / dataset.names[copied])
    found = compare(own_data.images, tmp_path / "out", asked, known=KNOWN)
    assert found.rows[0]["n"] == HELD - 2
    assert found.record["left_out"] == [dataset.names[copied]]
    assert found.record["skipped"] == 1
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "22 held-out images, the same for all; 1 whose picture was learned from are left out." in page
