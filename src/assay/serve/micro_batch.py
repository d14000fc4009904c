"""Micro-batching: what waits while the model is at work is answered together.

Nobody waits for others to come. A request that finds the model idle is answered alone and at once; while it
is answered others gather, and those are the next batch. So one at a time is as fast as it can be, and many at
once are as cheap as a batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float

from assay.data.resize import Square
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

    async def probabilities(self, squares: Sequence[Square]) -> Float[np.ndarray, "N K"]:
        """P(class) (N, K) of the images of one request, one or more.

        Raises
        ------
        FullError : with them more would wait than may; none of them does
        """
        if len(self._waiting) + len(squares) > self._most:
            # Those who went away wait for nothing.
            self._waiting = [one for one in self._waiting if not one[1].done()]
        if len(self._waiting) + len(squares) > self._most:
            raise FullError
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[np.ndarray]] = [loop.create_future() for _ in squares]
        self._waiting += zip(squares, answers, strict=True)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        # Who goes away, or waits too long, cancels all of his.
        return np.stack(await asyncio.gather(*answers))

    async def _work(self) -> None:
        while self._waiting:
            wanted = [(square, answer) for square, answer in self._waiting if not answer.done()]
            batch, self._waiting = wanted[:BATCH], wanted[BATCH:]
            try:
                found = await self._ask([square for square, _ in batch])
            except Exception as error:  # noqa: BLE001  # each of those who wait gets it
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), row in zip(batch, found, strict=True):
                if not answer.done():
                    answer.set_result(row)

    async def _ask(self, squares: Sequence[Square]) -> Sequence[np.ndarray]:
        if not squares:
            return []
        self._heard(len(squares))
        loop = asyncio.get_running_loop()
        rows: np.ndarray = await loop.run_in_executor(
            self._pool, self._runtime.probabilities, np.stack(squares)
        )
        return [*rows]
