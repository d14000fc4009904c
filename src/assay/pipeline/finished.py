"""A finished run read back: its results for a notebook, its labels and images for the other commands."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from jaxtyping import Float

from assay.data.dataset import Dataset, ImageSource, PickedSource, ReadOptions, Skipped
from assay.data.manifest import listing_of
from assay.data.place import Place, Url, is_url, place_of
from assay.data.read import list_images
from assay.data.tables import read_csv, shown
from assay.data.vectors import read_vectors
from assay.data.write import EXCEL_SAFE, MARKED_FORMULA
from assay.embed.cache import find_store
from assay.embed.given import given_features
from assay.embed.images import Features, embed_images
from assay.errors import AssayError, DataError, UsageError
from assay.evaluate import Cost, Evaluation
from assay.noise import Noise
from assay.pipeline.folder import READING, SHARDS, RunFolder, contents_digest
from assay.pipeline.measure import TITLES, why_not_measured
from assay.pipeline.options import uses_flip_tta
from assay.pipeline.outputs import (
    ANNOTATED_COLUMNS,
    DECIDED,
    GROUP_COLUMN,
    HOLDOUT,
    LABEL_COLUMNS,
    OUTLIER_COLUMN,
    read_facts,
)
from assay.pipeline.shown import as_html, headline
from assay.scale.shards import gather, read_shard, shard_path
from assay.text import FEW, interval
from assay.types import UNKNOWN, Batch, Groups, Labels, Mask, PerImage, Progress, silent

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
        frame, source, folder = self.labels.frame, self._images(), None
        if (place := read_finished_run(self.path).stored_place) is not None:
            folder = place if isinstance(place, Path) and place.is_dir() else None
        pictures: list[dict[str, Any] | None] = []
        for row, (name, action) in enumerate(frame.select("file", "action").iter_rows()):
            if action == "skipped":
                pictures.append(None)
            elif folder is not None and (folder / name).is_file():
                pictures.append({"path": str(folder / name), "bytes": None})
            else:
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
    _finished_record(path)
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


@dataclass(frozen=True)
class FinishedRun:
    """N images in the order of labels.csv."""

    folder: Path
    record: Mapping[str, Any]
    """run.json."""
    names: tuple[str, ...]
    """Relative to the root of the images; as a table wrote it where a row has no image."""
    labels: tuple[str, ...]
    """The K labels as they came in."""
    titles: tuple[str, ...]
    """K names for people."""
    noisy: Labels
    trusted: Labels
    """UNKNOWN for the holdout, whose labels labels.csv does not have; includes decisions of a review."""
    proposed: Labels
    """The most probable class; UNKNOWN where skipped."""
    confidence: PerImage
    """P(proposed is right)."""
    label_quality: PerImage
    """P(the noisy label is right)."""
    actions: tuple[str, ...]
    reasons: tuple[str, ...]
    groups: Groups | None
    """See ``Dataset.groups``."""
    outlier_score: PerImage | None
    """Above 1: an outlier; NaN where skipped. None of a run of before this column, or with too few images."""
    annotated: Mapping[str, PerImage]
    """The further columns of a run of several annotators, by name; empty for others."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def held_out(self) -> Mask:
        """True for images of the holdout."""
        return np.array([reason == HOLDOUT for reason in self.reasons], dtype=bool)

    @property
    def decided(self) -> dict[int, int]:
        """Row -> class index of the images that a person decided, or UNKNOWN: see ``Dataset.decided``."""
        return {row: int(self.trusted[row]) for row, reason in enumerate(self.reasons) if reason == DECIDED}

    def label(self, index: int) -> str | None:
        """As it came in; None of UNKNOWN."""
        return None if index == UNKNOWN else self.labels[index]

    def title(self, index: int) -> str:
        """The class name for people."""
        return "no label" if index == UNKNOWN else self.titles[index]

    @cached_property
    def is_open(self) -> Mask:
        """Images that a person may decide: usable ones without a trusted label."""
        skipped = np.array([action == "skipped" for action in self.actions], dtype=bool)
        decided = np.zeros(len(self), dtype=bool)
        decided[[*self.decided]] = True
        may: Mask = (self.trusted == UNKNOWN) & ~skipped & ~decided & ~self.held_out
        return may

    @cached_property
    def is_unlabelled(self) -> Mask:
        """Usable images that are not in the file of trusted labels, decided ones included: decided images
        were chosen, not drawn, so neither they nor the rest are a fair sample.
        """
        decided = np.zeros(len(self), dtype=bool)
        decided[[*self.decided]] = True
        may: Mask = self.is_open | decided
        return may

    @property
    def stored_place(self) -> Place | None:
        """The root that the names are relative to; None where the images were in memory."""
        stored = self.record.get("images")
        return place_of(stored) if isinstance(stored, str) else None

    @property
    def reading(self) -> ReadOptions:
        """The options with which the run read its images and labels."""
        stored = self.record.get("reading", {})
        return ReadOptions(**{name: stored[name] for name in READING if name in stored})

    def dataset(self, images: ImageSource) -> Dataset:
        """Its images and labels, in the order of labels.csv, decisions apart from trusted labels."""
        trusted, decided = self.trusted.copy(), self.decided
        trusted[[*decided]] = UNKNOWN  # figures rest on the file of trusted labels alone
        return Dataset(
            self.names,
            images,
            self.labels,
            self.noisy,
            trusted,
            self.titles,
            groups=self.groups,
            decided=decided,
            accept_truncated=self.reading.accept_truncated,
            limits=self.reading.limits,
        )


