"""The notebook's five systems on drawn images, and the search for their settings."""

import csv
import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pictures import saved
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from small_datasets import dataset_of, noise
from small_runs import draw_data
from small_tasks import small_task, squares_of

from assay.embed.backbone import FROM_ZERO_TO_ONE
from assay.embed.images import embed_images
from assay.embed.tiny import HistogramBackbone, TinyBackbone
from assay.errors import LabelError, UsageError
from assay.notebook import systems
from assay.notebook.networks import Cnn
from assay.notebook.systems import (
    PixelBackbone,
    TrainingData,
    agreed_labels,
    cnn_1,
    cnn_2,
    frozen_backbone,
    histogram,
    model_1,
    model_2,
    search,
)
from assay.pipeline.learn import train_histogram
from assay.predict.model import read_model
from assay.predict.runtime import load_runtime
from assay.train.heads import fit_logistic
from assay.types import UNKNOWN, Backbone

LABELS = arrays(np.int64, 20, elements=st.integers(UNKNOWN, 3))


@pytest.fixture(scope="module")
def task(small_data, tmp_path_factory):
    return small_task(small_data, tmp_path_factory.mktemp("cache"), backbone="tiny")


@pytest.fixture
def two_epochs(monkeypatch):
    """What is told of the notebook's epochs holds for fewer of them."""
    for name in ("cnn_classifier", "head_classifier"):
        monkeypatch.setattr(systems, name, partial(shortened, getattr(systems, name)))


def shortened(plain, *arguments):
    return plain(*arguments).set_params(epochs=2)


def without_graph(model, *_):
    """Where weights and facts alone are compared: writing a graph takes longer than the training."""
    return model


@pytest.fixture(scope="module")
def networks():
    """The two networks of CNN 2, in the order of training."""
    return []


@pytest.fixture(scope="module")
def second(task, networks):
    """CNN 2, trained."""
    fit = TrainingData.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingData, "fit", lambda *args: networks.append(fit(*args)) or networks[-1])
        return cnn_2(task)


# The filter of CNN 2 and Model II.


@for_all(LABELS, LABELS, arrays(np.int64, 20, elements=st.integers(0, 3)))
def test_trusted_labels_stay_and_noisy_ones_must_agree(noisy, trusted, predicted):
    """Each label is the trusted one, or the noisy one where it was predicted; no other is made up."""
    found = agreed_labels(noisy, trusted, predicted)
    known = trusted != UNKNOWN
    agreed = ~known & (noisy == predicted)
    assert (found[known] == trusted[known]).all()
    assert (found[agreed] == noisy[agreed]).all()
    assert (found[~known & ~agreed] == UNKNOWN).all()


# The baseline.


def counts_of(images: np.ndarray) -> np.ndarray:
    """Pixels in five bins between six edges, for each channel, as the notebook counts them."""
    edges = np.linspace(0, 255, 6)
    return np.array(
        [[n for c in range(3) for n in np.histogram(image[..., c], bins=edges)[0]] for image in images]
    )


def test_the_baseline_is_the_runs(task, small_data):
    """Shares of pixels as NumPy counts them, and scikit-learn's regression on noisy labels, holdout apart."""
    trained = histogram(task)
    rows = np.flatnonzero(~task.held)
    features = embed_images(task.dataset, HistogramBackbone(), task.options.cache, mirrored=False).views[0]
    order = [int(name.partition(".")[0]) for name in task.dataset.names]
    assert features == pytest.approx(counts_of(squares_of(small_data)[order]) / 1024, abs=1e-3)
    same = train_histogram(task.dataset, rows, features)
    assert all((a == b).all() for a, b in zip(trained.model.head.weights, same.head.weights, strict=True))
    assert (trained.history, trained.model.facts["rows"]) == ((), 200)
    X = StandardScaler().fit(features[rows].astype(float)).transform(features.astype(float))
    simple = LogisticRegression(max_iter=2000).fit(X[rows], task.dataset.noisy[rows])
    assert same.probabilities(features) == pytest.approx(simple.predict_proba(X), abs=1e-3)


