from dataclasses import replace

import numpy as np
import pytest
from small_datasets import dataset_of, drawn

from assay.errors import ModelError
from assay.notebook.pictures import are_drawn, read_history, write_pictures
from assay.predict.layers import Layers
from assay.predict.model import Model

N, HELD = 20, (1, 4, 6)


@pytest.fixture
def dataset():
    """Twenty images of two classes, every given label of the first of them wrong."""
    trusted = np.arange(N) % 2
    noisy = np.ones(N, dtype=np.int64)
    return replace(dataset_of(drawn(N, height=8, width=8)), classes=("0", "1"), noisy=noisy, trusted=trusted)


@pytest.fixture
def compared(tmp_path):
    """The folder of a comparison of two recipes, of which one was trained by epochs."""
    rows = "".join(f"{row}.png,{0.9 if row == 1 else 0.2},{0.1 if row == 1 else 0.8}\n" for row in HELD)
    for system in ("cnn-1", "assay"):
        (tmp_path / "models" / system).mkdir(parents=True)
        (tmp_path / "models" / system / "holdout.csv").write_text("name,0,1\n" + rows)
    history = "stage,epoch,loss,accuracy,seconds\nnoisy,1,2.5,0.2,1.0\nnoisy,2,2.0,0.4,1.0\n"
    (tmp_path / "models" / "cnn-1" / "history.csv").write_text(history)
    head = Layers(
        *(np.ones(15, dtype=np.float32),) * 2, (np.ones((15, 2), np.float32), np.ones(2, np.float32))
    )
    Model("histogram", 32, ("0", "1"), head).save(tmp_path / "models" / "cnn-1")
    return tmp_path


def test_every_picture_is_written(compared, dataset):
    """A comparison gets its samples, its confusions, and for each model its history and layers."""
    written = write_pictures(compared, dataset)
    assert sorted(str(file.relative_to(compared)) for file in written) == [
        "models/cnn-1/history.svg",
        "models/cnn-1/layers.svg",
        "pictures/confusion_assay.svg",
        "pictures/confusion_cnn-1.svg",
        "pictures/confusion_noisy.svg",
        "pictures/samples.svg",
    ]
    assert all(file.is_file() for file in written)


def test_held_out_images_are_only_in_their_own_confusion(seen, compared, dataset):
    """Given against trusted and the samples leave the held-out images out; predicted against trusted
    shows them alone.
    """
    write_pictures(compared, dataset)
    noisy = seen((compared / "pictures" / "confusion_noisy.svg").read_text())
    assert noisy.title == "Given against trusted labels of 17 images"
    shown = seen((compared / "pictures" / "samples.svg").read_text()).description
    names = [part.split(":")[0] for part in shown.split("; ")]
    assert names == [f"{row}.png" for row in (0, 2, 3, 5, 7, 8, 9, 10)]
    found = seen((compared / "pictures" / "confusion_cnn-1.svg").read_text())
    assert found.title == "CNN 1: predicted against trusted labels of 3 held-out images"
    assert found.description == (
        "Trusted labels in rows, predicted labels in columns, 3 images. The two are equal for 0.0 %. "
        "Most often confused: trusted 0, predicted 1, 2 images, 100.0 % of the row."
    )


def test_held_out_images_are_not_drawn_where_no_model_was_measured(seen, compared, dataset):
    """All recipes failed: who asked knows which images are held out."""
    for file in compared.glob("models/*/holdout.csv"):
        file.unlink()
    write_pictures(compared, dataset, held=np.array([0, 2]))
    shown = seen((compared / "pictures" / "samples.svg").read_text()).description
    assert not {"0.png", "2.png"} & {part.split(":")[0] for part in shown.split("; ")}


def test_images_that_the_figures_leave_out_are_left_out(seen, compared, dataset):
    """A held-out image whose picture was learned from counts neither in the table nor in the picture."""
    (compared / "compare.json").write_text('{"left_out": ["4.png"]}')
    write_pictures(compared, dataset)
    found = seen((compared / "pictures" / "confusion_cnn-1.svg").read_text())
    assert found.title == "CNN 1: predicted against trusted labels of 2 held-out images"
    noisy = seen((compared / "pictures" / "confusion_noisy.svg").read_text())
    assert noisy.title == "Given against trusted labels of 17 images"


def test_the_layers_of_a_runs_model_are_drawn_too(compared, dataset):
    """The model of the recipe assay is that of the run in the same folder."""
    (compared / "models" / "cnn-1").rename(compared / "model")
    written = write_pictures(compared, dataset)
    assert compared / "models" / "assay" / "layers.svg" in written
    assert are_drawn(compared)


def test_what_was_not_drawn_is_seen_also_where_nothing_was_held_out(compared, dataset):
    """A comparison that was killed while it drew draws the rest."""
    for file in compared.glob("models/*/holdout.csv"):
        file.unlink()
    assert not are_drawn(compared)
    write_pictures(compared, dataset)
    assert are_drawn(compared)
    next(compared.glob("models/*/layers.svg")).unlink()
    assert not are_drawn(compared)


def test_holdout_rows_of_labels_csv_stay_out_too(seen, compared, dataset):
    """A run without any measured model still says which rows were held out."""
    for file in compared.glob("models/*/holdout.csv"):
        file.unlink()
    (compared / "labels.csv").write_text("file,trusted_label,reason\n0.png,,holdout\n2.png,0,\n")
    write_pictures(compared, dataset)
    noisy = seen((compared / "pictures" / "confusion_noisy.svg").read_text())
    assert noisy.title == "Given against trusted labels of 19 images"


def test_what_is_not_there_is_left_out(tmp_path, dataset):
    """An empty folder gets the pictures of the data; without trusted labels there is nothing to draw."""
    assert [file.name for file in write_pictures(tmp_path, dataset)] == ["samples.svg", "confusion_noisy.svg"]
    unknown = replace(dataset, trusted=np.full(N, -1))
    assert write_pictures(tmp_path / "other", unknown) == []
    assert not (tmp_path / "other").exists()


def test_names_for_people_are_shown(seen, compared, dataset):
    """With a file of class names the pictures speak in names."""
    write_pictures(compared, replace(dataset, titles=("plane", "car")))
    texts = seen((compared / "pictures" / "confusion_cnn-1.svg").read_text()).texts
    assert {"plane", "car"} <= set(texts)


def test_a_second_writing_changes_no_byte(compared, dataset):
    """Drawing again gives the same files."""
    first = {file: file.read_bytes() for file in write_pictures(compared, dataset)}
    assert {file: file.read_bytes() for file in write_pictures(compared, dataset)} == first


def test_a_damaged_model_is_refused(compared, dataset):
    """A model that was changed after it was written is not drawn."""
    (compared / "models" / "cnn-1" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="its sha256 is not the one in manifest"):
        write_pictures(compared, dataset)


def test_a_history_is_read_back(compared):
    """The rows of history.csv are epochs again."""
    first, second = read_history(compared / "models" / "cnn-1" / "history.csv")
    assert (first.stage, first.epoch, first.loss, first.accuracy, first.seconds) == (
        "noisy",
        1,
        2.5,
        0.2,
        1.0,
    )
    assert second.epoch == 2
