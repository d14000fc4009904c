"""Micro-batching: what waits while the model is at work is answered together.

Nobody waits for others to come. A request that finds the model idle is answered alone and at once; while it
is answered others gather, and those are the next batch. So one at a time is as fast as it can be, and many at
once are as cheap as a batch.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float

from assay.data.images import Square
from assay.predict.runtime import BATCH, Runtime

Waiting = tuple[Square, "asyncio.Future[np.ndarray]"]


class FullError(Exception):
    """As many images wait as may."""


class MicroBatches:
    """The model, asked by any number of requests of one event loop."""

    def __init__(self, runtime: Runtime, most_waiting: int, heard: Callable[[int], None]) -> None:
        """``heard`` is told how many images each batch has."""
        self._runtime, self._most, self._heard = runtime, most_waiting, heard
        self._waiting: list[Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(1, "model")

    async def probabilities(self, square: Square) -> Float[np.ndarray, "K"]:
        """P(class) (K,) of one image.

        Raises
        ------
        FullError : too many wait already
        """
        if len(self._waiting) >= self._most:
            raise FullError
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting.append((square, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._heard(len(batch))
            squares = np.stack([square for square, _ in batch])
            try:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._pool, self._runtime.probabilities, squares)
            except Exception as error:  # noqa: BLE001  # each of those who wait gets it
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), row in zip(batch, found, strict=True):
                # Who went away has cancelled it.
                if not answer.done():
                    answer.set_result(row)

    def close(self) -> None:
        """Let the thread go."""
        self._pool.shutdown(cancel_futures=True)
