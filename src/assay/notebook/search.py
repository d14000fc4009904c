"""A grid search, shown: cross-validated on the trusted images outside the holdout.

The notebook's hyperparameters "were chosen using grid search (not shown)". This one writes every score to
``search.csv``, and the grid and the choice to ``search.json``.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold

from assay.data.write import make_folder, write_json, write_rows
from assay.embed.device import one_thread_each
from assay.errors import LabelError
from assay.types import UNKNOWN, Labels, Matrix, Progress, silent

FOLDS = 3

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]]
"""Parameters of a classifier and the values to try, as for scikit-learn's ``ParameterGrid``."""


def search(
    classifier: Any,
    grid: Grid,
    X: Matrix,
    trusted: Labels,
    *,
    seed: int = 0,
    workers: int = 1,
    folder: Path | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best parameters, and facts about the search as plain JSON.

    Parameters
    ----------
    classifier : with the notebook's settings, which must be in the grid; of equals the first one wins
    trusted : UNKNOWN for all images that must not be used
    workers : combinations tried at the same time
    folder : for all scores; None to keep none

    Raises
    ------
    LabelError : a class with fewer trusted images than folds
    """
    rows = np.flatnonzero(trusted != UNKNOWN)
    fewest = np.unique(trusted[rows], return_counts=True)[1].min(initial=len(rows))
    if fewest < FOLDS:
        raise LabelError(
            f"--search: expected {FOLDS} or more trusted images of each class to train on, got {fewest} "
            "of one; add trusted labels, or leave --search out"
        )
    labels, rows_of_X = trusted[rows], X[rows]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    combinations = list(ParameterGrid(grid))

    def attempt(parameters: Mapping[str, Any]) -> tuple[list[float], float]:
        start = time.perf_counter()
        one = {name: [value] for name, value in parameters.items()}
        found = GridSearchCV(classifier, one, scoring="accuracy", cv=folds, refit=False, error_score="raise")
        scores = found.fit(rows_of_X, labels).cv_results_
        return [float(scores[f"split{fold}_test_score"][0]) for fold in range(FOLDS)], (
            time.perf_counter() - start
        )

    tried = []
    with one_thread_each(), ThreadPoolExecutor(max(workers, 1)) as pool:
        for found in pool.map(attempt, combinations):
            tried.append(found)
            progress("search", len(tried), len(combinations))
    accuracy = [float(np.mean(scores)) for scores, _ in tried]
    best = int(np.argmax(accuracy))  # the first of equals
    settings = classifier.get_params()
    own = [{**settings, **parameters} == settings for parameters in combinations]
    if not any(own):
        raise ValueError("grid: expected the classifier's own settings among the combinations, got others")
    notebook = own.index(True)
    facts = {
        "scored_on": f"{FOLDS}-fold cross-validation on {len(rows):,} trusted images, none held out",
        "combinations": len(tried),
        "best": dict(combinations[best]),
        "best_accuracy": accuracy[best],
        "notebook": dict(combinations[notebook]),
        "notebook_accuracy": accuracy[notebook],
    }
    if folder is not None:
        make_folder(folder)
        names = sorted({name for parameters in combinations for name in parameters})
        values = [{**settings, **parameters} for parameters in combinations]
        columns = {
            **{name: [str(value[name]) for value in values] for name in names},
            "accuracy": [f"{share:.4f}" for share in accuracy],
            **{f"fold_{fold + 1}": [f"{scores[fold]:.4f}" for scores, _ in tried] for fold in range(FOLDS)},
            "seconds": [f"{seconds:.1f}" for _, seconds in tried],
            "notebook": ["yes" if place == notebook else "" for place in range(len(tried))],
        }
        write_rows(folder / "search.csv", tuple(columns), list(columns.values()))
        write_json(folder / "search.json", {**facts, "grid": grid})
    return dict(combinations[best]), facts
