"""The notebook's baseline."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from small_runs import draw_image
from small_tasks import small_task, squares_of

from assay.data.read import read_dataset
from assay.embed.histogram import HistogramBackbone
from assay.embed.images import embed_images
from assay.notebook.histogram import histogram
from assay.pipeline.learn import train_histogram
from assay.predict.runtime import load_runtime
from assay.train.linear import fit_logistic
from assay.types import UNKNOWN


@pytest.fixture(scope="module")
def dataset(small_data, options):
    return read_dataset(small_data.images, options.read)


def histograms(dataset, cache):
    return embed_images(dataset, HistogramBackbone(), cache, mirrored=False).views[0]


def notebook_features(images: np.ndarray) -> np.ndarray:
    """Five bins between six edges for each channel, as shares of the pixels."""
    edges = np.linspace(0, 255, 6)
    return np.array(
        [
            [count for c in range(3) for count in np.histogram(image[..., c], bins=edges)[0] / 1024]
            for image in images
        ]
    )


def test_the_baseline_is_the_notebooks(dataset, tmp_path):
    """Features are the notebook's histograms, the head scikit-learn's logistic regression on noisy labels."""
    features = histograms(dataset, tmp_path)
    baseline = train_histogram(dataset, np.arange(200), features)
    pixels = [np.asarray(read_pixels(dataset, row)) for row in range(240)]
    assert features == pytest.approx(notebook_features(np.array(pixels)), abs=1e-3)
    X = StandardScaler().fit(features[:200].astype(float))
    simple = LogisticRegression(max_iter=2000).fit(
        X.transform(features[:200].astype(float)), dataset.noisy[:200]
    )
    expected = simple.predict_proba(X.transform(features[200:].astype(float)))
    assert baseline.probabilities(features[200:]) == pytest.approx(expected, abs=1e-3)


def read_pixels(dataset, row):
    from assay.data.decode import decode

    return decode(dataset.source.read(row)).pixels


def test_only_chosen_rows_with_a_label_are_learned_from(dataset, tmp_path):
    """Labels of other rows change nothing, and a row without a label is no row."""
    noisy = dataset.noisy.copy()
    noisy[:10] = UNKNOWN
    learn = np.arange(100)
    features = histograms(dataset, tmp_path)
    one = train_histogram(replace(dataset, noisy=noisy), learn, features)
    noisy[100:] = (noisy[100:] + 1) % 3
    other = train_histogram(replace(dataset, noisy=noisy), learn, features)
    assert all((a == b).all() for a, b in zip(one.head.weights, other.head.weights, strict=True))
    assert one.facts["rows"] == 90
    assert (one.architecture, one.size, one.labels) == ("histogram", 32, dataset.classes)


def test_colours_alone_say_little_of_drawn_thirds():
    """The data of these tests are no task for a histogram: the classes have the same colours."""
    generator = np.random.default_rng(0)
    means = [np.mean([draw_image(label, generator).mean() for _ in range(50)]) for label in range(3)]
    assert max(means) - min(means) < 3


@pytest.fixture
def task(small_data, tmp_path):
    return small_task(small_data, tmp_path / "cache")


def test_the_recipe_is_the_runs_baseline(task):
    """As intended it learns what ``train_histogram`` learns from all that is not held out."""
    trained = histogram(task)
    features = histograms(task.dataset, task.options.cache)
    same = train_histogram(task.dataset, np.flatnonzero(~task.held), features)
    assert all((a == b).all() for a, b in zip(trained.model.head.weights, same.head.weights, strict=True))
    assert (trained.history, trained.model.facts["rows"]) == ((), 200)


def test_as_published_it_is_scikit_learns_default_on_counts(task, small_data):
    """Counts of pixels, all noisy labels: the probabilities of scikit-learn alone."""
    trained = histogram(replace(task, published=True))
    squares = squares_of(small_data)
    counts = np.round(notebook_features(squares) * 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        simple = LogisticRegression(random_state=0).fit(counts, task.noisy_all)
    assert load_runtime(trained.model).probabilities(squares) == pytest.approx(
        simple.predict_proba(counts), abs=1e-4
    )
    assert (trained.model.facts["rows"], trained.model.facts["saw_holdout"]) == (240, True)
    assert trained.model.facts["converged"] == bool((simple.n_iter_ < 100).all())


def test_the_strength_may_be_searched(task):
    """The best C of the grid is learned with."""
    trained = histogram(replace(task, search=True, folder=task.options.cache / "models"))
    best = trained.model.facts["search"]["best"]["logisticregression__C"]
    rows = np.flatnonzero(task.dataset.noisy != UNKNOWN)
    features = HistogramBackbone().embed(squares_of_rows(task, rows)).astype(np.float16)
    expected = fit_logistic(features, task.dataset.noisy[rows], 3, C=best)
    assert trained.model.head.weights[0] == pytest.approx(expected.weights[0], abs=1e-5)
    assert (task.options.cache / "models" / "search.csv").is_file()


def squares_of_rows(task, rows):
    return np.stack([read_pixels(task.dataset, row) for row in rows.tolist()])
