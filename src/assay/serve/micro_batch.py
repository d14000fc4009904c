"""Dynamic batching: images that wait while the model is at work are predicted together.

Nobody waits for others to come. A request that finds the model idle is predicted alone and at once; while it
is, others gather, and those are the next batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from assay.data.resize import Square
from assay.predict.runtime import BATCH, Runtime
from assay.types import Probs

Waiting = tuple[Square, "asyncio.Future[np.ndarray]"]


class FullError(Exception):
    """As many images wait as may."""


class MicroBatches:
    """The model, for any number of requests of one event loop.

    Parameters
    ----------
    observe : called with the number of images of each batch
    """

    def __init__(self, runtime: Runtime, max_waiting: int, observe: Callable[[int], None]) -> None:
        self._runtime, self._max_waiting, self._observe = runtime, max_waiting, observe
        self._waiting: list[Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(1, "model")

    async def probabilities(self, resized_images: Sequence[Square]) -> Probs:
        """P(class) (N, K) of the images of one request, one or more.

        Raises
        ------
        FullError : with them more would wait than may; none of them does
        """
        if len(self._waiting) + len(resized_images) > self._max_waiting:
            # Cancelled requests wait for nothing.
            self._waiting = [one for one in self._waiting if not one[1].done()]
        if len(self._waiting) + len(resized_images) > self._max_waiting:
            raise FullError
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[np.ndarray]] = [loop.create_future() for _ in resized_images]
        self._waiting += zip(resized_images, answers, strict=True)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        # Cancelling the request cancels all of its answers.
        return np.stack(await asyncio.gather(*answers))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            wanted = [(square, answer) for square, answer in self._waiting if not answer.done()]
            batch, self._waiting = wanted[:BATCH], wanted[BATCH:]
            if not batch:
                continue
            try:
                self._observe(len(batch))
                images = np.stack([square for square, _ in batch])
                found = await loop.run_in_executor(self._pool, self._runtime.probabilities, images)
            except Exception as error:  # noqa: BLE001  # each of those who wait gets it
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), row in zip(batch, found, strict=True):
                if not answer.done():
                    answer.set_result(row)
