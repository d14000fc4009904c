"""run_sharded: a run over more images than one process should hold, shard by shard.

The labels are read and matched once and written as parts of rows. Each shard is embedded by whatever process
is free. A run as any other learns from all trusted images and a random part of the rest, whose features it
gets from the shards. Its model then corrects the labels of all other images, shard by shard again.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from assay.correct.evidence import TINY, log_evidence
from assay.correct.outliers import Outliers, OutlierScorer
from assay.correct.posterior import combine
from assay.correct.result import CorrectedLabels
from assay.data.dataset import Dataset, ReadOptions
from assay.data.files import file_digest
from assay.data.place import Place, whole_name
from assay.data.write import make_folder, parquet_bytes, write_bytes_atomic, write_json
from assay.embed.backbone import load_backbone
from assay.embed.tiny import HistogramBackbone
from assay.errors import DataError, OtherRunError, UsageError
from assay.evaluate import Stopwatch
from assay.noise.transition import mixed_transition
from assay.pipeline.folder import SHARDS, RunFolder, lock
from assay.pipeline.learn import Fitted, TrainingLabels
from assay.pipeline.options import RunOptions, uses_flip_tta
from assay.pipeline.outputs import label_columns
from assay.pipeline.result import RunResult, load_run
from assay.pipeline.run import read_inputs, run
from assay.pipeline.run_files import LABEL_COLUMNS, NO_LABEL, OUTLIER_COLUMN
from assay.predict.batch import PASSING, predict_dataset
from assay.predict.layers import Layers
from assay.predict.model import read_model
from assay.scale.engine import LOCAL, Engine, Facts, map_shards
from assay.scale.rows import SHARD, RowFacts, dataset_of, images_digest, part_path, write_rows
from assay.scale.shards import View, features_of, gather, read_shard, shard_path, skipped_in, write_shard
from assay.types import (
    UNKNOWN,
    Backbone,
    Labels,
    Mask,
    Matrix,
    Notify,
    Probs,
    Progress,
    ignore_message,
    silent,
)

if TYPE_CHECKING:
    import polars as pl

SAMPLE = 100_000
"""Most images that are learned from, if so many are not trusted."""

CORRECTION = "correction.npz"
"""In the run folder: how labels are corrected of images that were not learned from."""

MOST_COMPARED = 5_000_000
"""Images among which equal files are counted: the digests of all are held in memory."""

FEATURES, MIRRORED, HISTOGRAM = "features", "mirrored", "histogram"
"""The columns of a shard with what was computed of each image."""


def run_sharded(
    images: Place | Dataset | None,
    out: Path,
    options: RunOptions | None = None,
    *,
    engine: Engine = LOCAL,
    sample: int = SAMPLE,
    shard_rows: int = SHARD,
    overwrite: bool = False,
    command: Sequence[str] = (),
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> RunResult:
    """As ``run``, with memory that does not grow with the images; the same call resumes a killed one.

    ``out`` gets, beside the files of a run, which are of the images learned from: ``rows/``, ``labels/`` with
    the label of every image in Parquet parts, and shards.json with the totals. The place is listed once: a
    label that is changed later needs ``overwrite``.

    Parameters
    ----------
    sample : images to learn from: all trusted and decided ones, and random ones up to this number
    shard_rows : images of a shard

    Raises
    ------
    As ``run``; UsageError for data that has no place or several labels an image
    """
    options = options or RunOptions()
    if isinstance(images, Dataset):
        raise UsageError("engine: expected the place of the images, got images in memory: others read them")
    RunFolder(out).check()
    # Other processes may have another working folder.
    result, out, cache = out, out.absolute(), options.cache.absolute()
    weights = options.weights and options.weights.absolute()
    with lock(out, "sharded run"):
        # Read: names, places and labels, in parts; nothing else ever lists the place again.
        watch = Stopwatch(earlier=_read_shards(out).get("seconds", {}))
        with watch.stage("list"):
            facts = list_rows(images, out, options, shard_rows, overwrite=overwrite, notify=notify)
        shards = range(facts.shards)

        # Embed: a shard that is there is done.
        embed = EmbedShard(
            out / "rows",
            cache,
            facts,
            (options.backbone, options.size, weights, options.dtype, cache),
            mirrored=uses_flip_tta(options.preset),
            workers=engine.workers,
            retries=overwrite,
        )
        done, digests = 0, dict[int, str]()
        with watch.stage("embed"):
            for found in map_shards(embed, shards, engine):
                done, digests[found["shard"]] = done + found["images"], found["digest"]
                progress("embed", done, facts.images)
        columns = [FEATURES, *([MIRRORED] if embed.mirrored else []), HISTOGRAM]
        # By these the other commands find the features again.
        files = [digests[shard] for shard in shards]
        write_json(out / SHARDS, _read_shards(out) | {"files": files, "columns": columns})

        # Learn: one run, on one machine, of all trusted images and a random part of the others.
        with watch.stage("learn"):
            picked = [pick(out / "rows", shard, facts, sample, options.seed) for shard in shards]
            paths = [shard_path(cache, digest) for digest in files]
            run(
                dataset_of(_rows_at(out / "rows", picked), facts),
                out,
                options,
                overwrite=overwrite,
                command=command,
                notify=notify,
                progress=progress,
                place=images,
                features=gather(paths, picked, columns, out),
                keep=partial(write_correction, out),
            )

        # Label: every shard by the model, but for the images that were learned from.
        label, done = LabelShard(out, cache, options.preset, engine.workers), 0
        with watch.stage("label"):
            for found in map_shards(label, shards, engine):
                done += found["images"]
                progress("label", done, facts.images)
            found_in_all = totals(out / "labels", facts)
        record = _read_shards(out) | {"totals": found_in_all, "seconds": watch.so_far()}
        write_json(out / SHARDS, record)
    return load_run(result)


# --- rows ----------------------------------------------------------------------------------------------


def list_rows(
    images: Place | None,
    out: Path,
    options: RunOptions,
    shard_rows: int = SHARD,
    *,
    overwrite: bool = False,
    notify: Notify = ignore_message,
) -> RowFacts:
    """The rows of the place, from the run folder if it was listed before."""
    record = _read_shards(out)
    asked = {"place": images and whole_name(images), "reading": _reading(options.read)}
    if record and not overwrite:
        if record["asked"] != asked:
            raise OtherRunError(
                f"{out} holds a run of {record['asked']['place']} or with other labels; name another folder "
                "with --out, or replace it with --overwrite"
            )
        return msgspec.convert(record["rows"], RowFacts)
    for name in ("rows", "labels"):
        shutil.rmtree(out / name, ignore_errors=True)
    # Refused now, before hours of embedding, as the run would refuse it.
    dataset, _ = read_inputs(images, out, options, notify)
    facts = write_rows(dataset, out / "rows", options.read, shard_rows)
    write_json(out / SHARDS, {"asked": asked, "rows": asdict(facts)})
    return facts


def _reading(read: ReadOptions) -> dict[str, str]:
    """All that decides the rows besides the images; label files by their content, wherever they lie."""
    return {
        name: file_digest(value) if isinstance(value, Path) and value.is_file() else repr(value)
        for name, value in vars(read).items()
    }


def _read_shards(out: Path) -> dict[str, Any]:
    """shards.json; empty where there is none."""
    file = out / SHARDS
    if not file.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: expected what assay run wrote, got a damaged file ({error})") from None
    return found


def pick(rows: Path, shard: int, facts: RowFacts, sample: int, seed: int) -> list[int]:
    """The rows of a shard that are learned from: what a person labelled, and its share of ``sample``."""
    import polars as pl

    part = pl.read_parquet(part_path(rows, shard), columns=["noisy", "trusted", "decided"])
    if facts.images <= sample:
        return list(range(part.height))
    checked = (part["trusted"] != UNKNOWN).to_numpy() | part["decided"].is_not_null().to_numpy()
    # Each row by a number of its own: whatever other shards hold, the same rows are drawn.
    drawn = np.random.default_rng([seed, shard]).random(part.height) < sample / facts.images
    return np.flatnonzero(checked | (drawn & (part["noisy"] != UNKNOWN).to_numpy())).tolist()


def _rows_at(rows: Path, picked: Sequence[Sequence[int]]) -> "pl.DataFrame":
    import polars as pl

    parts = (pl.read_parquet(part_path(rows, shard))[list(some)] for shard, some in enumerate(picked))
    return pl.concat(list(parts))


# --- embed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EmbedShard:
    """Writes the features of a shard, unless they are there."""

    rows: Path
    cache: Path
    facts: RowFacts
    network: tuple[str, int, Path | None, str, Path]
    """Arguments of ``_backbone``."""
    mirrored: bool
    workers: int
    retries: bool = False
    """Also write a shard again that lacks images which could not be had at the time."""

    def __call__(self, shard: int) -> Facts:
        """The number of images, and the digest that names the shard's file."""
        import polars as pl

        rows, facts = pl.read_parquet(part_path(self.rows, shard)), self.facts
        backbone = _backbone(*self.network)
        views = [
            View(FEATURES, backbone),
            *([View(MIRRORED, backbone, mirrored=True)] if self.mirrored else []),
            View(HISTOGRAM, HistogramBackbone()),
        ]
        named = [(view.column, view.backbone.digest) for view in views]
        reading = facts.accept_truncated, facts.max_pixels, facts.follow_symlinks, facts.image_column
        digest = images_digest(rows, named, reading)
        path = shard_path(self.cache, digest)
        if not path.is_file() or (self.retries and _has_failed(path)):
            write_shard(path, rows, dataset_of(rows, facts), views, workers=self.workers)
        return {"shard": shard, "images": rows.height, "digest": digest}