def test_the_baseline_as_published(task, small_data):
    """Counts of pixels, all noisy labels: the probabilities of scikit-learn's default."""
    trained = histogram(replace(task, published=True))
    images = squares_of(small_data)
    counts = counts_of(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        simple = LogisticRegression(random_state=0).fit(counts, task.noisy_all)
    expected = simple.predict_proba(counts)
    assert load_runtime(trained.model).probabilities(images) == pytest.approx(expected, abs=1e-4)
    assert (trained.model.facts["rows"], trained.model.facts["saw_holdout"]) == (240, True)
    assert trained.model.facts["converged"] == bool((simple.n_iter_ < 100).all())


def test_the_baselines_strength_may_be_searched(task, small_data, tmp_path):
    """The best C of the grid is trained with."""
    trained = histogram(replace(task, search=True, folder=tmp_path))
    best = trained.model.facts["search"]["best"]["logisticregression__C"]
    rows = np.flatnonzero(task.dataset.noisy != UNKNOWN)
    order = [int(name.partition(".")[0]) for name in task.dataset.names]
    features = HistogramBackbone().embed(squares_of(small_data)[order][rows]).astype(np.float16)
    expected = fit_logistic(features, task.dataset.noisy[rows], 3, C=best)
    assert trained.model.head.weights[0] == pytest.approx(expected.weights[0], abs=1e-5)
    assert (tmp_path / "search.csv").is_file()


@pytest.mark.parametrize("published", [False, True])
def test_labels_of_one_class_cannot_be_trained_on(task, published):
    """A network, and the published baseline, need two."""
    same = np.where(task.held, UNKNOWN, 0)
    one = replace(task, dataset=replace(task.dataset, noisy=same), noisy_all=np.zeros(240, int))
    system = histogram if published else model_1
    with pytest.raises(LabelError, match=r"expected labels of two classes or more, got 2[04]0 of 1"):
        system(replace(one, published=published))


# CNN 1 and CNN 2.


def test_pixels_come_back_from_the_cache(tmp_path):
    """As features, every value of every pixel is what it was."""
    every = np.resize(np.arange(256, dtype=np.uint8), (32, 32, 3))
    pictures = [*(noise(seed, 32, 32) for seed in range(4)), Image.fromarray(every)]
    images, backbone = np.stack([np.asarray(one) for one in pictures]), PixelBackbone()
    features = embed_images(dataset_of([saved(one) for one in pictures]), backbone, tmp_path, mirrored=False)
    assert np.array_equal(features.views[0].reshape(-1, 32, 32, 3), images)
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.interpolation, backbone.width) == ("pixels", "bicubic", 3072)
    assert PixelBackbone(64).digest != backbone.digest


@pytest.mark.train
def test_the_settings_are_the_notebooks(task):
    """Adam's and Keras' defaults; as published the features of Model I and II are not standardised."""
    cnn, head = systems.cnn_classifier(task, Cnn()), systems.head_classifier(task)
    assert (cnn.epochs, cnn.batch_size, cnn.learning_rate, cnn.standardise) == (10, 32, 1e-3, False)
    assert (head.epochs, head.batch_size, head.learning_rate, head.standardise) == (6, 64, 1e-4, True)
    assert (cnn.random_state, cnn.dtype) == (0, "float32")
    assert not systems.head_classifier(replace(task, published=True)).standardise


@pytest.mark.train
@pytest.mark.usefixtures("two_epochs")
@pytest.mark.parametrize("system", [cnn_1, model_1])
def test_the_first_of_each_pair_takes_noisy_labels_as_true(task, system, tmp_path, monkeypatch):
    """Trusted labels change nothing; each epoch is in the history; features are computed once."""
    task = replace(task, options=replace(task.options, cache=tmp_path))
    one = system(task)
    assert [(epoch.stage, epoch.epoch) for epoch in one.history] == [("noisy", 1), ("noisy", 2)]
    assert {"embed", "train", "export"} <= one.seconds.keys()
    monkeypatch.setattr(systems, "with_graph", without_graph)
    blind = system(replace(task, dataset=replace(task.dataset, trusted=np.full(240, UNKNOWN))))
    assert blind.model.head.weights[0].tobytes() == one.model.head.weights[0].tobytes()
    assert [found.model.facts["features_computed"] for found in (one, blind)] == [240, 0]


@pytest.mark.train
def test_cnn_2_keeps_the_labels_it_agrees_with(second, networks, task):
    """First the trusted labels, then those and the agreed ones, with another seed; they are counted."""
    assert [epoch.stage for epoch in second.history] == ["trusted"] * 10 + ["trusted and kept"] * 10
    assert 0 < second.model.facts["kept"] < second.model.facts["kept_of"] == 240 - 120
    assert [network.random_state for network in networks] == [0, 1]


