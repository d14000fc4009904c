"""What a service does with the images of its requests: decode, wait for the model, count."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from assay.data.dataset import Skipped
from assay.data.limits import Limits
from assay.data.resize import Square
from assay.data.write import is_unicode
from assay.errors import UsageError
from assay.predict.batch import Predictions
from assay.predict.runtime import Runtime
from assay.serve.gauges import Gauges
from assay.serve.micro_batch import MicroBatches

LONGEST_NAME = 200
"""Of a model."""


@dataclass(frozen=True)
class Service:
    """What is served, and how much at once."""

    runtime: Runtime
    name: str
    """Of the model, in addresses."""
    workers: int = 2
    """Threads that decode."""
    max_pixels: int = 25_000_000
    """Of one image."""
    most_waiting: int = 512
    """Images; more are answered 503."""

    def check(self) -> None:
        """Whether it can answer, found out before anybody asks.

        Raises
        ------
        UsageError : a name that no address can have, labels that JSON cannot hold
        ModelError : the model gives no probabilities
        """
        if self.name in (".", "..") or "/" in self.name or not 1 <= len(self.name) <= LONGEST_NAME:
            raise UsageError(
                f"--name: expected 1 to {LONGEST_NAME} letters without '/' that are not '.' or '..', "
                f"got {self.name[:LONGEST_NAME]!r}"
            )
        if not is_unicode(self.name):
            raise UsageError(f"--name: expected Unicode text, got {self.name!r}; give the model another name")
        for label in (*self.runtime.labels, *self.runtime.titles):
            if not is_unicode(label):
                raise UsageError(f"expected labels of Unicode text, got {label!r}; rename that class")
        size = self.runtime.size
        self.runtime.probabilities(np.zeros((1, size, size, 3), np.uint8))

    @property
    def version(self) -> str:
        """Tells one model from another."""
        return self.runtime.digest[:12]


class Work:
    """A service at work: threads that decode, and a model that answers in batches."""

    def __init__(self, service: Service) -> None:
        self.service, self.gauges = service, Gauges()
        self.batches = MicroBatches(service.runtime, service.most_waiting, self.gauges.batches.observe)
        self.pool = ThreadPoolExecutor(max(service.workers, 1), "decode")
        self.limits = Limits.of(service.max_pixels)

    async def predictions(self, names: list[str], files: list[bytes]) -> Predictions:
        """Of image files; a bad one is a row with its reason."""
        loop = asyncio.get_running_loop()
        seen = await asyncio.gather(*(loop.run_in_executor(self.pool, self._see, data) for data in files))
        probs = await self.probabilities([found for found in seen if not isinstance(found, Skipped)])
        predicted = Predictions.of_usable(names, seen, probs, self.service.runtime.labels)
        for status in predicted.statuses:
            self.gauges.images.labels(status).inc()
        return predicted

    async def probabilities(self, squares: list[Square]) -> np.ndarray:
        """P(class) (N, K).

        Raises
        ------
        FullError : too many images wait already
        """
        if not squares:
            return np.zeros((0, len(self.service.runtime.labels)), np.float32)
        return await self.batches.probabilities(squares)

    def _see(self, data: bytes) -> Square | Skipped:
        return self.service.runtime.see(data, self.limits)