def _has_failed(path: Path) -> bool:
    """Whether a shard has skipped images that may be there at another time."""
    return not PASSING.isdisjoint(read_shard(path, ["status"])["status"].to_list())


@lru_cache(maxsize=1)  # a process loads its network once
def _backbone(name: str, size: int, weights: Path | None, dtype: str, cache: Path) -> Backbone:
    return load_backbone(name, cache, size=size, weights=weights, dtype=dtype)


# --- label ---------------------------------------------------------------------------------------------


def write_correction(out: Path, data: TrainingLabels, fitted: Fitted) -> None:
    """correction.npz: how the labels of images are corrected that were not learned from."""
    seen = np.where(data.fold_of != UNKNOWN, data.noisy, UNKNOWN)
    transition = mixed_transition(seen, data.trusted, fitted.corrected.pred_probs)
    scorer = {} if fitted.scorer is None else asdict(fitted.scorer)
    arrays: dict[str, Any] = {f"scorer_{name}": np.asarray(value) for name, value in scorer.items()}
    arrays |= {
        "evidence": log_evidence(np.arange(len(transition)), transition),
        "strength": np.array(fitted.corrected.strength),
        "threshold": np.array(fitted.corrected.threshold),
        # The model predicts by one prior, with --balanced a uniform one; labels are corrected by another.
        "odds": fitted.corrected.prior(np.flatnonzero(data.fold_of != UNKNOWN)) / fitted.prior,
    }
    np.savez(out / CORRECTION, **arrays)


