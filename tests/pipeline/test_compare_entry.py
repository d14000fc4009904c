"""One recipe of a comparison: what it may know, what it leaves behind, when it is done."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from small_compare import HELD, compare_options, entry_of
from small_runs import write_labels

from assay.data.read import read_dataset
from assay.data.split import draw_holdout
from assay.errors import OtherRunError
from assay.notebook.compare_entry import make_task, train
from assay.notebook.compare_measure import measure
from assay.predict.model import read_model
from assay.types import UNKNOWN, ignore_message, silent


@pytest.fixture
def entry(own_data, tmp_path):
    """CNN 1, quick, nothing done yet."""
    options = compare_options(own_data, tmp_path / "cache")
    return entry_of(own_data, tmp_path / "out", options, "cnn-1")


def work_on(entry):
    """Train and measure here, in this process."""
    train(entry, ignore_message, silent)
    measure(entry, ignore_message, silent)
    return entry.folder.row(entry.system)


def test_a_recipe_sees_no_label_of_the_holdout(entry):
    """Given and trusted are UNKNOWN there; what the published baseline may see is apart."""
    dataset = read_dataset(entry.images, entry.options.run.read)
    task = make_task(entry, dataset, silent)
    split = draw_holdout(dataset.trusted)
    assert np.flatnonzero(task.held).tolist() == split.holdout.tolist()
    assert len(split.holdout) == HELD
    assert (task.dataset.noisy[task.held] == UNKNOWN).all()
    assert (task.dataset.trusted[task.held] == UNKNOWN).all()
    assert (task.dataset.noisy[~task.held] == dataset.noisy[~task.held]).all()
    assert (task.dataset.trusted[split.fit] == dataset.trusted[split.fit]).all()
    assert (task.noisy_all == dataset.noisy).all()


def test_labels_of_the_holdout_change_neither_model_nor_answers(entry, own_data, tmp_path, monkeypatch):
    """With its trusted labels all wrong, weights and holdout.csv are byte for byte the same."""
    split = draw_holdout(read_dataset(entry.images, entry.options.run.read).trusted)
    monkeypatch.setattr("assay.pipeline.options.draw_holdout", lambda *_, **__: split)
    work_on(entry)
    truth = own_data.truth.copy()
    truth[split.holdout] = (truth[split.holdout] + 1) % 3
    write_labels(own_data.folder / "trusted.csv", own_data.trusted_rows, truth[own_data.trusted_rows])
    other = entry_of(own_data, tmp_path / "other", entry.options, "cnn-1")
    assert other.data != entry.data
    work_on(other)
    for name in ("model.safetensors", "holdout.csv"):
        files = [one.folder.beside("cnn-1") / name for one in (entry, other)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_training_leaves_a_whole_model_and_what_it_took(entry):
    """A package that loads, history.csv, and row.json with times, memory and facts."""
    row = work_on(entry)
    place = entry.folder.beside("cnn-1")
    model = read_model(place)
    assert (model.facts["system"], model.facts["published"]) == ("cnn-1", False)
    history = (place / "history.csv").read_text()
    assert history == ("stage,epoch,loss,accuracy,seconds\nnoisy,1,1.0,0.25,0.5\nnoisy,2,0.5,0.5,0.5\n")
    trained = row["trained"]
    assert set(trained["stages_s"]) == {"read", "train", "write"}
    assert trained["train_seconds"] > 0
    assert trained["peak_memory_bytes"] > 50_000_000
    package = ("config.json", "model.safetensors", "labels.json", "README.md", "model.onnx", "manifest.json")
    assert trained["model_bytes"] == sum((place / name).stat().st_size for name in package)
    assert (trained["facts"]["held"], trained["facts"]["seen"]) == (HELD, 0)


def test_a_history_of_an_earlier_training_goes(entry):
    """A recipe without epochs has no history.csv, also where another one had."""
    work_on(entry)
    without = replace(entry, learn=no_epochs)
    train(without, ignore_message, silent)
    assert not (entry.folder.beside("cnn-1") / "history.csv").exists()


def no_epochs(task):
    from planted import quick

    return replace(quick(task), history=())


def test_measuring_leaves_the_answers_and_the_times(entry):
    """holdout.csv has a row for each held-out image, as the model predicts it."""
    row = work_on(entry)
    measured = row["measured"]
    with entry.folder.holdout("cnn-1").open() as file:
        header, *rows = csv.reader(file)
    dataset = read_dataset(entry.images, entry.options.run.read)
    split = draw_holdout(dataset.trusted)
    assert header == ["name", "ash", "birch", "cedar"]
    assert [name for name, *_ in rows] == [dataset.names[row] for row in split.holdout]
    assert np.array([probs for _, *probs in rows], dtype=float).sum(axis=1) == pytest.approx(1)
    assert (measured["images_in_batches"], measured["images_alone"]) == (HELD, HELD)
    assert measured["milliseconds_alone"] > 0
    assert measured["milliseconds_in_batches"] > 0
    assert measured["peak_memory_predicting_bytes"] > 50_000_000


def test_it_is_done_until_something_differs(entry):
    """First neither trained nor measured, then both; other settings or data are not done."""
    assert (entry.is_trained(), entry.is_measured()) == (False, False)
    train(entry, ignore_message, silent)
    assert (entry.is_trained(), entry.is_measured()) == (True, False)
    measure(entry, ignore_message, silent)
    assert (entry.is_trained(), entry.is_measured()) == (True, True)
    assert not replace(entry, settings={**entry.settings, "seed": 1}).is_trained()
    assert not replace(entry, data={**entry.data, "contents": "other"}).is_trained()


def test_a_changed_model_is_noticed(entry):
    """One byte more in any of its files, and the recipe is not trained."""
    work_on(entry)
    for name in ("model.safetensors", "model.onnx", "config.json", "README.md"):
        file = entry.folder.beside("cnn-1") / name
        whole = file.read_bytes()
        file.write_bytes(whole + b" ")
        assert not entry.is_trained(), name
        file.write_bytes(whole)
    assert entry.is_trained()


def test_changed_answers_are_noticed(entry):
    """The model stays; what it says is asked again, also where the file is gone."""
    work_on(entry)
    file = entry.folder.holdout("cnn-1")
    file.write_text(file.read_text().replace("0", "1", 1))
    assert (entry.is_trained(), entry.is_measured()) == (True, False)
    file.unlink()
    assert not entry.is_measured()


def test_what_is_trained_anew_has_no_model_meanwhile(entry):
    """A training that fails leaves no old model, no old answers and no old row behind."""
    work_on(entry)
    with pytest.raises(RuntimeError, match="planted"):
        train(replace(entry, learn=fails), ignore_message, silent)
    place = entry.folder.beside("cnn-1")
    assert not any((place / name).exists() for name in ("row.json", "holdout.csv", "manifest.json"))


def fails(task):
    raise RuntimeError("planted")


def test_labels_that_change_meanwhile_are_refused(entry, own_data):
    """A process that reads other labels than the comparison did says so and learns nothing."""
    write_labels(own_data.folder / "noisy.csv", range(240), own_data.truth)
    for work in (train, measure):
        with pytest.raises(OtherRunError, match="images or labels were changed while the comparison ran"):
            work(entry, ignore_message, silent)


def test_with_nothing_held_out_only_times_are_measured(own_data, tmp_path):
    """There is no holdout.csv, and that is done too."""
    options = compare_options(own_data, tmp_path / "cache", holdout=0)
    entry = entry_of(own_data, tmp_path / "out", options, "histogram")
    row = work_on(entry)
    assert row["measured"]["holdout"] is None
    assert (row["measured"]["images_in_batches"], row["measured"]["images_alone"]) == (240, 100)
    assert not entry.folder.holdout("histogram").exists()
    assert entry.is_measured()
    assert row["trained"]["facts"]["held"] == 0


def test_images_that_cannot_be_used_have_no_answer(entry, own_data):
    """A held-out image without content is no row of holdout.csv and no part of the times."""
    dataset = read_dataset(entry.images, entry.options.run.read)
    name = dataset.names[draw_holdout(dataset.trusted).holdout[0]]
    (own_data.images / name).write_bytes(b"no image")
    row = work_on(entry)
    assert f"\n{name}," not in entry.folder.holdout("cnn-1").read_text()
    assert (row["measured"]["images_in_batches"], row["measured"]["images_alone"]) == (HELD - 1, HELD - 1)


def test_a_class_called_name_keeps_its_column(own_data, tmp_path):
    """The column of the images gets another name."""
    for file in ("noisy.csv", "trusted.csv"):
        text = (own_data.folder / file).read_text().replace(",ash", ",name")
        (own_data.folder / file).write_text(text)
    options = compare_options(own_data, tmp_path / "cache")
    entry = entry_of(own_data, tmp_path / "out", options, "cnn-1")
    work_on(entry)
    first = entry.folder.holdout("cnn-1").read_text().splitlines()[0]
    assert first == "name of the image,birch,cedar,name"
    assert json.loads((entry.folder.beside("cnn-1") / "row.json").read_text())["system"] == "cnn-1"