@pytest.mark.train
def test_the_model_is_the_network_that_was_trained(second, networks, task, small_data, tmp_path):
    """The graph predicts what the torch network predicts, also read from its folder, and well."""
    images = squares_of(small_data)
    expected = networks[1].predict_proba(images.reshape(240, -1).astype(np.float32))
    probs = load_runtime(second.model).probabilities(images)
    assert probs == pytest.approx(expected, abs=1e-4)
    assert (second.model.architecture, second.model.size) == ("conv", 32)
    assert second.model.labels == task.dataset.classes
    second.model.save(tmp_path / "model")
    assert (load_runtime(read_model(tmp_path / "model")).probabilities(images) == probs).all()
    held = np.array([int(name.partition(".")[0]) for name in np.array(task.dataset.names)[task.held]])
    assert (probs[held].argmax(axis=1) == small_data.truth[held]).mean() > 0.6


@pytest.mark.train
@pytest.mark.usefixtures("two_epochs")
def test_cnn_2_as_published_rounds_its_scores(second, task, small_data, monkeypatch):
    """In the filter and in the saved model; CNN 1 never rounded."""
    published = cnn_2(replace(task, published=True))
    assert published.model.facts["rounded"]
    assert published.model.facts["published"]
    assert "rounded" not in second.model.facts
    probs = load_runtime(published.model).probabilities(squares_of(small_data))
    logs = np.log(probs[:, 0]) - np.log(probs[:, 1])
    assert logs == pytest.approx(np.round(logs), abs=1e-3)
    monkeypatch.setattr(systems, "with_graph", without_graph)
    assert "rounded" not in cnn_1(replace(task, published=True)).model.facts


# Model I and Model II.


@pytest.mark.train
def test_model_2_keeps_the_labels_it_agrees_with(task, small_data):
    """The graph predicts what backbone and head predict, and the facts name the backbone."""
    two = model_2(task)
    assert [epoch.stage for epoch in two.history] == ["trusted"] * 6 + ["trusted and kept"] * 6
    assert 0 < two.model.facts["kept"] < two.model.facts["kept_of"] == 120
    assert two.model.architecture == two.model.facts["backbone"] == "tiny"
    assert (two.model.facts["size"], two.model.facts["weights"]) == (32, "built in")
    images = squares_of(small_data)
    expected = two.model.probabilities(frozen_backbone(task).embed(images))
    assert load_runtime(two.model).probabilities(images) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("inception_v33", "expected the name of a model of timm, got 'inception_v33'"),
        ("inception_v3", r"'inception_v3' would come from the hub.*give a local file"),
    ],
)
def test_a_backbone_that_cannot_be_had_is_refused_before_any_work(task, name, message):
    """An unknown name, and one whose weights only the hub has."""
    with pytest.raises(UsageError, match=message):
        model_1(replace(task, backbone=name))


def test_the_backbone_is_the_packaged_one(monkeypatch, task):
    """At 128 px with its own preprocessing, but as published; a local file belongs to a named one."""
    wanted = {}

    def load(name, _, **settings):
        wanted.clear()
        wanted.update(settings, name=name)
        return TinyBackbone()

    monkeypatch.setattr(systems, "load_backbone", load)
    weights = task.options.cache / "x.safetensors"
    task = replace(task, backbone=None, options=replace(task.options, weights=weights))
    common = {"name": "tf_efficientnet_lite0", "size": 128, "weights": None, "dtype": "float32"}
    frozen_backbone(task)
    assert wanted == common | {"interpolation": "bicubic"}
    frozen_backbone(replace(task, published=True))
    choices = {"features": "map", "interpolation": "nearest", "preprocessing": FROM_ZERO_TO_ONE}
    assert wanted == common | choices
    frozen_backbone(replace(task, backbone="inception_v3", size=160))
    assert (wanted["name"], wanted["size"], wanted["weights"]) == ("inception_v3", 160, weights)
    frozen_backbone(replace(task, backbone="tiny", published=True))
    assert "features" not in wanted


@pytest.mark.slow
@pytest.mark.usefixtures("two_epochs")
@pytest.mark.parametrize("published", [False, True])
def test_a_pretrained_network_works_both_ways(tmp_path, published):
    """With the packaged weights the saved graph predicts, and the choices are in the model."""
    data = draw_data(tmp_path / "data", 120)
    model = model_2(small_task(data, tmp_path, size=32, published=published)).model
    assert model.facts["weights"] == "package"
    chosen = ("map", "nearest") if published else ("stages", "bicubic")
    assert (model.features, model.interpolation) == chosen
    assert model.mean == ((0.0, 0.0, 0.0) if published else (0.5, 0.5, 0.5))
    assert (model.head.mean == 0).all() == published
    probs = load_runtime(model).probabilities(squares_of(data)[:8])
    assert probs.sum(axis=1) == pytest.approx(1, abs=1e-4)


