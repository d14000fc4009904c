"""Images as a browser gets them."""

import asyncio
import io
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from assay.data.dataset import Skipped
from assay.review.thumbnails import BusyThumbnailsError, Thumbnails, draw


def encoded(pixels, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


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


PIXELS = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def test_a_small_image_keeps_its_pixels():
    """Tiny images are encoded without loss and never enlarged here."""
    shown = Image.open(io.BytesIO(draw(Bytes(encoded(PIXELS)), 0, 1024)))
    assert (shown.format, shown.size) == ("WEBP", (60, 40))
    assert np.array_equal(np.asarray(shown.convert("RGB")), PIXELS)


def test_a_large_image_is_made_small():
    """Its longest side becomes the asked one, the shape stays."""
    shown = Image.open(io.BytesIO(draw(Bytes(encoded(np.zeros((300, 600, 3), np.uint8), "JPEG")), 0, 160)))
    assert shown.size == (160, 80)


def test_nothing_but_pixels_leaves_the_file():
    """EXIF, comments and text are gone, and so are bytes hidden after the image."""
    secret = b"taken at home <script>alert(1)</script>"
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", secret.decode())
    files = [
        encoded(PIXELS, "PNG", pnginfo=text, exif=exif) + secret,
        encoded(PIXELS, "JPEG", exif=exif, comment=secret) + secret,
        encoded(PIXELS, "WEBP", exif=exif, xmp=secret),
    ]
    for data in files:
        assert secret in data
        shown = draw(Bytes(data), 0, 160)
        assert secret not in shown
        assert b"EXIF" not in shown
        assert b"XMP" not in shown


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "unsupported_format"),
        (b"<html>", "not_an_image"),
        (b"", "empty_file"),
        (encoded(PIXELS)[:200], "truncated"),
        (Skipped("outside_root"), "outside_root"),
    ],
)
def test_what_is_no_image_is_not_shown(data, reason):
    """SVG, text, half files and what may not be read have a reason and no bytes."""
    assert draw(Bytes(data), 0, 160).reason == reason


def test_the_same_image_is_drawn_once(loop):
    """Asked for at the same time, or again later."""
    source = Bytes(encoded(PIXELS), wait_s=0.02)
    thumbnails = Thumbnails(source)

    async def ask():
        return await asyncio.gather(*(thumbnails.get(1, "small") for _ in range(20)))

    assert len(set(loop.run_until_complete(ask()))) == 1
    loop.run_until_complete(ask())
    assert source.reads == [1]
    thumbnails.close()


def test_only_so_many_may_wait(loop):
    """A thousand at once: some are drawn, the others are refused at once, and afterwards it goes on."""
    source = Bytes(encoded(PIXELS), wait_s=0.001)
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
    source = Bytes(encoded(PIXELS))
    size = len(draw(source, 0, 160))
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
    source.data = encoded(PIXELS)
    assert isinstance(loop.run_until_complete(thumbnails.get(0, "small")), bytes)
    thumbnails.close()


def test_who_goes_away_leaves_it_to_the_others(loop):
    """A window that is closed does not end the drawing that another one waits for."""
    source = Bytes(encoded(PIXELS), wait_s=0.05)
    thumbnails = Thumbnails(source)

    async def ask():
        first, second = (asyncio.ensure_future(thumbnails.get(0, "small")) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert isinstance(loop.run_until_complete(ask()), bytes)
    assert source.reads == [0]
    thumbnails.close()
