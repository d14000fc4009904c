"""The one place of a comparison that reads the trusted labels of the holdout: who was right where."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.dataset import Dataset
from assay.errors import DataError
from assay.evaluate import Evaluation, evaluate_predictions, mcnemar
from assay.types import Labels, Probs

RIVALS = {"against_baseline": "histogram", "against_model_2": "model-2"}
"""Column -> the recipe that every other one is compared with in it."""

NOT_MEASURED: dict[str, Any] = dict.fromkeys(
    ("accuracy", "accuracy_low", "accuracy_high", "n", "macro_f1", "source", *RIVALS)
)
"""The figures of a row of which there are none."""

FIGURES = tuple(NOT_MEASURED)


@dataclass(frozen=True)
class Verdict:
    """The figures of each recipe, all on the same images."""

    figures: Mapping[str, Mapping[str, Any]]
    """Recipe -> the values of ``FIGURES``."""
    left_out: tuple[str, ...]
    """Held-out images whose picture was learned from: their figures would measure memory."""
    skipped: int
    """Held-out images that could not be used."""


def judge(dataset: Dataset, held: Labels, said: Mapping[str, Path], left_out: Iterable[str]) -> Verdict:
    """Evaluate what each recipe said of the held-out images.

    Parameters
    ----------
    held : the held-out rows
    said : recipe -> its holdout.csv
    left_out : names of images that are not to count

    Raises
    ------
    DataError : a holdout.csv that was changed or belongs to other images
    """
    row_of = {dataset.names[row]: row for row in held.tolist()}
    found = {system: _read(file, dataset.classes) for system, file in said.items()}
    # Models of different size may refuse different images; the figures are of those that all could use.
    used = [name for name in row_of if all(name in probs for probs in found.values())]
    leaked = {*left_out}
    names = [name for name in used if name not in leaked]
    truth = dataset.trusted[[row_of[name] for name in names]]
    probs = {system: np.array([rows[name] for name in names]) for system, rows in found.items()}
    figures = _figures(truth, probs, dataset.titles or dataset.classes) if names else {}
    return Verdict(
        {system: figures.get(system, NOT_MEASURED) for system in said},
        tuple(name for name in used if name in leaked),
        len(row_of) - len(used),
    )


def _figures(truth: Labels, probs: Mapping[str, Probs], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    answers = {system: said.argmax(axis=1) for system, said in probs.items()}
    figures = {}
    for system, said in probs.items():
        paired = {
            column: mcnemar(truth, answers[rival], answers[system]).to_json()
            if rival in answers and rival != system
            else None
            for column, rival in RIVALS.items()
        }
        figures[system] = _flat(evaluate_predictions(truth, said, names, source="holdout")) | paired
    return figures


def _flat(found: Evaluation) -> dict[str, Any]:
    return {
        "accuracy": found.accuracy.estimate,
        "accuracy_low": found.accuracy.low,
        "accuracy_high": found.accuracy.high,
        "n": found.n,
        "macro_f1": found.report.macro.f1,
        "source": found.source,
    }


def _read(file: Path, classes: tuple[str, ...]) -> dict[str, list[float]]:
    """Name -> P(class) in the order of ``classes``."""
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
            header, *rows = csv.reader(opened)
        order = [header.index(label, 1) for label in classes]
        return {row[0]: [float(row[place]) for place in order] for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise DataError(
            f"{file}: expected what a comparison writes, got something else ({error}); delete it and give "
            "the same command again"
        ) from error


def leaked_names(
    dataset: Dataset, held: Labels, contents: Iterable[bytes | None], run: Path | None
) -> set[str]:
    """Held-out images whose picture is also among those that were learned from.

    Byte for byte, and, where assay's own run looked for them, as copies of other bytes.

    Parameters
    ----------
    contents : sha256 of each image's bytes
    run : the folder of that run
    """
    hashes = list(contents)
    fit = np.setdiff1d(np.flatnonzero(dataset.usable), held)
    fitted = {hashes[row] for row in fit.tolist()} - {None}
    found = {dataset.names[row] for row in held.tolist() if hashes[row] in fitted}
    if run is not None:
        evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        found |= {*evaluation.get("left_out", ())}
    return found