def read_finished_run(folder: Path) -> FinishedRun:
    """Read run.json, labels.csv and the model's labels.json."""
    record = _finished_record(folder)
    table = read_csv(folder / "labels.csv", LABEL_COLUMNS)
    header = table.columns or ()
    if header[: len(LABEL_COLUMNS)] != LABEL_COLUMNS or not table.rows:
        raise DataError(f"{table.path}: expected the columns {', '.join(LABEL_COLUMNS)} and a row an image")
    columns = dict(zip(header, zip(*table.rows, strict=True), strict=True))
    file = folder / "model" / "labels.json"
    try:
        of_model = json.loads(file.read_text(encoding="utf-8"))
        labels, titles = tuple(map(str, of_model["labels"])), tuple(map(str, of_model["titles"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: expected the labels of the run's model ({error!r}); run it again") from None
    index = {label: i for i, label in enumerate(labels)} | {"": UNKNOWN}  # an empty cell is no label
    names = ("noisy_label", "trusted_label", "corrected_label")
    try:
        noisy, trusted, proposed = (np.array([index[cell] for cell in columns[name]]) for name in names)
    except KeyError as error:
        raise DataError(f"{table.path}: {error} is not a class of the run's model; run it again") from None
    try:
        confidence, quality = (
            np.array(list(map(float, columns[name]))) for name in ("confidence", "label_quality")
        )
        groups = np.array(list(map(int, columns[GROUP_COLUMN]))) if GROUP_COLUMN in columns else None
        scores = np.array([float(cell or "nan") for cell in columns.get(OUTLIER_COLUMN, ())])
        annotated = {
            name: np.array([float(cell or "nan") for cell in columns[name]])
            for name in ANNOTATED_COLUMNS
            if name in columns
        }
    except ValueError as error:
        raise DataError(f"{table.path}: expected numbers ({error}); run it again") from None
    return FinishedRun(
        folder=folder,
        record=record,
        names=columns["file"],
        labels=labels,
        titles=titles or labels,
        noisy=noisy,
        trusted=trusted,
        proposed=proposed,
        confidence=confidence,
        label_quality=quality,
        actions=columns["action"],
        reasons=columns["reason"],
        groups=groups,
        outlier_score=scores if np.isfinite(scores).any() else None,
        annotated=annotated,
    )


@dataclass(frozen=True)
class OpenedRun(FinishedRun):
    """A finished run with its images."""

    images: ImageSource
    """Reads the bytes of row i."""
    root: Place
    """The place of the images, which the names are relative to."""

    @cached_property
    def names_in_order(self) -> tuple[str, ...]:
        """Names in the order of the images' place, which labels without file names follow; labels.csv has
        the order of the noisy table.
        """
        if not isinstance(self.images, PickedSource):
            return self.names
        placed = zip(self.images.images, self.names, strict=True)
        return tuple(name for _, name in sorted((place, name) for place, name in placed if place is not None))


def open_run(
    folder: Path,
    images: Place | None = None,
    *,
    follow_symlinks: bool = False,
    command: str,
    features: bool = False,
) -> OpenedRun:
    """Read a finished run and open its images.

    Parameters
    ----------
    images : where the images are; by default where they were when the run was made
    command : the command that messages advise to give again
    features : open the features of a run that was given them, whose file ``images`` then is
    """
    run = read_finished_run(folder)
    if features and "features" in run.record:
        stored = run.record["features"]
        if isinstance(images, Url):
            raise UsageError(f"expected a file of features here, got {images}; download it")
        file = images or (Path(stored) if stored else None)
        if file is None or (images is None and not file.exists()):
            where = "were an array in memory" if file is None else f"are no longer at {file}"
            raise UsageError(
                f"the features of {folder} {where}; name their file: assay {command} {folder} FILE"
            )
        return OpenedRun(**vars(run), images=_open_features(run, file), root=file)
    root = images or run.stored_place
    if root is None and "features" in run.record:
        raise UsageError(
            f"{folder} was made from features without images, which assay {command} shows; name their place: "
            f"assay {command} {folder} IMAGES, with names as in labels.csv"
        )
    if root is None and (listed := _open_named(run)) is not None:
        return OpenedRun(**vars(run), images=listed, root=Path.cwd())
    if root is None:
        raise UsageError(
            f"{folder} does not record where its images are; name the place: assay {command} {folder} IMAGES"
        )
    if images is None and isinstance(root, Path) and not root.exists():
        raise UsageError(
            f"the images of {folder} are no longer at {root}; name their place: "
            f"assay {command} {folder} IMAGES"
        )
    return OpenedRun(**vars(run), images=open_images(run, root, follow_symlinks=follow_symlinks), root=root)


def open_images(run: FinishedRun, place: Place, *, follow_symlinks: bool = False) -> ImageSource:
    """The images below ``place`` in the order of labels.csv, read with the options of the run."""
    reading = run.reading
    listing = list_images(place, replace(reading, follow_symlinks=follow_symlinks or reading.follow_symlinks))
    if run.names == listing.names:
        return listing.source
    # labels.csv has the order of the noisy table, and files may have gone.
    place_of = {name: i for i, name in enumerate(listing.names)}
    images = tuple(place_of.get(name) for name in run.names)
    if not any(image is not None for image in images):
        raise DataError(
            f"{place}: contains none of the {len(run):,} images of the run, such as {shown(run.names[0])}; "
            "name the images that the run was made from"
        )
    return PickedSource(listing.source, images)


def _open_named(run: FinishedRun) -> ImageSource | None:
    """Images of a list of paths or URLs, which are their names; None if those were no such list."""
    used = (name for name, action in zip(run.names, run.actions, strict=True) if action != "skipped")
    first = next(used, "")
    if not is_url(first) and not Path(first).is_file():
        return None
    none = ("",) * len(run)
    return listing_of(run.names, none, none, Path.cwd() / "images", "labels.csv", run.reading.limits).source


def _open_features(run: FinishedRun, file: Path) -> ImageSource:
    """The features in the order of labels.csv."""
    vectors = read_vectors(file, run.reading.path_column)
    names = vectors.names or run.names[: len(vectors.rows)]
    place_of = {name: place for place, name in enumerate(names)}
    return PickedSource(vectors, tuple(place_of.get(name) for name in run.names))


@dataclass(frozen=True)
class _CachedBackbone:
    """A backbone whose features are all in the cache: it names them and computes nothing."""

    digest: str
    size: int
    width: int
    cache: Path
    name: str = "stored"
    interpolation: str = "bicubic"

    def embed(self, images: Batch) -> Float[np.ndarray, "B D"]:
        raise _missing(self.cache, f"of {len(images):,} images or more are missing")


def stored_features(
    run: FinishedRun, images: ImageSource, cache: Path, *, workers: int = 2, progress: Progress = silent
) -> tuple[Dataset, Features]:
    """The run's data, its holdout without trusted labels, and its features, given or from the cache; loads no
    network.

    Parameters
    ----------
    images : those of the run, in the order of labels.csv
    """
    dataset = run.dataset(images)
    if dataset.vectors is not None:
        features = given_features(dataset)
    elif (run.folder / SHARDS).is_file():
        features = _sharded_features(run, cache)
    else:
        features = _cached_features(run, dataset, cache, workers, progress)
    # The cache goes by the bytes: changed images have features there too if another run saw them.
    if contents_digest(features.contents) != run.record["data"]["contents"]:
        what = "images" if dataset.vectors is None else "features"
        raise DataError(
            f"expected the {what} that {run.folder} was made from, got files that were changed since; "
            f"name the place of the original {what}, or run again"
        )
    return features.seen(dataset), features


def _cached_features(
    run: FinishedRun, dataset: Dataset, cache: Path, workers: int, progress: Progress
) -> Features:
    backbone = run.record["backbone"]
    store = find_store(cache, backbone["digest"])
    if store is None:
        raise _missing(cache, "are missing")
    return embed_images(
        dataset,
        _CachedBackbone(backbone["digest"], backbone["size"], store.width, cache),
        cache,
        mirrored=uses_flip_tta(run.record["settings"]["preset"]),
        workers=workers,
        progress=progress,
    )


def _sharded_features(run: FinishedRun, cache: Path) -> Features:
    """Of the images that a run in shards learned from, which are those of labels.csv."""
    record = json.loads((run.folder / SHARDS).read_text(encoding="utf-8"))
    paths = [shard_path(cache, digest) for digest in record["files"]]
    if not all(path.is_file() for path in paths):
        raise _missing(cache, "are missing")
    wanted = set(run.names)
    picked = [
        [row for row, name in enumerate(read_shard(path, ["file"])["file"].to_list()) if name in wanted]
        for path in paths
    ]
    return gather(paths, picked, record["columns"], run.folder)


def _missing(cache: Path, what: str) -> UsageError:
    return UsageError(
        f"{cache}: expected the features that the run computed, but those {what}; name the run's cache with "
        "--cache, or give the run's command again"
    )


def _finished_record(folder: Path) -> dict[str, Any]:
    """run.json of a run that is complete."""
    record = RunFolder(folder).record()
    if record.get("status") != "done":
        raise DataError(f"{folder}: expected the folder of a finished run; run 'assay run' to its end first")
    return record
