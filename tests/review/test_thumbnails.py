"""Thumbnails: bounded in number and memory."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest
from pictures import picture, saved

from assay.data.dataset import Skipped
from assay.data.loader import draw_thumbnail
from assay.errors import BusyError
from assay.review.app import Thumbnails


@dataclass
class Bytes:
    """The same bytes for every row; records which rows were read."""

    data: bytes | Skipped
    wait_s: float = 0.0
    reads: list[int] = field(default_factory=list)

    def read(self, index):
        self.reads.append(index)
        time.sleep(self.wait_s)
        return self.data


@pytest.fixture
def source():
    return Bytes(saved(picture(40, 60)), wait_s=0.02)


def get(loop, thumbnails, *rows):
    """Thumbnails of rows, requested at once; exceptions too."""

    async def all_rows():
        requests = (thumbnails.get(row, "small") for row in rows)
        return await asyncio.gather(*requests, return_exceptions=True)

    return loop.run_until_complete(all_rows())


def test_an_image_is_drawn_once(loop, source):
    """For requests at the same time and later ones."""
    thumbnails = Thumbnails(source)
    assert len({*get(loop, thumbnails, *[1] * 20), *get(loop, thumbnails, 1)}) == 1
    assert source.reads == [1]
    thumbnails.close()


def test_waiting_requests_are_bounded(loop, source):
    """Of a thousand at once some are drawn and the others refused; later ones are drawn again."""
    source.wait_s = 0.001
    thumbnails = Thumbnails(source, max_waiting=50)
    found = get(loop, thumbnails, *range(1000))
    assert sum(isinstance(one, bytes) for one in found) == len(source.reads) == 50
    assert sum(isinstance(one, BusyError) for one in found) == 950
    assert isinstance(get(loop, thumbnails, 999)[0], bytes)
    thumbnails.close()


def test_memory_is_bounded(loop, source):
    """The thumbnails not requested lately are dropped."""
    size = len(draw_thumbnail(source, 0, 160))
    source.reads.clear()
    thumbnails = Thumbnails(source, memory_bytes=3 * size)
    for row in (1, 2, 3, 1, 4, 1, 2):
        get(loop, thumbnails, row)
    assert source.reads == [1, 2, 3, 4, 2]
    thumbnails.close()


def test_an_image_that_comes_back_is_shown(loop, source):
    """A reason for its absence is not kept."""
    data, source.data = source.data, Skipped("missing")
    thumbnails = Thumbnails(source)
    assert get(loop, thumbnails, 0) == [Skipped("missing")]
    source.data = data
    assert isinstance(get(loop, thumbnails, 0)[0], bytes)
    thumbnails.close()


def test_a_closed_window_does_not_stop_the_drawing_for_others(loop, source):
    """One of two requests for the same image is cancelled."""
    source.wait_s = 0.05
    thumbnails = Thumbnails(source)

    async def both():
        first, second = (asyncio.ensure_future(thumbnails.get(0, "small")) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert isinstance(loop.run_until_complete(both()), bytes)
    assert source.reads == [0]
    thumbnails.close()
