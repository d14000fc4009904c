"""What a saved model says of the held-out images, how fast, and in how much memory."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Dataset, PickedSource, Skipped
from assay.data.loader import load_image
from assay.data.paths import file_digest
from assay.data.write import write_rows
from assay.evaluate import peak_memory_bytes
from assay.notebook.compare_entry import Entry, held_rows, read_again
from assay.predict.batch import Predictions, predict_together
from assay.predict.runtime import BATCH, Runtime, load_runtime
from assay.types import Notify, Progress

ALONE = 100
"""Images predicted one at a time; the median of their times is reported."""

TIMED = 512
"""Images predicted in batches where none was held out."""


def measure(entry: Entry, notify: Notify, progress: Progress) -> dict[str, Any]:
    """Predict with the model as saved and write down what it says and takes. The work of a process."""
    del notify  # there is nothing to say
    folder, system = entry.folder, entry.system
    with folder.held_by_child():
        dataset = read_again(entry)
        held = held_rows(entry.options, dataset)
        part = rows_of(dataset, held if len(held) else np.arange(min(TIMED, len(dataset))))
        runtime = load_runtime(folder.model(system))
        _warm_up(runtime)
        start = time.perf_counter()
        found = predict_together(
            {system: runtime}, part, workers=entry.options.run.workers, progress=progress
        )[system]
        batches_s = (time.perf_counter() - start) / max(len(part) - found.n_skipped, 1)
        alone = [1000 * s for s in _alone_s(runtime, part)]
        row = folder.row(system)
        row["measured"] = {
            "milliseconds_in_batches": 1000 * batches_s,
            "milliseconds_alone": statistics.median(alone) if alone else None,
            "images_in_batches": len(part) - found.n_skipped,
            "images_alone": len(alone),
            "peak_memory_predicting_bytes": peak_memory_bytes(),
            "holdout": _write_holdout(entry, found) if len(held) else None,
        }
        folder.write_row(system, row)
    return {}


def rows_of(dataset: Dataset, rows: Int[np.ndarray, "R"]) -> Dataset:
    """Some images of a dataset, as a dataset."""
    chosen = tuple(rows.tolist())
    return replace(
        dataset,
        names=tuple(dataset.names[row] for row in chosen),
        source=PickedSource(dataset.source, chosen),
        noisy=dataset.noisy[rows],
        trusted=dataset.trusted[rows],
        skipped={i: dataset.skipped[row] for i, row in enumerate(chosen) if row in dataset.skipped},
        decided={i: dataset.decided[row] for i, row in enumerate(chosen) if row in dataset.decided},
        image_warnings={
            i: dataset.image_warnings[row] for i, row in enumerate(chosen) if row in dataset.image_warnings
        },
        contents=[dataset.contents[row] for row in chosen] if dataset.contents else (),
    )


def _warm_up(runtime: Runtime) -> None:
    for count in (1, BATCH):
        runtime.probabilities(np.zeros((count, runtime.size, runtime.size, 3), dtype=np.uint8))


def _alone_s(runtime: Runtime, part: Dataset) -> Iterator[float]:
    """Seconds from the bytes of one image to its probabilities, for each of the first few."""
    left = ALONE
    for row in range(len(part)):
        data = part.read(row)
        start = time.perf_counter()
        found = data if isinstance(data, Skipped) else load_image(data, runtime.target, part.limits)
        if isinstance(found, Skipped):
            continue
        runtime.probabilities(found.pixels[None])
        yield time.perf_counter() - start
        left -= 1
        if not left:
            return


def _write_holdout(entry: Entry, found: Predictions) -> str:
    """Write holdout.csv: a row for each held-out image that could be used; its sha256."""
    usable = np.flatnonzero([status == "ok" for status in found.statuses])
    # The shortest digits that read back to the same float32.
    columns = [[float(str(p)) for p in column] for column in found.probs[usable].T]
    names = [found.names[row] for row in usable]
    first = "name" if "name" not in found.labels else "name of the image"
    file = entry.folder.holdout(entry.system)
    write_rows(file, (first, *found.labels), [names, *columns])
    return file_digest(file)
