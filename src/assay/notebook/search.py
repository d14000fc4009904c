"""A grid search, shown: cross-validated on the trusted images that may be learned from.

The notebook's hyperparameters "were chosen using grid search (not shown)". This one writes every score
that it saw to ``search.csv``, and what it tried and chose to ``search.json``.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold

from assay.data.write import write_json, write_rows
from assay.embed.device import one_thread_each
from assay.errors import LabelError
from assay.notebook.sequential import SequentialClassifier
from assay.notebook.task import Task
from assay.notebook.teaching import TrainingData
from assay.types import UNKNOWN, Labels, Matrix

FOLDS = 3

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]]
"""Parameters of a classifier and the values to try, as scikit-learn's ``ParameterGrid`` takes them."""


@dataclass(frozen=True)
class Tried:
    """One combination and how it did."""

    parameters: Mapping[str, Any]
    accuracy: float
    """Mean over the folds, on the part that was left out."""
    folds: tuple[float, ...]
    seconds: float


def searched(
    training_data: TrainingData, network: SequentialClassifier, grid: Grid
) -> tuple[SequentialClassifier, dict[str, Any]]:
    """``network`` with the best settings of ``grid``, and facts about the search; as it was, without one."""
    if not training_data.task.search:
        return network, {}
    with training_data.watch.stage("search"):
        best, facts = search(network, grid, training_data.X, training_data.trusted, training_data.task)
    return clone(network).set_params(**best), {"search": facts}


def search(
    classifier: Any, grid: Grid, X: Matrix, trusted: Labels, task: Task
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best parameters, and what was found, as JSON has it; all scores are written to the task's folder.

    Parameters
    ----------
    classifier : with the notebook's own settings; a tie goes to what the grid names first
    trusted : UNKNOWN for all images that must not be looked at

    Raises
    ------
    LabelError : a class with fewer trusted images than folds
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    fewest = np.unique(trusted[rows], return_counts=True)[1].min(initial=len(rows))
    if fewest < FOLDS:
        raise LabelError(
            f"--search: expected {FOLDS} trusted images or more of each class to learn from, got {fewest} "
            "of one; add trusted labels, or leave --search out"
        )
    tried = _try_all(classifier, grid, X[rows], trusted[rows], task)
    best = max(tried, key=lambda one: one.accuracy)  # the first of equals
    own = _own(classifier, tried)
    found = {
        "scored_on": f"{FOLDS}-fold cross-validation on {len(rows):,} trusted images, none held out",
        "combinations": len(tried),
        "best": dict(best.parameters),
        "best_accuracy": best.accuracy,
        "notebook": dict(own.parameters),
        "notebook_accuracy": own.accuracy,
    }
    if task.folder is not None:
        _write(task.folder, grid, tried, found, classifier.get_params())
    return dict(best.parameters), found


def _try_all(classifier: Any, grid: Grid, X: Matrix, labels: Labels, task: Task) -> list[Tried]:
    """Each combination by scikit-learn's own search, several at once, with the same scores."""
    parts = StratifiedKFold(FOLDS, shuffle=True, random_state=task.seed)
    combinations = [{name: [value] for name, value in one.items()} for one in ParameterGrid(grid)]

    def attempt(one: dict[str, list[Any]]) -> Tried:
        start = time.perf_counter()
        search = GridSearchCV(classifier, one, scoring="accuracy", cv=parts, refit=False, error_score="raise")
        found = search.fit(X, labels).cv_results_
        scores = tuple(float(found[f"split{fold}_test_score"][0]) for fold in range(FOLDS))
        return Tried(found["params"][0], float(np.mean(scores)), scores, time.perf_counter() - start)

    tried = []
    with one_thread_each(), ThreadPoolExecutor(max(task.options.workers, 1)) as pool:
        for one in pool.map(attempt, combinations):
            tried.append(one)
            task.progress("search", len(tried), len(combinations))
    return tried


def _own(classifier: Any, tried: Sequence[Tried]) -> Tried:
    """The combination that is the notebook's: what the classifier has without a search."""
    settings = classifier.get_params()
    for one in tried:
        if all(settings[name] == value for name, value in one.parameters.items()):
            return one
    raise ValueError("grid: expected the classifier's own settings among the combinations, got others")


def _write(
    folder: Path, grid: Grid, tried: Sequence[Tried], found: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for one in tried for name in one.parameters})
    header = (*names, "accuracy", *(f"fold_{fold + 1}" for fold in range(FOLDS)), "seconds", "notebook")
    values = [{**settings, **one.parameters} for one in tried]
    columns = [[str(value[name]) for value in values] for name in names]
    columns += [[f"{one.accuracy:.4f}" for one in tried]]
    columns += [[f"{one.folds[fold]:.4f}" for one in tried] for fold in range(FOLDS)]
    columns += [[f"{one.seconds:.1f}" for one in tried]]
    columns += [["yes" if one.parameters == found["notebook"] else "" for one in tried]]
    write_rows(folder / "search.csv", header, columns)
    write_json(folder / "search.json", {**found, "grid": grid})
