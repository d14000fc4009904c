"""Dataset: images in a fixed order, with the labels that came with them.

It holds no pixels. N never changes after reading: an image that cannot be used stays a row with its reason.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from assay.data.files import USUAL, Limits
from assay.data.files import Skipped as Skipped  # noqa: PLC0414  # readers of a data set need it too
from assay.data.tables import Table, shown
from assay.data.vectors import Vectors
from assay.errors import DataError, LabelError, UsageError
from assay.types import UNKNOWN, Groups, Labels, Mask, Matrix, Rows, same_length

ADVICE = {
    "not_finite": " (NaN or infinity among the features)",
    "outside_root": " (links that leave the folder: --follow-symlinks)",
    "timeout": " (the network or the store is slow: run it again)",
    "too_large": f" (larger files: --max-pixels of more than {USUAL.max_pixels:,})",
    "too_many_pixels": " (larger images: --max-pixels)",
    "truncated_body": " (the store or a proxy sent a part: run it again)",
    "truncated": " (to use the readable part: --truncated accept)",
    "unsupported_format": " (HEIC, raw files and the like: convert them to JPEG or PNG)",
}
"""Reason to skip an image -> the flag or conversion that helps."""


def and_skipped(reasons: Iterable[str]) -> str:
    """The end of a message: ``; 300 skipped: 298 outside_root (…), 2 truncated``; empty if none was."""
    counts = Counter(reasons)
    return f"; {counts.total():,} skipped: {why_skipped(counts)}" if counts else ""


def why_skipped(counts: Mapping[str, int]) -> str:
    """``298 outside_root (…), 2 truncated``: the most frequent reason first, with advice."""
    found = Counter(counts).most_common()
    return ", ".join(f"{n:,} {reason}{ADVICE.get(reason, '')}" for reason, n in found)


@runtime_checkable
class ImageSource(Protocol):
    """Where the bytes are: a folder, an archive, a table; or ``Vectors``."""

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why they cannot be had. Safe to call from threads."""
        ...


class Address(NamedTuple):
    """Where one image lies, for a process that has not listed its place."""

    uri: str
    """A folder, an archive or table, or the URL of the image itself; empty where a row has no image."""
    member: str = ""
    """The name below a folder, the number of the image in an archive or table; empty for a URL."""
    version: str = ""
    """Changes with the bytes, as far as can be told without reading them; empty where nothing tells."""


@runtime_checkable
class PlacedSource(Protocol):
    """A source whose images lie where other processes can read them."""

    def address(self, index: int) -> Address:
        """Where image ``index`` lies."""
        ...


def address_of(source: ImageSource, index: int) -> Address:
    """Where image ``index`` lies; UsageError for images in memory."""
    if not isinstance(source, PlacedSource):
        raise UsageError(
            "expected the place of the images, which every process can read, got images in memory"
        )
    return source.address(index)


@runtime_checkable
class ReadsAhead(Protocol):
    """A source behind a network, which fetches images before they are read."""

    def expect(self, indices: Iterable[int] | None) -> None:
        """Say which images will be read, in this order; what was said before no longer counts.

        None: nothing is wanted any more; who waits for an image gets CancelledError.
        """
        ...


@dataclass(frozen=True)
class PickedSource:
    """The images of another source in an order of their own."""

    source: ImageSource
    images: tuple[int | None, ...]
    """For each row, the index into ``source``; None where there is no image."""

    def read(self, index: int) -> bytes | Skipped:
        """As of any source."""
        image = self.images[index]
        return Skipped(missing_reason(self.source)) if image is None else self.source.read(image)

    def address(self, index: int) -> Address:
        """As of any source."""
        image = self.images[index]
        return Address("") if image is None else address_of(self.source, image)

    def expect(self, indices: Iterable[int] | None) -> None:
        """As ``ReadsAhead``."""
        if isinstance(self.source, ReadsAhead):
            found = (self.images[index] for index in indices or ())
            wanted = (image for image in found if image is not None)
            self.source.expect(None if indices is None else wanted)


