"""The arrays of a finished run that cleanlab's functions take."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from assay.errors import DataError
from assay.pipeline.finished import read_finished_run
from assay.pipeline.run_files import PRED_PROBS
from assay.types import UNKNOWN, Labels, Mask, PerImage, Probs, Rows


@dataclass(frozen=True, eq=False)
class CleanlabArrays:
    """The N images of a run that have a noisy label and can be used."""

    files: tuple[str, ...]
    labels: Labels
    """The noisy label: an index into ``classes``."""
    pred_probs: Probs
    """P(true | image) (N, K), out of fold: of heads that saw no label of the image."""
    classes: tuple[str, ...]
    """K names."""
    rows: Rows
    """Their places in labels.csv."""
    label_quality: PerImage
    """P(the noisy label is right), by the run: it knows how labels err, and the trusted ones."""
    is_issue: Mask
    """True where the run's label differs from the noisy one; as ``find_label_issues`` gives it."""

    @property
    def ranked(self) -> Int[np.ndarray, "R"]:
        """The issues, the lowest label quality first; as ``return_indices_ranked_by`` gives them."""
        issues = np.flatnonzero(self.is_issue)
        return issues[np.argsort(self.label_quality[issues], kind="stable")]


def cleanlab_arrays(folder: Path) -> CleanlabArrays:
    """The arrays of the finished run in ``folder``; of a run in shards, of the images that it learned from.

    Raises
    ------
    DataError : no finished run, or one without out-of-fold probabilities, of before they were kept
    """
    run, file = read_finished_run(folder), folder / PRED_PROBS
    try:
        probs = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{file}: expected the out-of-fold probabilities of the run ({error}); run it again with "
            "--overwrite"
        ) from None
    if probs.shape != (len(run), len(run.labels)):
        raise DataError(f"{file}: expected {len(run):,} rows of {len(run.labels)} classes, got {probs.shape}")
    usable = np.array([action != "skipped" for action in run.actions], dtype=bool)
    rows = np.flatnonzero(usable & (run.noisy != UNKNOWN))
    found = probs[rows].astype(np.float64)
    return CleanlabArrays(
        files=tuple(run.names[row] for row in rows.tolist()),
        labels=run.noisy[rows],
        pred_probs=found / found.sum(axis=1, keepdims=True),  # float16 adds up to 1 within a thousandth
        classes=run.titles,
        rows=rows,
        label_quality=run.label_quality[rows],
        is_issue=(run.proposed[rows] != run.noisy[rows]) & (run.proposed[rows] != UNKNOWN),
    )
