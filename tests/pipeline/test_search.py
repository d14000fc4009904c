"""The grid search that is shown."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from small_tasks import small_task

from assay.errors import LabelError
from assay.notebook import cnn, transfer
from assay.notebook.cnn import cnn_1
from assay.notebook.search import search
from assay.notebook.transfer import model_1
from assay.types import UNKNOWN


@pytest.fixture
def task(small_data, tmp_path):
    return small_task(
        small_data, tmp_path / "cache", search=True, folder=tmp_path / "models", backbone="tiny"
    )


@pytest.fixture(scope="module")
def clouds():
    """(X, trusted): 120 rows of four features in three classes, every third without a label."""
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 3
    X = (rng.normal(size=(120, 4)) + np.eye(3, 4)[truth]).astype(np.float32)
    return X, np.where(rng.random(120) < 0.3, UNKNOWN, truth)


GRID = {"C": [1e-4, 1.0, 100.0]}


def test_the_scores_are_scikit_learns(clouds, task):
    """One GridSearchCV over the whole grid has the same scores, with one worker or three."""
    X, trusted = clouds
    known = trusted != UNKNOWN
    parts = StratifiedKFold(3, shuffle=True, random_state=0)
    whole = GridSearchCV(LogisticRegression(), GRID, cv=parts).fit(X[known], trusted[known])
    for workers in (1, 3):
        options = replace(task.options, workers=workers)
        best, found = search(LogisticRegression(), GRID, X, trusted, replace(task, options=options))
        assert best == whole.best_params_
        assert found["best_accuracy"] == pytest.approx(whole.best_score_)
        assert found["notebook_accuracy"] == pytest.approx(whole.cv_results_["mean_test_score"][1])


def test_every_score_is_written(clouds, task):
    """A row for each combination, the notebook's marked; the JSON has the grid and the choice."""
    search(LogisticRegression(), GRID, *clouds, task)
    rows = list(csv.DictReader((task.folder / "search.csv").read_text().splitlines()))
    assert [row["C"] for row in rows] == ["0.0001", "1.0", "100.0"]
    assert [row["notebook"] for row in rows] == ["", "yes", ""]
    for row in rows:
        folds = [float(row[f"fold_{fold}"]) for fold in (1, 2, 3)]
        assert float(row["accuracy"]) == pytest.approx(np.mean(folds), abs=1e-4)
    found = json.loads((task.folder / "search.json").read_text())
    assert found["grid"] == GRID
    assert found["notebook"] == {"C": 1.0}
    known = int((clouds[1] != UNKNOWN).sum())
    assert found["scored_on"] == f"3-fold cross-validation on {known} trusted images, none held out"


def test_a_tie_goes_to_what_is_named_first(clouds, task):
    """Equal scores change nothing without need."""
    best, _ = search(LogisticRegression(), {"tol": [1e-4, 1.1e-4]}, *clouds, task)
    assert best == {"tol": 1e-4}


def test_the_grid_must_hold_the_notebooks_choice(clouds, task):
    """Otherwise the search could not say what its own choice was worth."""
    with pytest.raises(ValueError, match="expected the classifier's own settings among the combinations"):
        search(LogisticRegression(), {"C": [3.0]}, *clouds, task)


def test_a_class_of_two_images_cannot_be_searched(clouds, task):
    """Each fold needs one of each class."""
    X, trusted = clouds
    few = np.where((trusted == 2) & (np.arange(120) > 10), UNKNOWN, trusted)
    left = (few == 2).sum()
    with pytest.raises(LabelError, match=f"expected 3 trusted images or more of each class .*, got {left}"):
        search(LogisticRegression(), GRID, X, few, task)


@pytest.mark.train
def test_a_cnn_learns_with_what_was_found(task, monkeypatch):
    """The best combination is used, and the facts say so."""
    monkeypatch.setattr(cnn, "GRID", {"epochs": [10, 2], "build__dense": [64]})
    trained = cnn_1(task)
    found = trained.model.facts["search"]
    assert len(trained.history) == found["best"]["epochs"]
    assert found["notebook"] == {"build__dense": 64, "epochs": 10}
    assert trained.seconds["search"] > 0
    assert (task.folder / "search.csv").is_file()


@pytest.mark.train
def test_a_head_is_searched_by_its_layers(task, monkeypatch):
    """Sizes of hidden layers are written as they are given."""
    monkeypatch.setattr(transfer, "GRID", [{"epochs": [6]}, {"epochs": [6], "build__hidden": [(16, 8, 4)]}])
    trained = model_1(task)
    rows = list(csv.DictReader((task.folder / "search.csv").read_text().splitlines()))
    assert [row["build__hidden"] for row in rows] == ["(1024, 512, 128)", "(16, 8, 4)"]
    assert trained.model.facts["search"]["combinations"] == 2


@pytest.mark.parametrize("grid", [cnn.GRID, transfer.GRID])
def test_the_grids_are_small(grid):
    """At most twelve combinations."""
    from sklearn.model_selection import ParameterGrid

    assert 4 <= len(ParameterGrid(grid)) <= 12