# The search for settings.

GRID = {"C": [1e-4, 1.0, 100.0]}


@pytest.fixture(scope="module")
def clouds():
    """(X, trusted): 120 rows of four features in three classes, every third without a label."""
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 3
    X = (rng.normal(size=(120, 4)) + np.eye(3, 4)[truth]).astype(np.float32)
    return X, np.where(rng.random(120) < 0.3, UNKNOWN, truth)


def test_the_scores_are_scikit_learns(clouds, tmp_path):
    """One GridSearchCV over the whole grid has the same scores; every score and the choice are written."""
    X, trusted = clouds
    known = trusted != UNKNOWN
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    whole = GridSearchCV(LogisticRegression(), GRID, cv=folds).fit(X[known], trusted[known])
    steps = []
    for workers in (1, 3):
        best, found = search(
            LogisticRegression(),
            GRID,
            *clouds,
            workers=workers,
            folder=tmp_path,
            progress=lambda *step: steps.append(step),
        )
        assert best == whole.best_params_
        assert found["best_accuracy"] == pytest.approx(whole.best_score_)
        assert found["notebook_accuracy"] == pytest.approx(whole.cv_results_["mean_test_score"][1])
    assert steps == [("search", done, 3) for done in (1, 2, 3)] * 2
    rows = list(csv.DictReader((tmp_path / "search.csv").read_text().splitlines()))
    assert [row["C"] for row in rows] == ["0.0001", "1.0", "100.0"]
    assert [row["notebook"] for row in rows] == ["", "yes", ""]
    for row in rows:
        scores = [float(row[f"fold_{fold}"]) for fold in (1, 2, 3)]
        assert float(row["accuracy"]) == pytest.approx(np.mean(scores), abs=1e-4)
    found = json.loads((tmp_path / "search.json").read_text())
    assert (found["grid"], found["notebook"]) == (GRID, {"C": 1.0})
    assert found["scored_on"] == f"3-fold cross-validation on {known.sum()} trusted images, none held out"


def test_the_notebooks_choice_is_in_the_grid(clouds):
    """Or the search could not report what its own choice is worth; a tie goes to what is named first."""
    best, _ = search(LogisticRegression(), {"tol": [1e-4, 1.1e-4]}, *clouds)
    assert best == {"tol": 1e-4}
    with pytest.raises(ValueError, match="expected the classifier's own settings among the combinations"):
        search(LogisticRegression(), {"C": [3.0]}, *clouds)


def test_a_class_of_two_images_cannot_be_searched(clouds):
    """Each fold needs one of each class."""
    X, trusted = clouds
    few = np.where((trusted == 2) & (np.arange(120) > 10), UNKNOWN, trusted)
    left = (few == 2).sum()
    with pytest.raises(LabelError, match=f"expected 3 or more trusted images of each class .*, got {left}"):
        search(LogisticRegression(), GRID, X, few)


@pytest.mark.train
def test_a_network_is_trained_with_the_best_settings(small_data, tmp_path, monkeypatch):
    """Of the training and of the layers; the facts name them."""
    grid = [{"epochs": [6, 2]}, {"epochs": [6], "build__hidden": [(16, 8, 4)]}]
    monkeypatch.setattr(systems, "HEAD_GRID", grid)
    task = small_task(small_data, tmp_path / "cache", search=True, folder=tmp_path, backbone="tiny")
    trained = model_1(task)
    found = trained.model.facts["search"]
    assert (len(trained.history), found["combinations"]) == (found["best"]["epochs"], 3)
    assert found["notebook"] == {"epochs": 6}
    assert trained.seconds["search"] > 0
    rows = list(csv.DictReader((tmp_path / "search.csv").read_text().splitlines()))
    assert [row["build__hidden"] for row in rows] == ["(1024, 512, 128)"] * 2 + ["(16, 8, 4)"]


@pytest.mark.train
def test_the_grids_are_small_and_hold_the_notebooks_choice(task):
    """At most twelve combinations, the settings of the classifier among them."""
    classifiers = (systems.cnn_classifier(task, Cnn()), systems.head_classifier(task))
    for classifier, grid in zip(classifiers, (systems.CNN_GRID, systems.HEAD_GRID), strict=True):
        own, combinations = classifier.get_params(), list(ParameterGrid(grid))
        assert 4 <= len(combinations) <= 12
        assert any({**own, **parameters} == own for parameters in combinations)