def missing_reason(source: ImageSource) -> str:
    """Why a row is skipped that has a label and nothing else."""
    return "missing_features" if isinstance(source, Vectors) else "missing_image"


@dataclass(frozen=True)
class Listing:
    """The images found at a place, before any label is known."""

    names: tuple[str, ...]
    """In natural order (``2.png`` before ``10.png``), with ``/`` between parts, relative to the place."""
    source: ImageSource
    """Reads image i of ``names``."""
    skipped: Mapping[int, Skipped] = field(default_factory=dict)
    """Entries that were seen and cannot be used: a symlink that leaves the root, a FIFO…"""
    notes: tuple[str, ...] = ()
    """Counts of what was ignored: ``ignored 3 hidden entries``."""
    folders: tuple[str, ...] = ()
    """The folders at the top, hidden ones left out, those without images included."""
    table: Table | None = None
    """What came with the images in the same files, such as labels: row i is of image i."""


@dataclass(frozen=True)
class Annotations:
    """Labels that several annotators gave, in the order of their table; an image may have any number."""

    image: Rows
    """Row of the image of each label."""
    annotator: Rows
    """Index into ``names``; nobody gives one image two different labels, unless nobody is named."""
    label: Rows
    """Class index."""
    names: tuple[str, ...]
    """J annotators; ``("",)`` where the table names nobody: all labels are then of one pooled annotator."""

    def __post_init__(self) -> None:
        same_length(image=self.image, annotator=self.annotator, label=self.label)

    def __len__(self) -> int:
        return len(self.label)

    def without(self, rows: Rows) -> "Annotations":
        """The labels of all other images."""
        left = ~np.isin(self.image, rows)
        return replace(self, image=self.image[left], annotator=self.annotator[left], label=self.label[left])


