"""What a finished run found, read from its files for Python and notebooks."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from assay.data.dataset import ImageSource, Skipped
from assay.data.place import Place, place_of
from assay.data.tree import file_of
from assay.data.write import EXCEL_SAFE, MARKED_FORMULA
from assay.errors import AssayError, DataError, UsageError
from assay.evaluate import Cost, Evaluation
from assay.noise import Noise
from assay.pipeline.run_files import ANNOTATED_COLUMNS, OUTLIER_COLUMN, finished_record, read_facts
from assay.pipeline.shown import TITLES, as_html, headline, why_not_measured
from assay.text import FEW, interval

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars as pl

    from assay.pipeline.cleanlab import CleanlabArrays
    from assay.pipeline.labels_out import ExportedLabels
    from assay.predict.predictor import Predictor


@dataclass(frozen=True, eq=False)
class RunLabels:
    """labels.csv: one row an image, in input order."""

    frame: "pl.DataFrame"
    """file, noisy_label, trusted_label, corrected_label, confidence, label_quality, action, reason,
    outlier_score; of several annotators annotations, agreement, label_gain; of declared groups group."""

    @property
    def issues(self) -> "pl.DataFrame":
        """Images whose noisy label is probably wrong and was not checked, the most likely wrong first."""
        return likely_errors(self.frame)

    def to_pandas(self) -> "pd.DataFrame":
        """The same as a pandas frame."""
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
    """``assay`` and its baseline (``histogram``, of features ``noisy_only``) on the holdout, and with
    ``_leaks_included`` if near-duplicates of training
    images were left out; ``assay_`` and ``labels_`` with ``cross_validated``, on trusted images out of fold,
    or with ``validated``, on images that fine-tuning kept aside."""
    cost: Cost
    warnings: tuple[str, ...]
    """What a user should know before relying on it."""
    better_than_baseline: bool | None
    """Whether the model is measurably better on the holdout; None if that was not measured, and where a model
    of features is as good as its baseline."""
    facts: Mapping[str, Any] = field(repr=False)
    """All of noise.json and evaluation.json."""
    images: ImageSource | None = field(default=None, repr=False)
    """Images that were in memory when the run was made; others are found where they were."""

    @cached_property
    def labels(self) -> RunLabels:
        """The label of each image, corrected, with confidence, action and reason."""
        import polars as pl  # takes a third of a second

        # Labels such as NA and 007 stay text. polars has no strings that are not Unicode, file names may be.
        frame = pl.read_csv(self.path / "labels.csv", infer_schema=False, encoding="utf8-lossy")
        if EXCEL_SAFE in frame.columns:
            frame = frame.drop(EXCEL_SAFE).with_columns(pl.col(pl.String).str.replace(MARKED_FORMULA, "$1"))
        # Strict where a number must be: of a skipped image, or among few, there is no outlier score.
        numbers = pl.col("confidence", "label_quality").cast(pl.Float64)
        for column in {OUTLIER_COLUMN, *ANNOTATED_COLUMNS} & {*frame.columns}:
            frame = frame.with_columns(pl.col(column).cast(pl.Float64, strict=False))
        return RunLabels(frame.with_columns(pl.col(pl.String).fill_null("")).with_columns(numbers))

    def scan_labels(self) -> "pl.LazyFrame":
        """The label of every image as a polars query; of a run in shards ``labels`` has only those of the
        images that it learned from.
        """
        import polars as pl

        parts = self.path / "labels"
        return pl.scan_parquet(parts / "*.parquet") if parts.is_dir() else self.labels.frame.lazy()

    def export_labels(
        self,
        path: Path | str,
        *,
        format: str | None = None,  # noqa: A002  # the word of the flag
        policy: str | None = None,
        like: Path | str | None = None,
        link: bool = False,
        decisions: Path | str | None = None,
        images: Place | str | None = None,
        excel_safe: bool = False,
    ) -> "ExportedLabels":
        """Write the corrected labels for other programs; options are those of ``assay labels``.

        Parameters
        ----------
        path : a file; for the formats ``folders`` and ``huggingface`` a folder, new or empty
        format : ``csv``, ``jsonl``, ``parquet`` (also by the ending of ``path``), ``folders``,
            ``huggingface``, ``coco``, ``fiftyone``, ``label-studio``
        policy : ``sure`` (the default), ``all`` or ``checked``
        like : write a copy of this label file in which only labels differ
        images : where the images are now, if they were moved

        Returns
        -------
        What was written; it prints counts, and how many of the run's labels are right.
        """
        from assay.pipeline.labels_out import export_labels

        return export_labels(
            self.path,
            Path(path),
            format=format,
            policy=policy,
            like=None if like is None else Path(like),
            link=link,
            decisions=None if decisions is None else Path(decisions),
            images=None if images is None else place_of(images),
            source=self.images,
            excel_safe=excel_safe,
        )

    def to_cleanlab(self) -> "CleanlabArrays":
        """``labels`` and out-of-fold ``pred_probs`` for cleanlab, and the issues that assay found."""
        from assay.pipeline.cleanlab import cleanlab_arrays

        return cleanlab_arrays(self.path)

    @cached_property
    def model(self) -> "Predictor":
        """The trained classifier, which predicts and evaluates."""
        from assay.predict.predictor import load_model

        return load_model(self.path)

    def __repr__(self) -> str:
        rows = [f"  {name}: {text}" for name, text in self._rows()]
        return "\n".join([f"RunResult({str(self.path)!r})", *rows])

    def to_pandas(self) -> "pd.DataFrame":
        """The rows of labels.csv as a pandas frame."""
        return self.labels.to_pandas()

    def to_huggingface(self) -> "datasets.Dataset":
        """The images with their labels as a Hugging Face data set, in the order of labels.csv.

        ``noisy_label``, ``trusted_label`` and ``corrected_label`` are ClassLabel columns, None where there is
        none. Images that are files are referred to, others are held in memory; a skipped image is None.

        Raises
        ------
        UsageError : the images are no longer where they were, or the package datasets is missing
        """
        try:
            import datasets
        except ImportError as error:
            raise UsageError("this needs the package datasets: pip install datasets") from error
        frame, source = self.labels.frame, self._images()
        pictures: list[dict[str, Any] | None] = []
        for row, (name, action) in enumerate(frame.select("file", "action").iter_rows()):
            if action == "skipped":
                pictures.append(None)
                continue
            with contextlib.suppress(UsageError):  # an image in an archive, at a URL or in memory is no file
                if (file := file_of(source, row)).is_file():
                    pictures.append({"path": str(file), "bytes": None})
                    continue
            data = source.read(row)
            pictures.append(None if isinstance(data, Skipped) else {"path": name, "bytes": data})
        number = {name: place for place, name in enumerate(self.noise.classes)}
        columns: dict[str, list[Any]] = {"image": pictures}
        kinds: dict[str, Any] = {"image": datasets.Image()}
        for name in frame.columns:
            columns[name] = frame[name].to_list()
            kinds[name] = datasets.Value("float64" if frame[name].dtype.is_float() else "string")
            if name in ("noisy_label", "trusted_label", "corrected_label"):
                columns[name] = [number.get(label) for label in columns[name]]
                kinds[name] = datasets.ClassLabel(names=[*number])
        return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))

    def _images(self) -> ImageSource:
        from assay.pipeline.finished import open_run  # with the networks

        return self.images or open_run(self.path, command="report").images

    def _repr_html_(self) -> str:
        rows = headline(self.facts["noise"]["rate"], self.evaluation)
        rows += [("warning", warning) for warning in self.warnings]
        issues = self.labels.frame.with_row_index("row")
        try:
            images = self._images()
        except AssayError:  # moved or unmounted since
            images = None
        return as_html(f"assay run in {self.path}", rows, likely_errors(issues), images)

    def _rows(self) -> list[tuple[str, str]]:
        counts = ", ".join(f"{n:,} {action}" for action, n in self.facts["labels"]["counts"].items() if n)
        found = [("noise", self.facts["noise"]["summary"]), ("labels", counts)]
        for name, title in TITLES.items():
            if name in self.evaluation:
                n = self.evaluation[name].n
                balanced = interval(vars(self.evaluation[name].balanced_accuracy))
                balanced = f"; balanced {balanced}" if n >= FEW else ""
                right = interval(vars(self.evaluation[name].accuracy), n)
                found.append((title, f"{right} right, n = {n:,}{balanced}"))
        if "assay" not in self.evaluation:
            why = why_not_measured(self.evaluation, self.facts["held_out"])
            found.append(("assay", f"not measured. {why}."))
        return [*found, *(("warning", warning) for warning in self.warnings)]


def likely_errors(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The rows of labels.csv whose noisy label is probably wrong and unchecked, the most likely first."""
    from polars import col  # takes a third of a second

    unchecked = ~col("action").is_in(["trusted", "outlier", "skipped"]) & (col("noisy_label") != "")
    wrong = unchecked & (col("noisy_label") != col("corrected_label"))
    return frame.filter(wrong).sort("label_quality", maintain_order=True)


def load_run(path: Path | str) -> RunResult:
    """The results of a finished run, from its folder.

    Raises
    ------
    DataError : no finished run is there, or one whose files were damaged
    OtherRunError : a run of another version of assay
    """
    path = Path(path)
    finished_record(path)
    facts = read_facts(path)
    try:
        return RunResult(
            path=path,
            noise=msgspec.convert(
                {**facts["noise"], "structure": facts["noise"]["symmetry"]},
                Noise,
                dec_hook=lambda _, rows: np.array(rows),
            ),
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
