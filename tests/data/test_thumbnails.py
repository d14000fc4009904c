"""Images drawn anew for a page."""

import io

import numpy as np
import pytest
from pictures import saved
from PIL import Image, PngImagePlugin
from small_datasets import InMemory

from assay.data.dataset import Skipped
from assay.data.thumbnails import draw_thumbnail

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def encoded(pixels, kind="PNG", **options) -> bytes:
    return saved(Image.fromarray(pixels), kind, **options)


def test_a_small_image_keeps_its_pixels():
    """Tiny images are encoded without loss and never enlarged here."""
    shown = Image.open(io.BytesIO(draw_thumbnail(InMemory([encoded(PIXELS)]), 0, 1024)))
    assert (shown.format, shown.size) == ("WEBP", (60, 40))
    assert np.array_equal(np.asarray(shown.convert("RGB")), PIXELS)


def test_a_large_image_is_made_small():
    """Its longest side becomes the asked one, the shape stays."""
    photo = encoded(np.zeros((300, 600, 3), np.uint8), "JPEG")
    shown = Image.open(io.BytesIO(draw_thumbnail(InMemory([photo]), 0, 160)))
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
        shown = draw_thumbnail(InMemory([data]), 0, 160)
        assert secret not in shown
        assert b"EXIF" not in shown
        assert b"XMP" not in shown


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "unsupported_format"),
        (b"<html>", "not_an_image"),
        (b"", "empty_file"),
        (Skipped("outside_root"), "outside_root"),
    ],
)
def test_what_is_no_image_is_not_shown(data, reason):
    """SVG, text and what may not be read have a reason and no bytes."""
    assert draw_thumbnail(InMemory([data]), 0, 160).reason == reason


def test_half_a_file_is_shown_as_far_as_it_goes():
    """Whoever looks at it sees what a run that accepts it learned from."""
    half = encoded(PIXELS)[: len(encoded(PIXELS)) // 2]
    assert isinstance(draw_thumbnail(InMemory([half]), 0, 160), bytes)