@dataclass(frozen=True)
class Dataset:
    """N images in input order, their noisy and trusted labels."""

    names: tuple[str, ...]
    """N different names, relative to the place of the images; a row without an image is named as its table
    wrote it."""
    source: ImageSource
    classes: tuple[str, ...]
    """The K labels as they came in, in natural order; noisy and trusted are indices into them."""
    noisy: Labels
    """The noisy label of each image; UNKNOWN where there is none."""
    trusted: Labels
    """The trusted label of each image; UNKNOWN for most."""
    titles: tuple[str, ...] = ()
    """K names for people, from a classes file; empty where the labels are names already."""
    annotations: Annotations | None = None
    """The labels of several annotators, of which ``noisy`` is then the most frequent one of each image."""
    groups: Groups | None = None
    """The group of each image, such as its patient, video or scene; no split divides a group. None if none
    were declared."""
    decided: Mapping[int, int] = field(default_factory=dict)
    """Row -> class index that a person decided in a review, of rows without a trusted label; UNKNOWN where
    they decided that it belongs to no class: then nothing is learned from it. Such images were picked, the
    most doubtful first: a model may be trained on them, but no figure may count them."""
    skipped: Mapping[int, Skipped] = field(default_factory=dict)
    """Rows that are known to be unusable before any image was opened."""
    notes: tuple[str, ...] = ()
    """Lines for the user: assumed pairs, what was ignored, warnings."""
    accept_truncated: bool = False
    """Whether the readable part of a truncated image is used."""
    limits: Limits = USUAL
    """Most bytes and pixels of an image."""
    image_warnings: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Row -> warnings about an image that is used, once it was decoded: see ``data.decode.FLAGS``."""
    contents: Sequence[bytes | None] = ()
    """sha256 of each image's bytes when they were first read, None if unreadable; empty before."""

    def __post_init__(self) -> None:
        groups = {} if self.groups is None else {"groups": self.groups}
        same_length(names=self.names, noisy=self.noisy, trusted=self.trusted, **groups)
        for name, labels in (("noisy", self.noisy), ("trusted", self.trusted)):
            if labels.size and not UNKNOWN <= labels.min() <= labels.max() < len(self.classes):
                raise ValueError(
                    f"{name} must lie in [-1, {len(self.classes)}), got {labels.min()} to {labels.max()}"
                )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        counts = f"{np.sum(self.noisy >= 0):,} noisy and {np.sum(self.trusted >= 0):,} trusted labels"
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"Dataset({len(self):,} images, {len(self.classes):,} classes, {counts}{skipped})"

    @property
    def usable(self) -> Mask:
        """False where the image is skipped."""
        mask = np.ones(len(self), dtype=bool)
        mask[list(self.skipped)] = False
        return mask

    @property
    def known(self) -> Labels:
        """The trusted label of each image, or else the decided one."""
        labels = self.trusted.copy()
        labels[[*self.decided]] = [*self.decided.values()]
        return labels

    @cached_property
    def vectors(self) -> Matrix | None:
        """(N, D) where the data came as features, zeros where skipped; None for images."""
        source = self.source
        if isinstance(source, Vectors):
            return source.rows
        if not isinstance(source, PickedSource) or not isinstance(source.source, Vectors):
            return None
        rows, places = source.source.rows, np.array([-1 if at is None else at for at in source.images])
        picked: Matrix = np.zeros((len(self), rows.shape[1]), rows.dtype)
        picked[places >= 0] = rows[places[places >= 0]]
        return picked

    @property
    def no_class(self) -> Mask:
        """True where a person decided that the image belongs to no class."""
        mask = np.zeros(len(self), dtype=bool)
        mask[[row for row, label in self.decided.items() if label == UNKNOWN]] = True
        return mask

    def read(self, row: int) -> bytes | Skipped:
        """The bytes of image ``row``, or why it cannot be used.

        Raises
        ------
        DataError : it was read before, and is missing now or has other bytes
        """
        found = self.skipped.get(row) or self.source.read(row)
        if not self.contents or row in self.skipped:
            return found  # there is nothing to compare it with
        # Another picture under the same label, or a row of zeros, would be worse than an error.
        if isinstance(found, Skipped):
            change = f"can no longer be read: {found.reason}"
        elif hashlib.sha256(found).digest() != self.contents[row]:
            change = "has other bytes now"
        else:
            return found
        raise DataError(
            f"{shown(self.names[row])} was read before, and {change}; leave the images unchanged until the "
            "command ends, and give it again"
        )

    def expect(self, rows: Rows | None) -> None:
        """Say which images will be read, in this order: a source behind a network fetches them ahead. None:
        see ``ReadsAhead``.
        """
        if isinstance(self.source, ReadsAhead):
            wanted = None if rows is None else (row for row in rows.tolist() if row not in self.skipped)
            self.source.expect(wanted)

    def without(self, rows: Rows) -> "Dataset":
        """The same images with no label at ``rows``, be it noisy, trusted or decided: such as the holdout.

        The one place where labels are hidden. What may see them is given the whole dataset.
        """
        noisy, trusted = self.noisy.copy(), self.trusted.copy()  # this data set keeps its own
        noisy[rows] = trusted[rows] = UNKNOWN
        hidden = set(rows.tolist())
        decided = {row: label for row, label in self.decided.items() if row not in hidden}
        annotations = self.annotations and self.annotations.without(rows)
        return replace(self, noisy=noisy, trusted=trusted, decided=decided, annotations=annotations)

    def check_noisy(self) -> None:
        """LabelError without a single noisy label."""
        if (self.noisy == UNKNOWN).all():
            places = "--noisy FILE nor a label column beside the features"
            if self.vectors is None:
                places = "--noisy FILE nor a metadata file among the images nor class folders"
            raise LabelError(
                f"expected noisy labels, got none of {len(self):,} images: neither {places} gave any. Pass "
                "--noisy with a table of the columns file and label"
            )

    def check_equal_images(self, contents: Sequence[bytes | None]) -> None:
        """LabelError for images of equal bytes with different trusted or decided labels.

        Parameters
        ----------
        contents : sha256 of each image's bytes; None where it cannot be used: empty files are all equal
        """
        if self.vectors is not None:
            return  # two items may have equal vectors, such as texts of the same words
        known, first = self.known, dict[bytes, int]()
        conflicts: list[str] = []
        for row in np.flatnonzero(known != UNKNOWN).tolist():
            if (content := contents[row]) is None:
                continue
            equal = first.setdefault(content, row)
            if known[equal] != known[row]:
                pair = (f"{shown(self.names[i])} is {shown(self.classes[known[i]])}" for i in (equal, row))
                conflicts.append(", ".join(pair))
        if conflicts:
            more = f"; and {len(conflicts) - 3:,} more" if len(conflicts) > 3 else ""
            raise LabelError(
                "conflicting_trusted: equal images with different trusted labels: "
                f"{'; '.join(conflicts[:3])}{more}. Correct one label of each pair, or leave both empty"
            )

    def fingerprint(self) -> str:
        """sha256 over names, classes and labels: two runs with one fingerprint had the same labels."""
        digest = hashlib.sha256()
        for part in (*self.names, "\0", *self.classes):  # no name has a NUL, so none can run into the next
            digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
        for labels in (self.noisy, self.trusted):  # not the decided ones, which change no figure
            digest.update(labels.astype("<i8").tobytes())
        if (given := self.annotations) is not None:
            for name in given.names:
                digest.update(name.encode() + b"\0")
            for indices in (given.image, given.annotator, given.label):
                digest.update(indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def group_facts(self) -> dict[str, Any] | None:
        """How many groups there are, and a sha256 of which image is in which; None if none were declared."""
        if self.groups is None:
            return None
        # Numbered by first appearance: the names of the groups do not matter.
        _, first, number = np.unique(self.groups, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))[number]
        return {"count": len(first), "digest": hashlib.sha256(rank.astype("<i8").tobytes()).hexdigest()}

    def decisions_digest(self) -> str | None:
        """sha256 over the decisions: two runs with one digest had the same; None where there are none."""
        if not self.decided:
            return None
        # Sorted: the order of a file of decisions does not matter.
        return hashlib.sha256(repr(sorted(self.decided.items())).encode()).hexdigest()


