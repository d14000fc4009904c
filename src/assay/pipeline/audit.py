"""An audit of a data set, and its files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.correct.audit import Audit, Finding, audit, audit_to_json, findings
from assay.correct.outliers import SHARE
from assay.data.dataset import Dataset
from assay.data.write import Column, write_json, write_rows
from assay.embed.images import Features
from assay.pipeline.outputs import write_issues
from assay.types import Labels, Mask

COLUMNS = ("file", "kind", "others", "score")

BETWEEN = "|"
"""Separates the names in the column ``others``; audit.json has a list."""


@dataclass(frozen=True)
class Audited:
    """A data set and its audit."""

    dataset: Dataset
    """Its ``skipped`` has all images that could not be used."""
    found: Audit
    run: Mapping[str, str] | None = None
    """``run_digests`` of the run whose data set it is; None where there is no run."""

    def to_json(self) -> dict[str, Any]:
        """What audit.json holds."""
        titles = self.dataset.titles or self.dataset.classes
        why = Counter(skipped.reason for skipped in self.dataset.skipped.values())
        about: dict[str, Any] = {
            "images": len(self.dataset),
            "skipped": len(self.dataset.skipped),
            "skipped_because": dict(why.most_common()),
        }
        if self.run is not None:
            about["run"] = dict(self.run)
        return about | audit_to_json(self.found, self.dataset.names, titles)


def run_digests(record: Mapping[str, Any]) -> dict[str, str]:
    """What identifies a run: sha256 of its names and labels, images, split and corrected labels."""
    return {
        "labels": record["data"]["labels"],
        "contents": record["data"]["contents"],
        "split": record["split"]["digest"],
        "corrected": record["outputs"]["labels.csv"],
    }


def audit_dataset(
    dataset: Dataset,
    features: Features,
    *,
    holdout: Mask | None = None,
    corrected: Labels | None = None,
    run: Mapping[str, str] | None = None,
    share: float = SHARE,
    seed: int = 0,
) -> Audited:
    """Audit a data set whose features are known.

    Parameters
    ----------
    holdout : held-out images; their trusted labels must be UNKNOWN in ``dataset``
    corrected : the corrected labels, if they are known
    run : ``run_digests``, if it is the data set of a run
    share : of the images that belong, how many may be called outliers
    """
    dataset = features.seen(dataset)  # images that embedding could not read are skipped too
    found = audit(
        features.views,
        features.contents,
        dataset.noisy,
        dataset.trusted,
        usable=dataset.usable,
        holdout=np.zeros(len(dataset), dtype=bool) if holdout is None else holdout,
        n_classes=len(dataset.classes),
        flags=features.flags,
        corrected=corrected,
        share=share,
        seed=seed,
    )
    return Audited(dataset, found, run)


def finding_columns(rows: Sequence[Finding]) -> list[Column]:
    """The ``COLUMNS`` of findings."""
    return [
        [row.file for row in rows],
        [row.kind for row in rows],
        [BETWEEN.join(row.others) for row in rows],
        [round(row.score, 4) for row in rows],
    ]


def write_audit(audited: Audited, folder: Path, *, excel_safe: bool = False) -> None:
    """Write audit.csv, one row a finding, and audit.json; image_issues.csv too if no run wrote it."""
    columns = finding_columns(list(findings(audited.found, audited.dataset.names)))
    write_rows(folder / "audit.csv", COLUMNS, columns, excel_safe=excel_safe)
    write_json(folder / "audit.json", audited.to_json())
    if audited.run is None:
        write_issues(folder, audited.dataset, excel_safe=excel_safe)
