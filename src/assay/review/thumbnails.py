"""Thumbnails for a browser that asks for many at once: drawn two at a time, the latest remembered."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType

from assay.data.dataset import ImageSource, Skipped
from assay.data.formats import USUAL, Limits
from assay.data.loader import draw_thumbnail

SIZES: Mapping[str, int] = MappingProxyType({"small": 160, "large": 1024})
"""Longest side in pixels; a smaller image keeps its size."""


class BusyThumbnailsError(Exception):
    """More were asked for at once than may wait."""


@dataclass
class Thumbnails:
    """Draws at most two at a time, lets some wait, and remembers the latest."""

    images: ImageSource
    limits: Limits = USUAL
    """What an image file may ask for."""
    waiting_limit: int = 200
    """Requests that may wait; more are refused at once."""
    memory_bytes: int = 64 * 1024 * 1024
    """Of encoded thumbnails that are remembered."""
    _known: "OrderedDict[tuple[int, str], bytes]" = field(default_factory=OrderedDict)
    _held_bytes: int = 0
    _running: dict[tuple[int, str], "asyncio.Future[bytes | Skipped]"] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "thumbnail"))

    async def get(self, row: int, size: str) -> bytes | Skipped:
        """One image as WebP, or why it cannot be shown.

        Raises
        ------
        BusyThumbnailsError : too many wait already
        """
        key = row, size
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        if key not in self._running:
            if len(self._running) >= self.waiting_limit:
                raise BusyThumbnailsError
            task = asyncio.get_running_loop().run_in_executor(
                self._pool, draw_thumbnail, self.images, row, SIZES[size], self.limits
            )
            self._running[key] = task
            task.add_done_callback(lambda done: self._remember(key, done))
        # Shielded: who goes away must not end it for others that wait for the same one.
        return await asyncio.shield(self._running[key])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _remember(self, key: tuple[int, str], done: "asyncio.Future[bytes | Skipped]") -> None:
        self._running.pop(key, None)
        found = None if done.cancelled() or done.exception() is not None else done.result()
        if not isinstance(found, bytes):
            return
        self._known[key] = found
        self._held_bytes += len(found)
        while self._held_bytes > self.memory_bytes:
            _, oldest = self._known.popitem(last=False)
            self._held_bytes -= len(oldest)
