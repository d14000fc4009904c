"""Images as a browser gets them."""

import asyncio
import time
from dataclasses import dataclass, field

from pictures import picture, saved

from assay.data.dataset import Skipped
from assay.data.loader import draw_thumbnail
from assay.review.thumbnails import BusyThumbnailsError, Thumbnails


@dataclass
class Bytes:
    """The same bytes for every row; counts how often they were read."""

    data: bytes | Skipped
    wait_s: float = 0.0
    reads: list[int] = field(default_factory=list)

    def read(self, index):
        self.reads.append(index)
        time.sleep(self.wait_s)
        return self.data


IMAGE = saved(picture(40, 60))


def test_the_same_image_is_drawn_once(loop):
    """Asked for at the same time, or again later."""
    source = Bytes(IMAGE, wait_s=0.02)
    thumbnails = Thumbnails(source)

    async def ask():
        return await asyncio.gather(*(thumbnails.get(1, "small") for _ in range(20)))

    assert len(set(loop.run_until_complete(ask()))) == 1
    loop.run_until_complete(ask())
    assert source.reads == [1]
    thumbnails.close()


def test_only_so_many_may_wait(loop):
    """A thousand at once: some are drawn, the others are refused at once, and afterwards it goes on."""
    source = Bytes(IMAGE, wait_s=0.001)
    thumbnails = Thumbnails(source, waiting_limit=50)

    async def ask():
        return await asyncio.gather(
            *(thumbnails.get(row, "small") for row in range(1000)), return_exceptions=True
        )

    found = loop.run_until_complete(ask())
    assert sum(isinstance(one, bytes) for one in found) == len(source.reads) == 50
    assert sum(isinstance(one, BusyThumbnailsError) for one in found) == 950
    assert isinstance(loop.run_until_complete(thumbnails.get(999, "small")), bytes)
    thumbnails.close()


def test_memory_is_bounded(loop):
    """The images that were not asked for lately are forgotten."""
    source = Bytes(IMAGE)
    size = len(draw_thumbnail(source, 0, 160))
    source.reads.clear()
    thumbnails = Thumbnails(source, memory_bytes=3 * size)
    for row in (1, 2, 3, 1, 4, 1, 2):
        loop.run_until_complete(thumbnails.get(row, "small"))
    assert source.reads == [1, 2, 3, 4, 2]
    thumbnails.close()


def test_a_reason_is_not_remembered(loop):
    """An image that could not be read may be there a moment later."""
    source = Bytes(Skipped("missing"))
    thumbnails = Thumbnails(source)
    assert loop.run_until_complete(thumbnails.get(0, "small")) == Skipped("missing")
    source.data = IMAGE
    assert isinstance(loop.run_until_complete(thumbnails.get(0, "small")), bytes)
    thumbnails.close()


def test_who_goes_away_leaves_it_to_the_others(loop):
    """A window that is closed does not end the drawing that another one waits for."""
    source = Bytes(IMAGE, wait_s=0.05)
    thumbnails = Thumbnails(source)

    async def ask():
        first, second = (asyncio.ensure_future(thumbnails.get(0, "small")) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert isinstance(loop.run_until_complete(ask()), bytes)
    assert source.reads == [0]
    thumbnails.close()
