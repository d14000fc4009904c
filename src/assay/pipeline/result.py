"""RunResult: what is in the folder of a finished run, for a notebook."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from assay.errors import DataError
from assay.evaluate import Cost, Evaluation
from assay.noise import Noise
from assay.pipeline.folder import RunFolder
from assay.pipeline.measure import TITLES, why_not_measured
from assay.pipeline.outputs import read_facts

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from assay.predict.predictor import Predictor


@dataclass(frozen=True, eq=False)
class RunLabels:
    """labels.csv: one row an image, in input order."""

    frame: "pl.DataFrame"
    """file, noisy_label, trusted_label, corrected_label, confidence, label_quality, action, reason."""

    @property
    def issues(self) -> "pl.DataFrame":
        """Images whose noisy label is probably wrong and was not checked, the most likely wrong first."""
        from polars import col  # takes a third of a second

        unchecked = ~col("action").is_in(["trusted", "skipped"]) & (col("noisy_label") != "")
        wrong = unchecked & (col("noisy_label") != col("corrected_label"))
        return self.frame.filter(wrong).sort("label_quality", maintain_order=True)

    def to_pandas(self) -> "pd.DataFrame":
        """The same as a pandas frame.

        Raises
        ------
        ImportError : pandas is not installed
        """
        import pandas as pd

        return pd.DataFrame(self.frame.to_dict(as_series=False))

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        counts = self.frame["action"].value_counts(sort=True).rows()
        return f"{len(self):,} labels: " + ", ".join(f"{n:,} {action}" for action, n in counts)

    def _repr_html_(self) -> str:
        return str(self.frame._repr_html_())


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a finished run found, as its files say; ``load_run`` gives the same."""

    path: Path
    """The run folder."""
    noise: Noise
    """How wrong the noisy labels are."""
    evaluation: Mapping[str, Evaluation]
    """``assay`` and ``histogram`` on the holdout, and with ``_leaks_included`` if near-duplicates of training
    images were left out; ``assay_`` and ``labels_`` with ``cross_validated``, on trusted images out of fold,
    or with ``validated``, on images that fine-tuning kept aside."""
    cost: Cost
    warnings: tuple[str, ...]
    """What a user should know before relying on it."""
    better_than_baseline: bool | None
    """Whether the model is measurably better on the holdout; None if that was not measured."""
    facts: Mapping[str, Any] = field(repr=False)
    """All of noise.json and evaluation.json."""

    @cached_property
    def labels(self) -> RunLabels:
        """The label of each image, corrected, with confidence, action and reason."""
        import polars as pl  # takes a third of a second

        # Labels such as NA and 007 stay text. polars has no strings that are not Unicode, file names may be.
        frame = pl.read_csv(self.path / "labels.csv", infer_schema=False, encoding="utf8-lossy")
        numbers = pl.col("confidence", "label_quality").cast(pl.Float64)
        return RunLabels(frame.with_columns(pl.col(pl.String).fill_null("")).with_columns(numbers))

    @cached_property
    def model(self) -> "Predictor":
        """The trained classifier, which predicts and evaluates."""
        from assay.predict.predictor import load_model

        return load_model(self.path)

    def __repr__(self) -> str:
        rows = [f"  {name}: {text}" for name, text in self._rows()]
        return "\n".join([f"RunResult({str(self.path)!r})", *rows])

    def _repr_html_(self) -> str:
        cells = [(html.escape(name), html.escape(text)) for name, text in self._rows()]
        return f"<table>{''.join(f'<tr><th>{name}</th><td>{text}</td></tr>' for name, text in cells)}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        """What a person reads first, named."""
        counts = ", ".join(f"{n:,} {action}" for action, n in self.facts["labels"]["counts"].items() if n)
        found = [("noise", self.facts["noise"]["summary"]), ("labels", counts)]
        for name, title in TITLES.items():
            if name in self.evaluation:
                share, n = self.evaluation[name].accuracy, self.evaluation[name].n
                figure = f"{share.estimate:.1%} right ({share.low:.1%} to {share.high:.1%}), n = {n:,}"
                found.append((title, figure))
        if "assay" not in self.evaluation:
            why = why_not_measured(self.evaluation, self.facts["held_out"])
            found.append(("assay", f"not measured. {why}."))
        return [*found, *(("warning", warning) for warning in self.warnings)]


def load_run(path: Path | str) -> RunResult:
    """The results of a finished run, from its folder.

    Raises
    ------
    DataError : no finished run is there, or one whose files were damaged
    OtherRunError : a run of another version of assay
    """
    path = Path(path)
    if RunFolder(path).record().get("status") != "done":
        raise DataError(f"{path}: expected the folder of a finished run; run 'assay run' to its end first")
    facts = read_facts(path)
    try:
        return RunResult(
            path=path,
            noise=_noise(facts["noise"]),
            evaluation={name: Evaluation.from_json(found) for name, found in facts["systems"].items()},
            cost=msgspec.convert(facts["cost"], Cost),
            warnings=tuple(facts["warnings"]),
            better_than_baseline=facts["better_than_baseline"],
            facts=facts,
        )
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected the results that assay wrote, got others ({error!r}); run it again"
        ) from error


def _noise(found: Mapping[str, Any]) -> Noise:
    renamed = {**found, "structure": found["symmetry"]}
    return msgspec.convert(renamed, Noise, dec_hook=lambda _, rows: np.array(rows))
