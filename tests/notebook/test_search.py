"""The grid search that is shown."""

import csv
import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from small_tasks import small_task

from assay.errors import LabelError
from assay.notebook import systems
from assay.notebook.search import search
from assay.notebook.systems import model_1
from assay.types import UNKNOWN

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


def test_a_tie_goes_to_what_is_named_first(clouds):
    """Equal scores change nothing without need."""
    best, _ = search(LogisticRegression(), {"tol": [1e-4, 1.1e-4]}, *clouds)
    assert best == {"tol": 1e-4}


def test_the_grid_must_hold_the_notebooks_choice(clouds):
    """Otherwise the search could not report what its own choice is worth."""
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


@pytest.mark.parametrize("grid", [systems.CNN_GRID, systems.HEAD_GRID])
def test_the_grids_are_small(grid):
    """At most twelve combinations."""
    assert 4 <= len(ParameterGrid(grid)) <= 12
