"""Data at their limits end in a message or in a mode that is said, never in a stack trace."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_runs import write_labels

from assay.errors import DataError, LabelError
from assay.pipeline.run import run


@pytest.fixture
def run_with(own_data, read_of, options, tmp_path):
    """A run in which only ``rows`` are trusted, with the given labels as they are, or changed."""

    def start(rows=None, noisy=None, truth=None):
        if rows is not None:
            labels = own_data.truth if truth is None else truth
            write_labels(own_data.folder / "trusted.csv", rows, labels[rows])
        if noisy is not None:
            write_labels(own_data.folder / "noisy.csv", range(len(noisy)), noisy)
        return run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))

    return start


def test_no_trusted_label_is_refused(run_with):
    """A trusted file without a label leaves nothing to rest on."""
    with pytest.raises(DataError, match=r"trusted"):
        run_with(rows=[])


def test_one_trusted_label_is_refused(run_with):
    """One label is of one class, and two classes are needed."""
    with pytest.raises(LabelError, match=r"two or more trusted labels .* got 0 and 1 of"):
        run_with(rows=[0])


def test_a_trusted_label_of_each_class_is_enough_to_run(run_with, own_data):
    """Three labels, none of which can be held out or cross-validated alone, end in a message."""
    rows = [int(np.flatnonzero(own_data.truth == label)[0]) for label in range(3)]
    try:
        result = run_with(rows=rows)
    except LabelError as error:
        assert "two or more trusted labels besides the holdout's" in str(error)  # noqa: PT017  # either will do
    else:
        assert "assay" not in result.evaluation


def test_a_class_without_trusted_labels_is_still_fixed(run_with, own_data):
    """What noisy labels say of a class without trusted images is kept, and the lack is said."""
    rows = own_data.trusted_rows[own_data.truth[own_data.trusted_rows] != 2]
    result = run_with(rows=rows)
    assert "classes without a trusted label: 'cedar'" in result.dataset.notes
    corrected = result.learned.corrected.corrected
    assert np.isfinite(result.learned.corrected.posterior).all()
    assert (corrected[own_data.truth == 2] == 2).mean() > 0.3


def test_trusted_labels_for_all_images_are_enough(run_with, own_data):
    """Without a single image that is only noisy the run learns from the trusted ones."""
    result = run_with(rows=np.arange(240))
    assert result.evaluation["assay"].accuracy.estimate > 0.9
    assert result.learned.corrected.counts["trusted"] == 240 - 48


def test_labels_that_never_agree_are_reported(run_with, own_data):
    """Trusted labels that contradict every noisy one give a rate of 1 and a warning."""
    noisy = (own_data.truth + 1) % 3
    result = run_with(noisy=noisy)
    assert result.noise.rate.estimate == 1
    assert "none of 120 noisy labels equals its trusted label" in " ".join(result.warnings)
    assert (result.learned.corrected.corrected == own_data.truth).mean() > 0.9


def test_right_labels_are_left_alone(run_with, own_data):
    """Where no label is wrong nothing is changed, and the rate is 0 with an interval."""
    result = run_with(noisy=own_data.truth)
    assert result.noise.rate.estimate == 0
    assert result.noise.rate.high < 0.06
    assert result.learned.corrected.counts["changed"] == 0
    assert "the fixed labels are not measurably better than the given ones" in " ".join(result.warnings)


def test_one_class_is_refused(run_with, own_data):
    """With one class no label can be wrong."""
    rows = np.flatnonzero(own_data.truth == 0)
    with pytest.raises(
        LabelError, match=r"noisy.csv: expected labels of two classes or more, got only 'ash'"
    ):
        run_with(rows=rows, noisy=np.zeros(240, dtype=int))


def test_an_image_of_one_colour_has_finite_probabilities(run_with, own_data, tmp_path):
    """Constant images are labelled like any other, trusted or not."""
    for row in (0, 1, 2, 3):
        Image.new("RGB", (32, 32), (60 * row,) * 3).save(own_data.images / f"{row}.png")
    result = run_with()
    assert np.isfinite(result.learned.corrected.posterior).all()
    assert result.learned.corrected.confidence[:4].min() > 0


def test_images_of_one_colour_alone_end_in_a_result_or_a_message(run_with, own_data):
    """Data without any information do not break the arithmetic."""
    for row in range(240):
        Image.new("RGB", (32, 32), (row, row, row)).save(own_data.images / f"{row}.png")
    result = run_with()
    assert np.isfinite(result.learned.corrected.posterior).all()
    assert result.better_than_baseline is not True


def test_no_usable_image_is_refused(run_with, own_data):
    """If nothing can be decoded nothing can be learned."""
    for row in range(240):
        (own_data.images / f"{row}.png").write_bytes(b"")
    with pytest.raises(Exception, match=r"expected at least 5 usable images to learn from, got 0"):
        run_with()


def test_hidden_files_are_counted_and_left_alone(run_with, own_data):
    """What file managers and notebooks leave among the images is no image."""
    (own_data.images / ".ipynb_checkpoints").mkdir()
    (own_data.images / ".ipynb_checkpoints" / "0.png").write_bytes((own_data.images / "0.png").read_bytes())
    (own_data.images / "._1.png").write_bytes(b"x")
    result = run_with()
    assert len(result.dataset) == 240
    assert any("hidden" in note for note in result.dataset.notes)
