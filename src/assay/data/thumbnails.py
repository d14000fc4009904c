"""Thumbnails: an image drawn anew from its pixels, for a page.

Never the bytes of a file: what a page shows has been decoded by the one loader and encoded again, so
nothing that lay in the file beside its pixels, place and camera included, leaves with it.
"""

from io import BytesIO

from PIL import Image

from assay.data.dataset import ImageSource, Skipped
from assay.data.images import decode
from assay.data.limits import USUAL, Limits

MEDIA_TYPE = "image/webp"

_LOSSLESS_BELOW = 96
"""Pixels a side: tiny images are shown enlarged, and then one sees what WebP loses."""


def draw_thumbnail(images: ImageSource, row: int, side: int, limits: Limits = USUAL) -> bytes | Skipped:
    """Decode one image and encode it as WebP of at most ``side`` pixels a side, without metadata."""
    data = images.read(row)
    if isinstance(data, Skipped):
        return data
    found = decode(data, at_least=side, limits=limits, accept_truncated=True)
    if isinstance(found, Skipped):
        return found
    image = Image.fromarray(found.pixels)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=85, method=2, lossless=max(image.size) < _LOSSLESS_BELOW)
    return buffer.getvalue()
