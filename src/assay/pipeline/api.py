"""The public functions, in the few words that a notebook wants."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from assay.data.dataset import Dataset, ReadOptions
from assay.data.memory import dataset_of
from assay.data.place import Url, place_of
from assay.data.read import read_dataset as read_place
from assay.data.tables import Table, table_of
from assay.data.vectors import vectors_of
from assay.embed import images as embedding
from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE, load_backbone
from assay.embed.images import Features
from assay.pipeline import run as story
from assay.pipeline.finished import RunResult
from assay.pipeline.options import RunOptions, RunSettings, default_cache
from assay.pipeline.sharded import SAMPLE, run_sharded
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
    """The images of a place, or in memory, with their labels.

    Parameters
    ----------
    images : folder, zip, tar or Parquet file, read in place, no image is opened, or the URL of one, such as
        ``s3://bucket/images``; or an array (N, H, W, 3) uint8, a list of arrays, PIL images, bytes or paths,
        a Hugging Face data set; None with the ``features`` of ``options``
    noisy, trusted : label files, or a mapping or data frame with their columns; without ``noisy`` the noisy
        labels are the class folders. For images in memory N labels each (list, array, pandas or polars
        column), None, NaN or -1 where unknown, or a name of a column of the Hugging Face data set
    annotations : in place of ``noisy``, the labels of several annotators: a file, mapping or data frame with
        columns such as file, annotator, label and a row for each label that somebody gave
    groups : the column of the patient, video or scene of an image, or N of them for images in memory: no
        split divides a group, and intervals are by groups
    options : further options of reading files

    Raises
    ------
    AssayError : labels that do not fit the images, see ``data.read.read_dataset``
    """
    if isinstance(images, str | Path | Url | None):
        place = None if images is None else place_of(images)
        return read_place(place, _with_files(options, noisy, trusted, annotations, groups))
    return dataset_of(images, noisy, trusted, options, annotations=annotations, groups=groups)


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
    images: Any,
    out: Path | str,
    *,
    trusted: Any,
    noisy: Any = None,
    annotations: Any = None,
    groups: Any = None,
    features: Any = None,
    read: ReadOptions | None = None,
    weights: Path | str | None = None,
    cache: Path | str | None = None,
    engine: Engine | None = None,
    sample: int = SAMPLE,
    overwrite: bool = False,
    notify: Notify = ignore_message,
    progress: Progress = silent,
    **settings: Unpack[RunSettings],
) -> RunResult:
    """The whole job, as ``assay run`` does it: noise, corrected labels, a model, its figures.

    Parameters
    ----------
    images, noisy, trusted, annotations, groups : see ``read_dataset``
    features : in place of images, which are only shown then and may be None: an array (N, D), or a .npy or
        Parquet file; ``noisy`` has a label for each row
    out : folder for the results; the same call resumes a killed run in it, and reads a complete one
    read : further options of reading files
    engine : work in shards, with memory that does not grow with the images, such as
        ``assay.Engine("ray", address="auto")``; for images of a place
    sample : with ``engine``, the images to learn from besides the trusted ones, picked at random
    overwrite : replace the run in ``out``
    notify : called with what was assumed about the data, and with warnings; such as ``print``
    weights, cache : see ``RunOptions``
    settings : its other fields, such as ``preset``, ``backbone``, ``size``, ``holdout``, ``seed``

    Raises
    ------
    AssayError : see ``pipeline.run.run``
    """
    if features is not None:
        given = Path(features) if isinstance(features, str | Path) else vectors_of(features)
        read = replace(read or ReadOptions(), features=given)
    in_memory = not isinstance(images, str | Path | Url | None)
    options = RunOptions(
        read=ReadOptions() if in_memory else _with_files(read, noisy, trusted, annotations, groups),
        weights=Path(weights) if weights else None,
        cache=Path(cache) if cache else default_cache(),
        **settings,
    )
    # Labels of images in memory belong to the data set already; of a place they are read with it.
    if in_memory:
        images = dataset_of(images, noisy, trusted, read, annotations=annotations, groups=groups)
    elif images is not None:
        images = place_of(images)
    start = story.run if engine is None else partial(run_sharded, engine=engine, sample=sample)
    return start(images, Path(out), options, overwrite=overwrite, notify=notify, progress=progress)


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
