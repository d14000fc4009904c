"""A shard: the features of some ten thousand images in one Parquet file, written whole or not at all.

A row has the image's name and place, the sha256 of its bytes, ``ok`` or why it was skipped, and its features
as float16 bytes: ``np.frombuffer(row, np.float16)``. The file is named by what it was computed from, so one
that is there is done.
"""

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16

from assay.data.dataset import Dataset, Skipped
from assay.data.loader import load
from assay.data.resize import TargetSize
from assay.data.write import make_folder, parquet_bytes, write_bytes_atomic
from assay.embed.images import Features
from assay.errors import DataError
from assay.types import Backbone, Matrix

if TYPE_CHECKING:
    import polars as pl

FOUND = ("sha256", "status", "detail", "flags")
"""The columns of what was found about an image, beside its name and place."""

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class View:
    """One kind of features."""

    column: str
    backbone: Backbone
    mirrored: bool = False


def shard_path(cache: Path, digest: str) -> Path:
    """The file of a shard in a cache."""
    return cache / "shards" / digest[:2] / f"{digest}.parquet"


def write_shard(
    path: Path, rows: "pl.DataFrame", dataset: Dataset, views: Sequence[View], *, workers: int = 1
) -> None:
    """Embed the images of some rows and write their shard.

    Parameters
    ----------
    rows : a part, see ``scale.rows``
    dataset : the same rows
    """
    import polars as pl

    targets = list(
        dict.fromkeys(TargetSize(view.backbone.size, view.backbone.interpolation) for view in views)
    )
    features = [np.zeros((len(dataset), view.backbone.width), np.float16) for view in views]
    contents: list[bytes | None] = [None] * len(dataset)
    flags = [""] * len(dataset)
    status, detail = ["ok"] * len(dataset), [""] * len(dataset)
    for batch in load(dataset, targets, workers=workers):
        images = dict(zip(targets, batch.images, strict=True))
        for view, found in zip(views, features, strict=True):
            seen = images[TargetSize(view.backbone.size, view.backbone.interpolation)]
            seen = np.ascontiguousarray(seen[:, :, ::-1]) if view.mirrored else seen
            if len(seen):
                found[batch.decoded] = np.clip(view.backbone.embed(seen), -LARGEST, LARGEST)
        for row, content in batch.contents.items():
            contents[row] = content
        for row, why in batch.skipped.items():
            status[row], detail[row] = why.reason, why.detail
        for row, found_flags in batch.flags.items():
            flags[row] = " ".join(found_flags)
    table = rows.select("file", "uri", "member").with_columns(
        pl.Series("sha256", contents, pl.Binary),
        pl.Series("status", status, pl.String),
        pl.Series("detail", detail, pl.String),
        pl.Series("flags", flags, pl.String),
        *(
            pl.Series(view.column, [row.tobytes() for row in found], pl.Binary)
            for view, found in zip(views, features, strict=True)
        ),
    )
    make_folder(path.parent)
    write_bytes_atomic(path, parquet_bytes(table))


def read_shard(path: Path, columns: Iterable[str]) -> "pl.DataFrame":
    """Some columns of a shard; DataError if it is damaged."""
    import polars as pl

    try:
        return pl.read_parquet(path, columns=list(columns), glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{path}: expected a shard of features, got a damaged file ({error}); delete it and give the "
            "command again"
        ) from None


def features_of(column: "pl.Series") -> Float16[np.ndarray, "N D"]:
    """The features (N, D) of a column of a shard."""
    data = b"".join(column.to_list())
    return np.frombuffer(data, np.float16).reshape(len(column), len(data) // max(2 * len(column), 1))


def gather(
    paths: Sequence[Path], picked: Sequence[Sequence[int]], columns: Sequence[str], place: Path
) -> Features:
    """The features of picked rows of each shard, one after the other: on disk, in files without names.

    Parameters
    ----------
    columns : of features; the last are those of the histogram, which stand beside
    place : folder of the files, which are gone when the features are
    """
    contents, skipped, flags = list[bytes | None](), dict[int, Skipped](), dict[int, tuple[str, ...]]()
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=place)) for _ in columns]
        for path, rows in zip(paths, picked, strict=True):
            shard, first = read_shard(path, [*FOUND, *columns])[list(rows)], len(contents)
            for column, file in zip(columns, files, strict=True):
                file.write(features_of(shard[column]).tobytes())
            skipped |= {first + row: why for row, why in skipped_in(shard).items()}
            found = enumerate(shard["flags"].to_list())
            flags |= {first + row: tuple(text.split()) for row, text in found if text}
            contents += shard["sha256"].to_list()
        maps: list[Matrix] = []
        for file in files:
            width = file.tell() // max(2 * len(contents), 1)
            file.flush()
            maps.append(np.memmap(file, np.float16, "r", shape=(len(contents), width)))
    return Features(tuple(maps[:-1]), tuple(contents), skipped, flags, 0, beside=(maps[-1],))


def skipped_in(shard: "pl.DataFrame") -> dict[int, Skipped]:
    """Row -> why its image cannot be used; of the columns ``status`` and ``detail``."""
    found = zip(shard["status"].to_list(), shard["detail"].to_list(), strict=True)
    return {row: Skipped(status, detail) for row, (status, detail) in enumerate(found) if status != "ok"}