@dataclass(frozen=True)
class LabelShard:
    """Writes the labels of a shard: those of the run where it learned from the image, else the model's."""

    out: Path
    cache: Path
    preset: str
    workers: int

    def __call__(self, shard: int) -> Facts:
        """The number of images."""
        import polars as pl

        rows = pl.read_parquet(part_path(self.out / "rows", shard))
        path = part_path(self.out / "labels", shard)
        if path.is_file():
            return {"images": rows.height}
        record = _read_shards(self.out)
        columns = [column for column in record["columns"] if column != HISTOGRAM]
        file = shard_path(self.cache, record["files"][shard])
        found = read_shard(file, ["sha256", "status", "detail", *columns])
        dataset = dataset_of(rows, msgspec.convert(record["rows"], RowFacts))
        dataset = replace(dataset, skipped={**dataset.skipped, **skipped_in(found)})
        with np.load(self.out / CORRECTION, allow_pickle=False) as arrays:
            correction = dict(arrays)
        views = [features_of(found[column]) for column in columns]
        if self.preset == "fast":
            head = _head(self.out)
            pred_probs: Probs = np.mean([head.probabilities(view) for view in views], axis=0)
        else:  # the network was fine-tuned and has other features now
            from assay.predict.predictor import load_model

            views, runtime = [], load_model(self.out, threads=self.workers).runtime
            pred_probs = predict_dataset(runtime, dataset, workers=self.workers).probs
        pred_probs = pred_probs * correction["odds"]
        pred_probs /= np.maximum(pred_probs.sum(axis=1, keepdims=True), TINY)
        labels = _labels_of(dataset.noisy, dataset.usable, pred_probs, correction, views)
        reasons = np.where(dataset.noisy == UNKNOWN, NO_LABEL, "").astype(object)
        for row, why in dataset.skipped.items():
            reasons[row] = why.reason
        columns_of_labels = label_columns(dataset, labels, reasons.tolist())
        names = (*LABEL_COLUMNS, OUTLIER_COLUMN)
        table = pl.DataFrame(
            dict(zip(names, columns_of_labels, strict=True)), schema_overrides={OUTLIER_COLUMN: pl.Float64}
        )
        # Images that were learned from keep what the run says of them, which is out of fold.
        table = table.with_columns(pl.lit(False).alias("learned_from"))
        learned = (
            _learned(self.out).select(table.columns[:-1]).with_columns(pl.lit(True).alias("learned_from"))
        )
        table = table.update(learned, on="file", how="left").with_columns(found["sha256"])
        make_folder(path.parent)
        write_bytes_atomic(path, parquet_bytes(table))
        return {"images": rows.height}


