"""Robustness to damaged images; what a run reports of it is tested with fine-tuning."""

import numpy as np
import pytest
from pictures import saved
from small_datasets import dataset_of, noise

from assay.data.resize import to_square
from assay.pipeline import robustness
from assay.pipeline.robustness import measure_robustness
from assay.predict.model import read_model
from assay.predict.runtime import load_runtime


@pytest.fixture
def seen(monkeypatch):
    """The images that are damaged, of which each comes out black."""
    images: list[np.ndarray] = []

    def blacken(image: np.ndarray) -> np.ndarray:
        images.append(image)
        return np.zeros_like(image)

    monkeypatch.setattr(robustness, "DAMAGE", {"black": blacken})
    return images


def test_images_are_damaged_at_their_own_size(finished, seen):
    """Whatever the model's size and their shape are; only very large ones are shrunk first."""
    dataset = dataset_of([saved(noise(0, 40, 60)), b"", saved(noise(1, 600, 900)), saved(noise(2, 20, 20))])
    model = read_model(finished.out)
    found = measure_robustness(model, dataset, np.arange(4), np.array([0, 1, 2, 0]), workers=1)
    assert [image.shape for image in seen] == [(40, 60, 3), (341, 512, 3), (20, 20, 3)]
    assert found.n == 3
    runtime = load_runtime(model)
    resized_images = [to_square(image, runtime.size, runtime.interpolation) for image in seen]
    said = runtime.probabilities(np.stack(resized_images)).argmax(axis=1)
    assert found.right.estimate == (said == [0, 2, 0]).mean()
    black = runtime.probabilities(np.zeros_like(resized_images[:1])).argmax(axis=1)
    assert found.damaged["black"][0].estimate == (black == [0, 2, 0]).mean()


def test_blocks_and_threads_change_nothing(finished, monkeypatch):
    """Images are not mixed up, however many there are at a time."""
    dataset = dataset_of([saved(noise(row, 30, 30)) if row % 5 else b"" for row in range(12)])
    rows, truth = np.arange(12), np.arange(12) % 3
    whole = measure_robustness(read_model(finished.out), dataset, rows, truth)
    monkeypatch.setattr(robustness, "AT_ONCE", 5)
    parts = measure_robustness(read_model(finished.out), dataset, rows, truth, workers=3)
    assert whole.to_json() == parts.to_json()
    assert whole.n == 9


def test_without_an_image_nothing_is_measured(finished):
    """None of them can be used."""
    rows, truth = np.arange(1), np.zeros(1, int)
    assert measure_robustness(read_model(finished.out), dataset_of([b""]), rows, truth) is None
