"""Every system on the same data, in one table; resumed, refused, replaced."""

import csv
import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import planted
import pytest
from small_compare import HELD, KNOWN, compare_options
from small_runs import write_labels

from assay.data.read import read_dataset
from assay.data.write import write_rows
from assay.errors import DataError, OtherRunError, UsageError
from assay.evaluate import mcnemar, wilson
from assay.notebook.compare import (
    NOT_MEASURED,
    CompareOptions,
    compare_systems,
    evaluate_systems,
    leaked_names,
)
from assay.notebook.folder import CompareFolder
from assay.notebook.pictures import write_pictures
from assay.notebook.systems import SYSTEMS, TITLES
from assay.pipeline.options import RunOptions

compare = partial(compare_systems, known=KNOWN)

# Options.


def test_systems_come_in_the_order_of_the_table():
    """Each once, however they were named; all by default: the notebook's five, and assay."""
    assert CompareOptions().systems == (*SYSTEMS, "assay") == tuple(TITLES)
    assert list(TITLES.values()) == ["Baseline", "CNN 1", "CNN 2", "Model I", "Model II", "Assay"]
    assert CompareOptions(systems=("assay", "cnn-1", "assay")).systems == ("cnn-1", "assay")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"systems": ("cnn1",)}, r"--systems: expected ids of systems, got 'cnn1'; did you mean cnn-1\?$"),
        ({"systems": ("xyz",)}, r"got 'xyz'; there are histogram, cnn-1, cnn-2, model-1, model-2, assay$"),
        ({"systems": ()}, r"--systems: expected at least one of histogram, .*, got none$"),
        (
            {"run": RunOptions(refit=True)},
            r"--refit: a comparison measures the models that it saves; .*--h",
        ),
        (
            {"run": RunOptions(weights=Path("w.safetensors")), "systems": ("model-1",)},
            r"^--weights: expected --backbone .*, got neither: model-1 have networks of their own",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    """With the nearest name, or what to do."""
    with pytest.raises(UsageError, match=message):
        CompareOptions(**settings)


def test_settings_are_what_changes_a_row():
    """Systems, cache and workers do not; backbone, size, published and search do."""
    options = CompareOptions()
    same = replace(options, systems=("cnn-1",), run=replace(options.run, cache=Path("c"), workers=1))
    assert same.settings() == options.settings()
    for change in ({"published": True}, {"search": True}, {"backbone": "tiny"}, {"size": 64}):
        assert replace(options, **change).settings() != options.settings(), change


# A whole comparison.


@pytest.fixture(scope="module")
def partly(small_data, options, tmp_path_factory):
    """A comparison in processes of their own, of which one fails."""
    # Each takes two processes, one for its training and one for its measurement.
    wanted = CompareOptions(run=options, systems=("cnn-1", "cnn-2", "model-2"), backbone="tiny")
    messages: list[str] = []
    out = tmp_path_factory.mktemp("partly") / "out"
    return compare(small_data.images, out, wanted, notify=messages.append), messages


@pytest.mark.slow
def test_one_systems_failure_does_not_lose_the_others(partly):
    """Its row has the reason in JSON, CSV and Markdown; the exit code is that of the first that failed."""
    found, messages = partly
    failed = {row["system"]: row["error"] for row in found.rows if row["status"] == "failed"}
    killed = "its process was killed (SIGKILL), as the system does when memory runs out"
    assert failed == {"cnn-1": killed}
    assert found.exit_code == 6
    assert f"warning: CNN 1 failed: {killed}" in messages
    empty = [row for row in found.rows if row["system"] in failed]
    assert {row[name] for row in empty for name in ("accuracy", "train_seconds")} == {None}
    with (found.folder / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == [row["system"] for row in found.rows]
    assert [row["error"] for row in rows] == [row["error"] or "" for row in found.rows]
    assert f"CNN 1 failed: {killed}" in (found.folder / "compare.md").read_text()
    assert json.loads((found.folder / "compare.json").read_text()) == dict(found.record)


@pytest.mark.slow
def test_each_system_has_a_process_of_its_own(partly):
    """Its id is another one, and neither its memory nor its time is another system's."""
    rows = {row["system"]: row for row in partly[0].rows}
    hungry, modest = rows["cnn-2"], rows["model-2"]
    assert len({os.getpid(), hungry["facts"]["pid"], modest["facts"]["pid"]}) == 3
    assert hungry["peak_memory_bytes"] > modest["peak_memory_bytes"] + 0.5 * planted.HUNGER_BYTES
    assert hungry["train_seconds"] > 0.5
    assert hungry["peak_memory_predicting_bytes"] < hungry["peak_memory_bytes"]


def test_no_system_sees_the_holdout(compared, small_data):
    """None of its labels reaches a system; all rows are of the same holdout images."""
    rows = compared.rows()
    for system in ("histogram", "model-2"):
        assert (rows[system]["facts"]["held"], rows[system]["facts"]["seen"]) == (HELD, 0)
    assert {row["n"] for row in rows.values()} == {HELD}
    dataset = read_dataset(small_data.images, compared.options.run.read)
    held = [dataset.names[row] for row in compared.options.run.split(dataset).holdout]
    for system in rows:
        header, *lines = (compared.out / "models" / system / "holdout.csv").read_text().splitlines()
        assert header == "file,ash,birch,cedar"
        assert [line.partition(",")[0] for line in lines] == held


def test_the_figures_are_those_of_the_run_and_of_each_model(compared):
    """The row of assay has what its run measured; the other models carry theirs in config.json and card."""
    rows = compared.rows()
    assert rows["histogram"]["accuracy"] == pytest.approx(9 / HELD)  # always the first class
    assert rows["assay"]["against_baseline"]["p_value"] < 0.05
    run = json.loads((compared.out / "evaluation.json").read_text())["systems"]["assay"]
    assert (rows["assay"]["accuracy"], rows["assay"]["n"]) == (run["accuracy"]["estimate"], run["n"])
    place = compared.out / "models" / "model-2"
    figures = json.loads((place / "config.json").read_text())["assay"]["figures"]["model-2"]
    accuracy = rows["model-2"]["accuracy"]
    assert (figures["accuracy"], figures["n"], figures["source"]) == (accuracy, HELD, "holdout")
    assert f"Accuracy {accuracy:.4f}" in (place / "README.md").read_text()


def test_the_holdout_is_evaluated_once_a_comparison(compared):
    """The run that was there is not repeated."""
    assert compared.found.record["holdout_evaluations"] == 1
    assert compared.found.record["holdout_evaluations_by_run"] == 1
    assert json.loads((compared.out / "run.json").read_text())["processes"] == 1


@pytest.mark.usefixtures("here")
def test_with_nothing_held_out_the_models_are_trained_on_all_images(own_data, tmp_path):
    """Their accuracy is not measured, their times are."""
    wanted = compare_options(own_data, tmp_path / "cache", holdout=0, systems=("model-2",))
    found = compare(own_data.images, tmp_path / "out", wanted)
    row = found.rows[0]
    assert (row["facts"]["held"], row["accuracy"], found.record["holdout_evaluations"]) == (0, None, 0)
    assert row["milliseconds_alone"] > 0
    measured = CompareFolder(found.folder).row("model-2")["measured"]
    assert (measured["images_in_batches"], measured["images_alone"]) == (240, 100)
    assert not CompareFolder(found.folder).holdout("model-2").exists()
    card = (found.folder / "models" / "model-2" / "README.md").read_text()
    assert "the accuracy of this model is not measured" in card
    assert not compare(own_data.images, tmp_path / "out", wanted).computed


@pytest.mark.usefixtures("here")
def test_images_that_cannot_be_used_count_for_no_system(own_data, tmp_path):
    """A damaged holdout image is skipped, a duplicate of a training image excluded; the table reports it."""
    wanted = compare_options(own_data, tmp_path / "cache", systems=("model-2",))
    dataset = read_dataset(own_data.images, wanted.run.read)
    split = wanted.run.split(dataset)
    broken, copied = split.holdout[:2]
    same = next(row for row in split.fit if dataset.trusted[row] == dataset.trusted[copied])
    (own_data.images / dataset.names[broken]).write_bytes(b"")
    shutil.copy(own_data.images / dataset.names[same], own_data.images / dataset.names[copied])
    found = compare(own_data.images, tmp_path / "out", wanted)
    assert (found.rows[0]["n"], found.record["skipped"]) == (HELD - 2, 1)
    assert found.record["left_out"] == [dataset.names[copied]]
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "22 holdout images, the same for all systems; 1 holdout image is a near-duplicate of a tr" in page
    assert f"\n{dataset.names[broken]}," not in CompareFolder(found.folder).holdout("model-2").read_text()


@pytest.mark.usefixtures("here")
def test_marked_formulas_change_no_figure(own_data, tmp_path):
    """Fault 35: with ``excel_safe`` no cell begins a formula, and figures and pictures are the same."""
    for name in ("noisy.csv", "trusted.csv"):
        file = own_data.folder / name
        file.write_text(file.read_text().replace("ash", "=2+3").replace("\n4", "\n＝4"))
    for image in own_data.images.glob("4*"):
        image.rename(image.with_name(f"＝{image.name}"))
    figures, pictures = [], []
    for safe in (False, True):
        wanted = compare_options(own_data, tmp_path / "cache", systems=("model-2",), excel_safe=safe)
        found = compare(own_data.images, tmp_path / str(safe), wanted)
        drawn = write_pictures(found.folder, found.dataset, found.held)
        pictures.append([file.read_bytes() for file in drawn])
        figures.append({name: found.rows[0][name] for name in NOT_MEASURED})
    assert (figures[0], pictures[0]) == (figures[1], pictures[1])
    for name in ("compare.csv", "models/model-2/holdout.csv"):
        with (found.folder / name).open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert "excel_safe" in cells
        assert not [cell for cell in cells if cell.startswith(("=", "＝"))]


def test_results_among_the_images_are_refused(small_data, compared):
    """They would count as images."""
    with pytest.raises(UsageError, match="expected a folder outside"):
        compare(small_data.images, small_data.images / "out", compared.options)
    assert not (small_data.images / "out").exists()


# The same comparison again.


def times_of(folder):
    """When each file was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("[!.]*") if file.is_file()}


def test_a_complete_comparison_is_left_as_it_is(compared, own_comparison, small_data):
    """The same command reports it, evaluates no holdout and writes nothing."""
    before, messages = times_of(own_comparison), []
    found = compare(small_data.images, own_comparison, compared.options, notify=messages.append)
    assert (found.computed, found.rows) == (False, compared.found.rows)
    assert messages == [f"{own_comparison}: comparison is already complete; use --overwrite to repeat it"]
    assert times_of(own_comparison) == before


@pytest.mark.usefixtures("here")
def test_only_what_is_missing_or_changed_is_done_again(compared, own_comparison, small_data):
    """A lost table is written, a changed model trained, changed predictions repeated; nothing else is."""
    page = (own_comparison / "compare.md").read_bytes()
    (own_comparison / "compare.md").unlink()
    found = compare(small_data.images, own_comparison, compared.options)
    assert (found.computed, found.rows) == (True, compared.found.rows)
    assert (own_comparison / "compare.md").read_bytes() == page
    with (own_comparison / "models" / "model-2" / "model.safetensors").open("ab") as file:
        file.write(b" ")
    answers = own_comparison / "models" / "histogram" / "holdout.csv"
    whole = answers.read_bytes()
    answers.write_bytes(whole.replace(b"0", b"1", 1))
    found = compare(small_data.images, own_comparison, compared.options)
    rows, before = {row["system"]: row for row in found.rows}, compared.rows()
    assert rows["model-2"]["facts"]["training"] != before["model-2"]["facts"]["training"]
    assert rows["histogram"]["facts"] == before["histogram"]["facts"]
    assert answers.read_bytes() == whole
    assert [row["accuracy"] for row in found.rows] == [row["accuracy"] for row in compared.found.rows]


@pytest.mark.usefixtures("here")
def test_other_systems_join_those_that_are_there(compared, own_comparison, small_data):
    """Their models are taken as they are; the new table is a second evaluation of the holdout."""
    wanted = replace(compared.options, systems=("cnn-2", "model-2"))
    found = compare(small_data.images, own_comparison, wanted, known=KNOWN | {"cnn-2": planted.quick})
    assert found.rows[1]["facts"] == compared.rows()["model-2"]["facts"]
    assert [row["system"] for row in found.rows] == ["cnn-2", "model-2"]
    assert found.record["holdout_evaluations"] == 2


def test_other_settings_are_refused(compared, own_comparison, small_data):
    """The difference is named, and nothing is touched."""
    before, other = times_of(own_comparison), replace(compared.options, published=True)
    message = "holds a comparison with as_published False there, True now; name another"
    with pytest.raises(OtherRunError, match=message):
        compare(small_data.images, own_comparison, other)
    assert times_of(own_comparison) == before


def test_other_data_are_refused(compared, own_comparison, own_data):
    """Other labels, and images with other bytes."""
    read = compare_options(own_data, compared.options.run.cache).run.read
    wanted = replace(compared.options, run=replace(compared.options.run, read=read))
    (own_data.images / "1.png").write_bytes((own_data.images / "3.png").read_bytes())
    with pytest.raises(OtherRunError, match="images whose files were changed since"):
        compare(own_data.images, own_comparison, wanted)
    write_labels(own_data.folder / "noisy.csv", range(240), own_data.truth)
    with pytest.raises(OtherRunError, match="other images or labels"):
        compare(own_data.images, own_comparison, wanted)


def test_a_run_with_other_settings_is_refused(compared, small_data, own_run):
    """The run in the folder would be the system assay."""
    wanted = replace(compared.options, run=replace(compared.options.run, threshold=0.9))
    with pytest.raises(OtherRunError, match=r"holds a run with threshold 0.8 there, 0.9 now"):
        compare(small_data.images, own_run, wanted)
    assert not (own_run / "compare.json").exists()


@pytest.mark.usefixtures("here")
def test_overwrite_starts_anew(compared, own_comparison, small_data):
    """With other settings, in the same folder: old models and the count of evaluations go, the run stays."""
    wanted = replace(compared.options, systems=("model-2",), published=True)
    found = compare(small_data.images, own_comparison, wanted, overwrite=True)
    assert found.rows[0]["published"]
    assert found.record["holdout_evaluations"] == 1
    assert not (own_comparison / "models" / "histogram").exists()
    assert found.rows[0]["facts"]["training"] != compared.rows()["model-2"]["facts"]["training"]
    assert (own_comparison / "run.json").exists()


@pytest.mark.parametrize("role", ["backbone", "student"])
def test_overwriting_waits_for_what_can_be_refused(compared, own_comparison, small_data, role):
    """A network that does not exist leaves the models as they were."""
    run = replace(compared.options.run, preset="balanced", **{role: "no-such-network"})
    before = times_of(own_comparison)
    with pytest.raises(UsageError, match="no-such-network"):
        compare(
            small_data.images,
            own_comparison,
            replace(compared.options, run=run),
            overwrite=True,
        )
    assert times_of(own_comparison) == before


# The figures.

SHARES = {"histogram": 20, "cnn-1": 30, "model-2": 35}
"""How many of 40 holdout images each system predicts right."""

HOLDOUT = np.arange(0, 80, 2)


@pytest.fixture(scope="module")
def dataset(small_data, options):
    return read_dataset(small_data.images, options.read)


@pytest.fixture
def predicted(dataset):
    """Class of each holdout image, as each system predicts it."""
    truth, found = dataset.trusted[HOLDOUT], {}
    for seed, (system, right) in enumerate(SHARES.items()):
        rows = np.random.default_rng(seed).permutation(40)[:right]
        found[system] = (truth + 1) % 3
        found[system][rows] = truth[rows]
    return found


def write_holdout(file, dataset, found, *, order=(0, 1, 2), rows=HOLDOUT):
    """holdout.csv of a model whose labels may come in another order."""
    probs = np.full((len(rows), 3), 0.1)
    probs[np.arange(len(rows)), found[: len(rows)]] = 0.8
    labels = [dataset.classes[k] for k in order]
    write_rows(file, ("file", *labels), [[dataset.names[row] for row in rows], *(probs[:, k] for k in order)])
    return file


@pytest.fixture
def answers(dataset, predicted, tmp_path):
    """Their files; one has its labels in another order."""
    orders = {"cnn-1": (2, 0, 1)}
    return {
        system: write_holdout(tmp_path / f"{system}.csv", dataset, found, order=orders.get(system, (0, 1, 2)))
        for system, found in predicted.items()
    }


def test_accuracy_is_measured_and_compared(dataset, answers, predicted):
    """With Wilson's interval, and McNemar's test against both rivals where they are there."""
    truth = dataset.trusted[HOLDOUT]
    titled = replace(dataset, titles=("a", "b, c", 'd "e"'))
    figures, left_out, skipped = evaluate_systems(titled, HOLDOUT, answers, ())
    assert (left_out, skipped) == ([], 0)
    for system, right in SHARES.items():
        row, interval = figures[system], wilson(right, 40)
        assert (row["n"], row["source"], list(row)) == (40, "holdout", list(NOT_MEASURED))
        assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == pytest.approx(
            (interval.estimate, interval.low, interval.high)
        )
    first = mcnemar(truth, predicted["histogram"], predicted["cnn-1"]).to_json()
    assert first["difference"]["estimate"] == pytest.approx(0.25)
    second = mcnemar(truth, predicted["model-2"], predicted["cnn-1"]).to_json()
    row = figures["cnn-1"]
    assert (row["against_baseline"], row["against_model_2"]) == (first, second)
    assert (figures["histogram"]["against_baseline"], figures["model-2"]["against_model_2"]) == (None, None)
    alone = evaluate_systems(dataset, HOLDOUT, {"cnn-1": answers["cnn-1"]}, ())[0]["cnn-1"]
    assert (alone["accuracy"], alone["against_baseline"], alone["against_model_2"]) == (0.75, None, None)


def test_all_figures_are_of_the_same_images(dataset, answers, predicted):
    """An image that one model could not use, or that is leaked, counts for none; without any, no figures."""
    write_holdout(answers["cnn-1"], dataset, predicted["cnn-1"], rows=HOLDOUT[:-4])
    leaked = (dataset.names[HOLDOUT[0]], "never held out.png")
    figures, left_out, skipped = evaluate_systems(dataset, HOLDOUT, answers, leaked)
    assert ({row["n"] for row in figures.values()}, left_out, skipped) == ({35}, [leaked[0]], 4)
    right = (predicted["cnn-1"] == dataset.trusted[HOLDOUT])[1:-4]
    assert figures["cnn-1"]["accuracy"] == pytest.approx(right.mean())
    figures, *_ = evaluate_systems(dataset, HOLDOUT, answers, [dataset.names[row] for row in HOLDOUT])
    assert figures == dict.fromkeys(answers, NOT_MEASURED)


@pytest.mark.parametrize("text", ["", "file,ash,birch\n", "file,ash,birch,cedar\n1.png,0.1,x,0.3\n"])
def test_a_file_of_something_else_is_refused(dataset, answers, text):
    """Empty, without a class, or with words for numbers."""
    answers["cnn-1"].write_text(text)
    with pytest.raises(DataError, match=r"cnn-1.csv: expected the file that a comparison wrote, .* delete"):
        evaluate_systems(dataset, HOLDOUT, answers, ())


def test_duplicates_of_training_images_are_leaked(dataset, tmp_path):
    """Byte for byte, of an image that is trained on; and near-duplicates that the run found."""
    contents = [bytes([row]) * 32 for row in range(len(dataset))]
    contents[HOLDOUT[0]] = contents[1]
    contents[HOLDOUT[1]] = contents[HOLDOUT[2]]  # both are held out: neither is trained on
    contents[HOLDOUT[3]] = contents[3] = None  # two that could not be read are no duplicates
    first = dataset.names[HOLDOUT[0]]
    assert leaked_names(dataset, HOLDOUT, contents, None) == {first}
    (tmp_path / "evaluation.json").write_text(json.dumps({"left_out": ["7.png"]}))
    assert leaked_names(dataset, HOLDOUT, contents, tmp_path) == {first, "7.png"}