@lru_cache(maxsize=1)  # once for all shards of a process
def _head(out: Path) -> Layers:
    return read_model(out).head


@lru_cache(maxsize=1)
def _learned(out: Path) -> "pl.DataFrame":
    return load_run(out).labels.frame


def _labels_of(
    noisy: Labels,
    usable: Mask,
    pred_probs: Probs,
    correction: Mapping[str, np.ndarray],
    views: Sequence[Matrix],
) -> CorrectedLabels:
    """The corrected labels of images that nothing was fitted to."""
    evidence, strength = correction["evidence"][noisy], float(correction["strength"])
    evidence[noisy == UNKNOWN] = 0.0
    named: dict[str, Any] = {
        name.removeprefix("scorer_"): value if value.ndim else value.item()
        for name, value in correction.items()
        if name.startswith("scorer_")
    }
    outliers = None
    if named and views:
        score = OutlierScorer(**named).score(views[0].astype(np.float32), pred_probs.max(axis=1))
        outliers = Outliers(score, np.flatnonzero(usable & (score > 1)), 0.0, 0, 0.0)
    return CorrectedLabels(
        noisy,
        np.full_like(noisy, UNKNOWN),
        pred_probs,
        combine(pred_probs, evidence, strength),
        usable,
        strength,
        float(correction["threshold"]),
        outliers=outliers,
    )


def totals(labels: Path, facts: RowFacts) -> dict[str, Any]:
    """Counts over all images, from the parts of the labels."""
    import polars as pl

    every = pl.scan_parquet(labels / "*.parquet")

    def counts(*columns: str) -> list[tuple[Any, ...]]:
        found = every.group_by(columns).agg(pl.len()).sort(columns).collect(engine="streaming")
        return [tuple(row) for row in found.rows()]

    used = every.filter(pl.col("action") != "skipped")
    mean = used.select(pl.col("confidence").mean()).collect(engine="streaming").item()
    copies = None
    if facts.images <= MOST_COMPARED:
        equal = used.select(pl.len() - pl.col("sha256").n_unique())
        copies = equal.collect(engine="streaming").item()
    changes = [
        (noisy, corrected, n)
        for action, noisy, corrected, n in counts("action", "noisy_label", "corrected_label")
        if action == "changed"
    ]
    return {
        "images": facts.images,
        "learned_from": dict(counts("learned_from")).get(True, 0),
        "actions": dict(counts("action")),
        "skipped": {why: n for action, why, n in counts("action", "reason") if action == "skipped"},
        "noisy": dict(counts("noisy_label")),
        "corrected": dict(counts("corrected_label")),
        "changes": sorted(changes, key=lambda change: -change[2]),
        "mean_confidence": mean,
        "equal_files": copies,
    }
