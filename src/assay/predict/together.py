"""Several models on the same images: each image is decoded once for all that take it in one form."""

from collections.abc import Mapping

import numpy as np

from assay.data.dataset import Dataset
from assay.data.forms import TargetSize
from assay.embed.chunks import Chunk, read_chunks
from assay.predict.batch import Predictions
from assay.predict.runtime import Runtime
from assay.types import Progress, silent


def predict_together(
    runtimes: Mapping[str, Runtime], dataset: Dataset, *, workers: int = 2, progress: Progress = silent
) -> dict[str, Predictions]:
    """What each model says of each image, under the model's name.

    Parameters
    ----------
    workers : threads that read and decode
    """
    found = {name: _Saying(runtime, len(dataset)) for name, runtime in runtimes.items()}
    forms = list(dict.fromkeys(saying.form for saying in found.values()))
    # Each in a pass of its own: how large a JPEG is decoded depends on the form, as when a model is alone.
    for number, form in enumerate(forms):
        takers = [saying for saying in found.values() if saying.form == form]
        for chunk in read_chunks(dataset, form, workers=workers):
            for saying in takers:
                saying.add(chunk)
            progress("predict", number * len(dataset) + chunk.rows.stop, len(forms) * len(dataset))
    return {name: saying.predictions(dataset) for name, saying in found.items()}


class _Saying:
    """What one model has said so far."""

    def __init__(self, runtime: Runtime, n: int) -> None:
        self.runtime = runtime
        self.form = TargetSize(runtime.size, runtime.interpolation)
        self.probs = np.zeros((n, len(runtime.labels)), dtype=np.float32)
        self.statuses = ["ok"] * n

    def add(self, chunk: Chunk) -> None:
        decoded = chunk.squares(self.form)
        if decoded:
            self.probs[list(decoded)] = self.runtime.probabilities(np.stack(list(decoded.values())))
        for row, why in chunk.skipped.items():
            self.statuses[row] = why.reason

    def predictions(self, dataset: Dataset) -> Predictions:
        return Predictions(dataset.names, self.probs, self.runtime.labels, tuple(self.statuses))
