"""A finished run read back: its results for a notebook, its labels and images for the other commands."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from assay.data.dataset import Dataset, ImageSource, PickedSource, ReadOptions
from assay.data.memory import memory_listing
from assay.data.place import Place, Url, is_url, place_of
from assay.data.read import list_images
from assay.data.tables import read_csv, shown
from assay.data.vectors import read_vectors
from assay.embed.cache import find_store
from assay.embed.given import given_features
from assay.embed.images import Features, embed_images
from assay.errors import DataError, UsageError
from assay.pipeline.folder import READING, SHARDS, contents_digest
from assay.pipeline.options import uses_flip_tta
from assay.pipeline.run_files import (
    ANNOTATED_COLUMNS,
    DECIDED,
    GROUP_COLUMN,
    HOLDOUT,
    LABEL_COLUMNS,
    OUTLIER_COLUMN,
    finished_record,
)
from assay.scale.shards import gather, read_shard, shard_path
from assay.types import UNKNOWN, Batch, Groups, Labels, Mask, PerImage, Progress, silent

if TYPE_CHECKING:
    pass


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
    record = finished_record(folder)
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
    return memory_listing(run.names, limits=run.reading.limits).source


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
