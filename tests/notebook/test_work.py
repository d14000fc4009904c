"""The work on one system of a comparison."""

from dataclasses import replace

import planted
import pytest
from small_compare import HELD, compare_options, entry_of
from small_runs import write_labels

from assay.data.read import read_dataset
from assay.errors import OtherRunError
from assay.notebook.work import measure, train
from assay.predict.model import read_model
from assay.types import ignore_message, silent


@pytest.fixture
def entry(own_data, tmp_path):
    """CNN 1, quick, nothing done yet."""
    return entry_of(own_data, tmp_path / "out", compare_options(own_data, tmp_path / "cache"), "cnn-1")


def work_on(entry):
    """Train and measure in this process."""
    train(entry, ignore_message, silent)
    measure(entry, ignore_message, silent)
    return entry.folder.row(entry.system)


def test_labels_of_the_holdout_change_neither_model_nor_predictions(entry, own_data, tmp_path, monkeypatch):
    """With its trusted labels all wrong, weights and holdout.csv are byte for byte the same."""
    split = entry.options.run.split(read_dataset(entry.images, entry.options.run.read))
    monkeypatch.setattr("assay.pipeline.options.draw_holdout", lambda *_, **__: split)
    work_on(entry)
    truth = own_data.truth.copy()
    truth[split.holdout] = (truth[split.holdout] + 1) % 3
    write_labels(own_data.folder / "trusted.csv", own_data.trusted_rows, truth[own_data.trusted_rows])
    other = entry_of(own_data, tmp_path / "other", entry.options, "cnn-1")
    assert other.basis != entry.basis
    work_on(other)
    for name in ("model.safetensors", "holdout.csv"):
        files = [one.folder.beside("cnn-1") / name for one in (entry, other)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_training_and_measuring_leave_a_model_and_its_cost(entry):
    """A package that loads, history.csv, and row.json with times, memory and facts."""
    row, place = work_on(entry), entry.folder.beside("cnn-1")
    model, trained, measured = read_model(place), row["trained"], row["measured"]
    assert (model.facts["system"], model.facts["published"]) == ("cnn-1", False)
    history = "stage,epoch,loss,accuracy,seconds\nnoisy,1,1.0,0.25,0.5\nnoisy,2,0.5,0.5,0.5\n"
    assert (place / "history.csv").read_text() == history
    assert set(trained["stages_s"]) == {"read", "train", "write"}
    assert trained["train_seconds"] > 0
    assert trained["peak_memory_bytes"] > 50_000_000
    package = ("config.json", "model.safetensors", "labels.json", "README.md", "model.onnx", "manifest.json")
    assert trained["model_bytes"] == sum((place / name).stat().st_size for name in package)
    assert (measured["images_in_batches"], measured["images_alone"]) == (HELD, HELD)
    assert min(measured["milliseconds_alone"], measured["milliseconds_in_batches"]) > 0
    assert measured["peak_memory_predicting_bytes"] > 50_000_000
    train(replace(entry, function=no_epochs), ignore_message, silent)
    assert not (place / "history.csv").exists()


def no_epochs(task):
    return replace(planted.quick(task), history=())


def test_a_training_that_fails_leaves_no_old_model_behind(entry):
    """Nor old predictions, nor an old row."""
    work_on(entry)
    with pytest.raises(RuntimeError, match="planted"):
        train(replace(entry, function=fails), ignore_message, silent)
    place = entry.folder.beside("cnn-1")
    assert not any((place / name).exists() for name in ("row.json", "holdout.csv", "manifest.json"))


def fails(task):
    raise RuntimeError("planted")


def test_labels_that_change_meanwhile_are_refused(entry, own_data):
    """A process that reads other labels than the comparison did trains on nothing."""
    write_labels(own_data.folder / "noisy.csv", range(240), own_data.truth)
    for work in (train, measure):
        with pytest.raises(OtherRunError, match="images or labels were changed while the comparison ran"):
            work(entry, ignore_message, silent)


def test_a_class_called_file_keeps_its_column(own_data, tmp_path):
    """The column of the images gets another name."""
    for file in ("noisy.csv", "trusted.csv"):
        text = (own_data.folder / file).read_text().replace(",ash", ",file")
        (own_data.folder / file).write_text(text)
    entry = entry_of(own_data, tmp_path / "out", compare_options(own_data, tmp_path / "cache"), "cnn-1")
    work_on(entry)
    first = entry.folder.holdout("cnn-1").read_text().splitlines()[0]
    assert first == "file of the image,birch,cedar,file"
