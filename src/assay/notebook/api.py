"""compare: the public function."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from assay.data.dataset import ReadOptions
from assay.notebook.compare import Compared, CompareOptions
from assay.notebook.compare import compare as compare_systems
from assay.notebook.systems import TITLES
from assay.pipeline.options import RunOptions, RunSettings, default_cache
from assay.types import Notify, Progress, ignore_message, silent


def compare(
    images: Path | str,
    out: Path | str,
    *,
    trusted: Path | str,
    noisy: Path | str | None = None,
    systems: Iterable[str] = tuple(TITLES),
    read: ReadOptions | None = None,
    cache: Path | str | None = None,
    overwrite: bool = False,
    notify: Notify = ignore_message,
    progress: Progress = silent,
    **settings: Unpack[RunSettings],
) -> Compared:
    """Train the notebook's five systems and assay on the same data, and measure what each costs and reaches.

    Parameters
    ----------
    images, out, noisy, trusted, read, cache, overwrite, notify, settings : see ``assay.run``; files alone
    systems : some of ``histogram``, ``cnn-1``, ``cnn-2``, ``model-1``, ``model-2``, ``assay``

    Raises
    ------
    AssayError : see ``notebook.compare.compare``
    """
    files = replace(read or ReadOptions(), trusted=Path(trusted), noisy=Path(noisy) if noisy else None)
    run = RunOptions(read=files, cache=Path(cache) if cache else default_cache(), **settings)
    options = CompareOptions(run=run, systems=tuple(systems))
    return compare_systems(images, out, options, overwrite=overwrite, notify=notify, progress=progress)
