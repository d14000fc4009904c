"""The public functions, in the few words that a notebook wants."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from assay.data.dataset import Dataset, ReadOptions
from assay.data.memory import memory_listing, with_columns
from assay.data.place import Place, Url, place_of
from assay.data.read import read_dataset as read_place
from assay.data.tables import Table, table_of
from assay.data.vectors import vectors_of
from assay.embed import images as embedding
from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE, load_backbone
from assay.embed.images import Features
from assay.errors import UsageError
from assay.pipeline import run as story
from assay.pipeline.options import RunOptions, default_cache
from assay.pipeline.result import RunResult
from assay.pipeline.sharded import SAMPLE, run_sharded
from assay.progress import in_notebook, on_terminal, progress_bar
from assay.progress import notify as print_line
from assay.scale.engine import Engine
from assay.types import Backbone, Notify, Progress, ignore_message, silent


def read_dataset(
    images: Any,
    *,
    noisy: Any = None,
    trusted: Any = None,
    annotations: Any = None,
    groups: Any = None,
    options: ReadOptions | None = None,
) -> Dataset:
    """The images of a place, or in memory, with their labels; no image is opened.

    Parameters
    ----------
    images : a folder, zip, tar or Parquet file, or the URL of one, such as ``s3://bucket/images``; a list of
        paths, arrays, PIL images or bytes, or an array (N, H, W, 3) uint8; a pandas or polars frame, or a
        Hugging Face data set, with a column of such images or paths; None with the ``features`` of
        ``options``
    noisy, trusted : a label file; a mapping or frame with columns such as file and label; a mapping from file
        names to labels; N labels in the order of the images, None, NaN or -1 where unknown; of a frame or
        Hugging Face data set the name of a column. Without ``noisy`` a column ``label`` or the class folders
        are the noisy labels
    annotations : in place of ``noisy``, the labels of several annotators: a file, mapping or frame with
        columns such as file, annotator, label and a row for each label that somebody gave
    groups : the column of the patient, video or scene of an image, or N of them for images in memory: no
        split divides a group, and intervals are by groups
    options : further options of reading

    Raises
    ------
    AssayError : labels that do not fit the images, see ``data.read.read_dataset``
    """
    options = options or ReadOptions()
    if not isinstance(images, str | Path | Url | None):
        listing = memory_listing(images, options.path_column, options.limits)
        return read_place(
            *with_columns(
                listing, options, noisy=noisy, trusted=trusted, annotations=annotations, groups=groups
            )
        )
    place = None if images is None else place_of(images)
    return read_place(place, _with_files(options, noisy, trusted, annotations, groups))


def embed_images(
    dataset: Dataset,
    backbone: Backbone | str = DEFAULT_BACKBONE,
    *,
    size: int = DEFAULT_SIZE,
    mirrored: bool = False,
    cache: Path | str | None = None,
    progress: Progress = silent,
) -> Features:
    """Features of every usable image, from the cache where they are known: ``.views[0]`` is (N, D).

    Parameters
    ----------
    backbone : ``tiny``, a name that timm knows, or what ``embed.load_backbone`` gave
    size : side in pixels that images are resized to, if ``backbone`` is a name
    mirrored : also embed each image's mirror, as ``.views[1]``
    """
    place = Path(cache) if cache else default_cache()
    if isinstance(backbone, str):
        backbone = load_backbone(backbone, place, size=size)
    return embedding.embed_images(dataset, backbone, place, mirrored=mirrored, progress=progress)


def run(
    images: Any = None,
    out: Path | str = "out",
    *,
    noisy: Any = None,
    trusted: Any = None,
    annotations: Any = None,
    groups: Any = None,
    features: Any = None,
    read: ReadOptions | None = None,
    preset: Literal["fast", "balanced", "best"] = "fast",
    backbone: str = DEFAULT_BACKBONE,
    weights: Path | str | None = None,
    size: int = DEFAULT_SIZE,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    holdout: int | None = None,
    holdout_split: Literal["stratified", "notebook"] = "stratified",
    folds: int = 5,
    threshold: float = 0.8,
    seed: int = 0,
    student: str | None = None,
    student_size: int | None = None,
    time_limit: float | None = None,
    refit: bool = False,
    balanced: bool = False,
    workers: int = 2,
    excel_safe: bool = False,
    cache: Path | str | None = None,
    engine: Engine | None = None,
    sample: int = SAMPLE,
    overwrite: bool = False,
    notify: Notify | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """The whole job, as ``assay run`` does it: noise, corrected labels, a model, its figures.

    Parameters
    ----------
    images, noisy, trusted, annotations, groups : see ``read_dataset``
    out : folder for the results; the same call resumes a killed run in it, and reads a complete one
    features : in place of images, which are only shown then and may be left out: an array (N, D), or a .npy
        or Parquet file; ``noisy`` has a label for each row
    read : further options of reading
    preset, backbone, weights, size, dtype, holdout, holdout_split, folds, threshold, seed, student, \
    student_size, time_limit, refit, balanced, workers, excel_safe, cache : see ``RunOptions``
    engine : work in shards, with memory that does not grow with the images, such as
        ``assay.Engine("ray", address="auto")``; for images of a place
    sample : with ``engine``, the images to learn from besides the trusted ones, picked at random
    overwrite : replace the run in ``out``
    notify, progress : called with what was assumed about the data and with warnings, and with how far a step
        is. In a notebook and on a terminal both are shown without them, elsewhere nothing is

    Raises
    ------
    AssayError : see ``pipeline.run.run``
    """
    if features is not None:
        given = Path(features) if isinstance(features, str | Path) else vectors_of(features)
        read = replace(read or ReadOptions(), features=given)
    source: Place | Dataset | None
    # Labels of images in memory belong to the data set already; of a place they are read with it.
    if not isinstance(images, str | Path | Url | None):
        if engine is not None:
            raise UsageError(
                "engine: expected images at a place that every process can read, got them in memory"
            )
        source = read_dataset(
            images, noisy=noisy, trusted=trusted, annotations=annotations, groups=groups, options=read
        )
        read = ReadOptions()
    else:
        source = None if images is None else place_of(images)
        read = _with_files(read, noisy, trusted, annotations, groups)
    options = RunOptions(
        read=read,
        backbone=backbone,
        weights=Path(weights) if weights else None,
        size=size,
        dtype=dtype,
        holdout=holdout,
        holdout_split=holdout_split,
        folds=folds,
        threshold=threshold,
        seed=seed,
        preset=preset,
        student=student,
        student_size=student_size,
        time_limit=time_limit,
        cache=Path(cache) if cache else default_cache(),
        workers=workers,
        refit=refit,
        balanced=balanced,
        excel_safe=excel_safe,
    )
    start = story.run if engine is None else partial(run_sharded, engine=engine, sample=sample)
    is_watched = in_notebook() or on_terminal()
    if notify is None:  # the stderr of a notebook is red
        notify = print if in_notebook() else print_line if is_watched else ignore_message
    with progress_bar(quiet=progress is not None or not is_watched) as bar:
        result = start(
            source, Path(out), options, overwrite=overwrite, notify=notify, progress=progress or bar
        )
    return replace(result, images=source.source) if isinstance(source, Dataset) else result


def _with_files(
    read: ReadOptions | None, noisy: Any, trusted: Any, annotations: Any, groups: str | None
) -> ReadOptions:
    read = read or ReadOptions()
    return replace(
        read,
        noisy=_table(noisy, "noisy") or read.noisy,
        trusted=_table(trusted, "trusted") or read.trusted,
        annotations=_table(annotations, "annotations") or read.annotations,
        group_column=groups or read.group_column,
    )


def _table(labels: Any, name: str) -> Path | Table | None:
    if labels is None or isinstance(labels, str | Path):
        return Path(labels) if labels else None
    return table_of(labels, name)