@dataclass(frozen=True)
class ReadOptions:
    """How to find images and labels; each field is a flag of the command line."""

    features: Path | Vectors | None = None
    """Features in place of images: a .npy or Parquet file, or an array, see ``vectors.vectors_of``."""
    noisy: Path | Table | None = None
    """A label file, or a table in memory, see ``tables.table_of``."""
    annotations: Path | Table | None = None
    """In place of ``noisy``: a table with a row for each label that an annotator gave."""
    trusted: Path | Table | None = None
    decisions: Path | None = None
    """Decisions of a review: a database, CSV or Label Studio's JSON."""
    classes: Path | Sequence[str] | None = None
    """Class names, or a file of them, one a line: those of the labels 0, 1, … where labels are integers."""
    path_column: str | None = None
    label_column: str | None = None
    trusted_label_column: str | None = None
    """Of the trusted file, if it has another name there."""
    group_column: str | None = None
    """Of the patient, video or scene that an image belongs to; images of one group are never split."""
    match: str = "path"
    """``path``, or ``name``: a row whose path names no image is of the image with its file name."""
    strip_prefix: str | None = None
    """Taken off each path of the label tables that begins with it."""
    duplicates: str = "refuse"
    """``refuse`` or ``vote``: how to treat different noisy labels of one image."""
    class_map: Mapping[str, str] = field(default_factory=dict)
    """Labels to read as another class; as "" to read them as missing."""
    allow_new_classes: bool = False
    normalize_labels: bool = False
    follow_symlinks: bool = False
    truncated: str = "skip"
    """``skip`` or ``accept``: how to treat an image whose file is truncated."""
    max_pixels: int = USUAL.max_pixels
    """Width times height of the largest image that is used."""
    allow_empty_classes: bool = False

    @property
    def accept_truncated(self) -> bool:
        """Whether the readable part of a truncated image is used."""
        return self.truncated == "accept"

    @property
    def limits(self) -> Limits:
        """Most bytes and pixels of an image."""
        return Limits.of(self.max_pixels)
