"""The rows of a sharded run: where each image lies, and its labels; a Parquet part for each shard.

The place of the images is listed once. What comes after reads one part at a time, in any process or machine
that sees the same files, and needs memory for one part alone.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assay.data.addresses import AddressedSource
from assay.data.dataset import Address, Dataset, ReadOptions, Skipped, address_of
from assay.data.files import Limits
from assay.data.loader import BATCH
from assay.data.write import escape_surrogates, make_folder, parquet_bytes, write_bytes_atomic
from assay.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

SHARD = 40 * BATCH
"""Rows of a shard, all but the last one: about ten thousand, in whole batches."""


@dataclass(frozen=True)
class RowFacts:
    """What all rows have in common; kept as JSON."""

    images: int
    """N."""
    classes: tuple[str, ...]
    titles: tuple[str, ...] = ()
    """See ``Dataset``."""
    grouped: bool = False
    accept_truncated: bool = False
    max_pixels: int = Limits().max_pixels
    follow_symlinks: bool = False
    image_column: str | None = None
    """See ``AddressedSource``."""
    shard: int = SHARD
    """Rows of a shard."""

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.images // self.shard)


def part_path(folder: Path, shard: int) -> Path:
    """The part of a shard in a folder of parts."""
    return folder / f"{shard:05d}.parquet"


def write_rows(dataset: Dataset, folder: Path, read: ReadOptions, shard_rows: int = SHARD) -> RowFacts:
    """Write the parts of a data set; those of an earlier, killed call are written again.

    Raises
    ------
    UsageError : images in memory, features, or labels of several annotators, which no part can hold
    """
    import polars as pl

    if dataset.vectors is not None or dataset.annotations is not None:
        what = "--features" if dataset.vectors is not None else "--annotations"
        raise UsageError(f"--engine: expected images with one noisy label each, got {what}")
    make_folder(folder)
    facts = RowFacts(
        len(dataset),
        dataset.classes,
        dataset.titles,
        dataset.groups is not None,
        dataset.accept_truncated,
        dataset.limits.max_pixels,
        read.follow_symlinks,
        read.path_column,
        shard_rows,
    )
    for shard in range(facts.shards):
        rows = range(shard * shard_rows, min((shard + 1) * shard_rows, len(dataset)))
        some, skipped = slice(rows.start, rows.stop), [dataset.skipped.get(row) for row in rows]
        found = [address_of(dataset.source, row) for row in rows]
        frame = pl.DataFrame(
            {
                "file": [escape_surrogates(dataset.names[row]) for row in rows],
                "uri": [escape_surrogates(one.uri) for one in found],
                # As bytes: below a folder it is the name of a file, which need not be Unicode.
                "member": [os.fsencode(one.member) for one in found],
                "version": [one.version for one in found],
                "noisy": dataset.noisy[some],
                "trusted": dataset.trusted[some],
                "decided": [dataset.decided.get(row) for row in rows],
                "group": None if dataset.groups is None else dataset.groups[some],
                "skipped": [None if why is None else why.reason for why in skipped],
                "detail": [None if why is None else why.detail for why in skipped],
            },
            schema_overrides={
                **dict.fromkeys(("noisy", "trusted", "decided"), pl.Int32),
                **dict.fromkeys(("skipped", "detail"), pl.String),
                "group": pl.Int64,
            },
        )
        write_bytes_atomic(part_path(folder, shard), parquet_bytes(frame))
    return facts


def dataset_of(rows: "pl.DataFrame", facts: RowFacts) -> Dataset:
    """Some rows, of one part or picked from several, as a data set."""
    limits = Limits.of(facts.max_pixels)
    addresses = [
        Address(uri, os.fsdecode(member), version)
        for uri, member, version in rows.select("uri", "member", "version").iter_rows()
    ]
    known = zip(rows["skipped"].to_list(), rows["detail"].to_list(), strict=True)
    decided = rows["decided"].to_list()
    return Dataset(
        tuple(rows["file"].to_list()),
        AddressedSource(addresses, limits, facts.follow_symlinks, facts.image_column),
        facts.classes,
        rows["noisy"].to_numpy().astype(np.int64),
        rows["trusted"].to_numpy().astype(np.int64),
        facts.titles,
        groups=rows["group"].to_numpy() if facts.grouped else None,
        decided={row: label for row, label in enumerate(decided) if label is not None},
        skipped={row: Skipped(why, detail) for row, (why, detail) in enumerate(known) if why is not None},
        accept_truncated=facts.accept_truncated,
        limits=limits,
    )


def images_digest(rows: "pl.DataFrame", *more: object) -> str:
    """sha256 over where the images of a part lie and their versions, whatever their labels; and over what
    else decides what is computed from them.
    """
    digest = hashlib.sha256(repr(more).encode())
    for line in rows.select("uri", "member", "version", "skipped").iter_rows():
        digest.update(repr(line).encode())
    return digest.hexdigest()
