"""The public functions in a few lines, on tiny data."""

import numpy as np
import pytest
from small_runs import CLASSES

import assay
from assay.errors import AssayError, LabelError
from assay.types import UNKNOWN


def test_a_notebook_does_the_whole_job(small_data, tmp_path):
    """Run, look at what was found, predict: six lines, and the folder is what the command line makes."""
    said = []
    result = assay.run(
        small_data.images,
        tmp_path / "out",
        noisy=small_data.folder / "noisy.csv",
        trusted=str(small_data.folder / "trusted.csv"),
        backbone="tiny",
        cache=str(tmp_path / "cache"),
        notify=said.append,
    )
    assert 0.3 < result.noise.rate.estimate < 0.5
    assert result.evaluation["assay"].accuracy.estimate > 0.9
    assert result.learned.corrected.label_issues.size
    rows = assay.load_model(tmp_path / "out").predict(small_data.images)
    assert rows.labels == CLASSES
    assert (rows.probs.argmax(axis=1) == small_data.truth).mean() > 0.95
    assert assay.load_model(tmp_path / "out").labels == CLASSES
    assert any("96 images carry both labels" in line for line in said)


def test_the_steps_can_be_taken_one_by_one(small_data, tmp_path):
    """Read, embed, estimate, fix: the same pieces, in one's own hands."""
    data = assay.read_dataset(
        small_data.images, noisy=small_data.folder / "noisy.csv", trusted=small_data.folder / "trusted.csv"
    )
    features = assay.embed_images(data, "tiny", cache=tmp_path)
    assert len(features.views) == 1
    assert features.views[0].shape == (240, 384)
    noise = assay.estimate_noise(data.noisy, data.trusted, len(data.classes), classes=data.classes)
    assert noise.n_pairs == 120
    corrected = assay.correct_labels(features.views[0], data.noisy, data.trusted, classes=data.classes)
    assert (corrected.corrected == small_data.truth).mean() > 0.95


def test_options_of_reading_are_kept(small_data):
    """What ``options`` says is joined with the files that are named beside it."""
    options = assay.ReadOptions(trusted=small_data.folder / "trusted.csv", class_map={"ash": "ash"})
    data = assay.read_dataset(small_data.images, noisy=small_data.folder / "noisy.csv", options=options)
    assert (data.trusted != UNKNOWN).sum() == 120


def test_a_backbone_may_be_given_itself(small_data, tmp_path):
    """A name or a Backbone; both views if asked."""
    from assay.embed import load_backbone

    data = assay.read_dataset(small_data.images)
    named = assay.embed_images(data, "tiny", cache=tmp_path)
    noisy = assay.embed_images(data, load_backbone("tiny", tmp_path), mirrored=True, cache=tmp_path)
    assert len(noisy.views) == 2
    assert (named.views[0] == noisy.views[0]).all()


def points(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = np.arange(n) % 3
    return np.eye(3)[truth] * 4 + generator.normal(0, 0.3, (n, 3)), truth


def test_labels_of_anything_can_be_fixed():
    """Features of no image at all; labels may be unknown; classes need no names."""
    X, truth = points()
    noisy = np.where(np.arange(90) % 4 == 0, (truth + 1) % 3, truth)
    noisy[1] = UNKNOWN
    trusted = np.where(np.arange(90) < 45, truth, UNKNOWN)
    corrected = assay.correct_labels(X, noisy, trusted, folds=3, threshold=0.6, seed=1)
    assert (corrected.corrected == truth).mean() > 0.95
    assert corrected.threshold == 0.6


def test_permuting_the_classes_permutes_the_answer():
    """The numbers of the classes mean nothing."""
    X, truth = points()
    noisy = np.where(np.arange(90) % 4 == 0, (truth + 1) % 3, truth)
    trusted = np.where(np.arange(90) < 45, truth, UNKNOWN)
    order = np.array([2, 0, 1, UNKNOWN])
    one = assay.correct_labels(X, noisy, trusted).corrected
    other = assay.correct_labels(X, order[noisy], order[trusted]).corrected
    assert (order[one] == other).mean() > 0.95


@pytest.mark.usefixtures("without_shape_checks")
def test_labels_of_other_length_are_refused():
    """Each row needs both labels, if only as unknown."""
    X, truth = points(9)
    message = r"^expected a given and a trusted label for each of 9 rows, -1 where unknown, got 8 and 9$"
    with pytest.raises(LabelError, match=message):
        assay.correct_labels(X, truth[:8], truth)


def test_masked_labels_are_not_known():
    """A masked array is what the estimator takes; here too what it hides stays hidden."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    features = rng.normal(truth[:, None] * 4.0, 1.0, (200, 3)).astype(np.float32)
    noisy = np.where(rng.random(200) < 0.2, 1 - truth, truth)
    hidden = np.arange(200) >= 60
    plain = np.where(hidden, UNKNOWN, truth)
    masked = np.ma.masked_array(np.where(hidden, 1 - truth, truth), hidden)
    wanted = assay.correct_labels(features, noisy, plain)
    assert assay.correct_labels(features, noisy, masked).corrected.tolist() == wanted.corrected.tolist()
    assert assay.estimate_noise(noisy, masked, 2).n_pairs == 60


@pytest.mark.usefixtures("without_shape_checks")
def test_labels_are_whole_numbers_of_any_kind():
    """Bytes, as data sets of digits have them, masked too; no numbers with fractions, and none at all."""
    X, truth = points()
    noisy = np.where(np.arange(90) % 4 == 0, (truth + 1) % 3, truth)
    hidden = np.arange(90) >= 45
    wanted = assay.correct_labels(X, noisy, np.where(hidden, UNKNOWN, truth)).corrected.tolist()
    small = np.ma.masked_array(truth.astype(np.uint8), hidden)
    assert assay.correct_labels(X, noisy.astype(np.uint8), small).corrected.tolist() == wanted
    assert assay.estimate_noise(noisy.astype(np.uint16), small, 3).n_pairs == 45
    with pytest.raises(LabelError, match=r"^expected class indices, .* got an array of float64$"):
        assay.correct_labels(X, noisy, truth / 2)
    with pytest.raises(AssayError):
        assay.correct_labels(X[:0], noisy[:0], truth[:0])
