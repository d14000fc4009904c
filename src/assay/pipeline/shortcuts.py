"""The public functions, in the few words that a notebook wants."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np

from assay.correct.result import THRESHOLD, CorrectedLabels
from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_dataset as read_place
from assay.data.split import folds as deal_folds
from assay.embed import images as embedding
from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE, load_backbone
from assay.embed.images import Features
from assay.errors import LabelError
from assay.pipeline.learn import Labelled, learn
from assay.pipeline.options import RunOptions, RunSettings, default_cache
from assay.pipeline.result import RunResult
from assay.pipeline.run import run as run_folder
from assay.types import UNKNOWN, Backbone, Labels, Matrix, Notify, Progress, ignore_message, silent, unmasked

Place = Path | str


def read_dataset(
    images: Place,
    *,
    noisy: Place | None = None,
    trusted: Place | None = None,
    options: ReadOptions | None = None,
) -> Dataset:
    """The images of a place with their labels; see ``data.read.read_dataset``.

    Parameters
    ----------
    images : folder, zip, tar or Parquet file; read in place, no image is opened
    noisy, trusted : label files; without ``noisy`` the noisy labels are the class folders
    options : further options of reading
    """
    return read_place(Path(images), _reading(noisy, trusted, options))


def embed_images(
    dataset: Dataset,
    backbone: Backbone | str = DEFAULT_BACKBONE,
    *,
    size: int = DEFAULT_SIZE,
    mirrored: bool = False,
    cache: Place | None = None,
    progress: Progress = silent,
) -> Features:
    """Features of every usable image, from the cache where they are known: ``.views[0]`` is (N, D).

    Parameters
    ----------
    backbone : ``tiny``, a name that timm knows, or what ``embed.load_backbone`` gave
    size : side in pixels that images are resized to, if ``backbone`` is a name
    mirrored : also embed each image's mirror, as ``.views[1]``
    """
    place = _path(cache) or default_cache()
    if isinstance(backbone, str):
        backbone = load_backbone(backbone, place, size=size)
    return embedding.embed_images(dataset, backbone, place, mirrored=mirrored, progress=progress)


def run(
    images: Place,
    out: Place,
    *,
    trusted: Place,
    noisy: Place | None = None,
    read: ReadOptions | None = None,
    weights: Place | None = None,
    cache: Place | None = None,
    overwrite: bool = False,
    notify: Notify = ignore_message,
    progress: Progress = silent,
    **settings: Unpack[RunSettings],
) -> RunResult:
    """The whole job: what ``assay run`` does.

    Parameters
    ----------
    images : folder, zip, tar or Parquet file
    out : folder for the results; the same call resumes a killed run in it
    noisy, trusted : label files; without ``noisy`` the noisy labels are the class folders
    read : further options of reading
    notify : ``print``, to be told what was assumed about the data
    weights, cache : see ``RunOptions``
    settings : its other fields, such as ``backbone``, ``size``, ``holdout``, ``seed``

    Raises
    ------
    AssayError : see ``systems.run.run``
    """
    options = RunOptions(
        read=_reading(noisy, trusted, read),
        weights=_path(weights),
        cache=_path(cache) or default_cache(),
        **settings,
    )
    return run_folder(Path(images), Path(out), options, overwrite=overwrite, notify=notify, progress=progress)


def correct_labels(
    features: Matrix,
    noisy: Labels,
    trusted: Labels,
    *,
    classes: Sequence[str] = (),
    folds: int = 5,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> CorrectedLabels:
    """What each label should be, from features of anything; UNKNOWN (-1) where there is no label.

    Parameters
    ----------
    features : (N, D)
    noisy, trusted : (N,) class indices, from 0; masked is unknown too
    classes : K names for messages; numbers if empty
    folds : parts of the cross-fitting
    threshold : confidence from which a label counts as kept or changed

    Raises
    ------
    LabelError : lengths that differ, labels that are no class indices, no image with both labels
    UsageError : fewer rows than folds
    ValueError : features that are no finite numbers
    """
    features, noisy, trusted = np.asarray(features), unmasked(noisy), unmasked(trusted)
    if not len(features) == len(noisy) == len(trusted):
        raise LabelError(
            f"expected a given and a trusted label for each of {len(features):,} rows, {UNKNOWN} where "
            f"unknown, got {len(noisy):,} and {len(trusted):,}"
        )
    largest = np.concatenate([noisy, trusted]).max(initial=UNKNOWN)
    names = tuple(classes) or tuple(map(str, range(largest + 1)))
    found = Features((features,), (None,) * len(noisy), {}, {}, 0)
    fold_of, usable = deal_folds(trusted, folds, seed), np.ones(len(noisy), dtype=bool)
    return learn(Labelled(found, noisy, trusted, usable, fold_of, names, seed, threshold)).corrected


def _reading(noisy: Place | None, trusted: Place | None, options: ReadOptions | None) -> ReadOptions:
    options = options or ReadOptions()
    return replace(
        options,
        noisy=_path(noisy) or options.noisy,
        trusted=_path(trusted) or options.trusted,
    )


def _path(place: Place | None) -> Path | None:
    return Path(place) if place else None
