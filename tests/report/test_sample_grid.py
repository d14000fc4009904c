from dataclasses import replace

import numpy as np
import pytest
from pictures import picture, saved
from small_datasets import dataset_of, drawn

from assay.data.dataset import Skipped
from assay.notebook.sample_grid import draw_samples


@pytest.fixture
def dataset():
    """Twelve images in two classes; the given label of every third is wrong."""
    trusted = np.arange(12) % 2
    noisy = np.where(np.arange(12) % 3 == 0, 1 - trusted, trusted)
    return replace(dataset_of(drawn(12, height=8, width=8)), classes=("0", "1"), noisy=noisy, trusted=trusted)


def test_eight_images_with_two_names_each(seen, dataset):
    """The first eight images are shown; a given name that is not the trusted one is marked."""
    found = seen(draw_samples(replace(dataset, titles=("frog", "truck"))))
    assert found.images == 8
    assert found.texts[:4] == ["given: truck ✗", "trusted: frog", "given: truck", "trusted: truck"]
    assert found.description.startswith(
        "0.png: trusted frog, given truck; 1.png: trusted truck, given truck;"
    )


def test_an_image_that_cannot_be_opened_makes_room_for_the_next(seen, dataset):
    """A skipped image, an unreadable file and a missing one are passed over."""
    files = [b"no image", *dataset.source.files[1:]]
    files[1] = Skipped("missing_image")
    broken = replace(dataset, source=replace(dataset.source, files=files), skipped={2: Skipped("truncated")})
    assert seen(draw_samples(broken, count=2)).description == (
        "3.png: trusted 1, given 0; 4.png: trusted 0, given 0"
    )


def test_rows_and_count_choose(seen, dataset):
    """Only the rows asked for are shown, in their order."""
    found = seen(draw_samples(dataset, np.array([5, 3, 4]), count=2))
    assert [part.split(":")[0] for part in found.description.split("; ")] == ["5.png", "3.png"]


def test_unknown_labels_are_said_to_be_unknown(seen, dataset):
    """A row without labels is shown without a mark, and said to have none."""
    unknown = replace(dataset, noisy=np.full(12, -1), trusted=np.full(12, -1))
    found = seen(draw_samples(unknown, np.array([0])))
    assert found.texts == ["given: none", "trusted: unknown"]


def test_no_image_is_a_picture_too(seen, dataset):
    """Without a row that has both labels the picture says so."""
    unknown = replace(dataset, trusted=np.full(12, -1))
    assert seen(draw_samples(unknown)).description == "No image with both labels could be opened."


def test_a_large_photo_stays_a_small_picture(dataset):
    """A photo of any size is embedded as a sample of at most 96 pixels."""
    photo = saved(picture(1200, 1600), "JPEG")
    one = replace(dataset, source=replace(dataset.source, files=[photo] * 12))
    assert len(draw_samples(one, count=1)) < 60_000


def test_the_same_images_have_the_same_bytes(dataset):
    """A picture drawn twice is one file."""
    assert draw_samples(dataset) == draw_samples(dataset)
