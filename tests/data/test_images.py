import time

import numpy as np
import pytest
from pictures import decoded, difference, picture, reason, saved
from PIL import Image

from assay.data.dataset import Skipped
from assay.data.decode import FLAGS, decode, warning_lines
from assay.data.formats import Limits
from assay.data.resize import to_square

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns an upright picture into the one that a camera stores with this orientation."""


def cells() -> Image.Image:
    """Cells of eight pixels in random colours: a JPEG stores them almost exactly."""
    colours = np.random.default_rng(7).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(colours.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize("form", FORMATS)
def test_every_allowed_format_becomes_rgb(form):
    """Each gives (H, W, 3) uint8, what was saved or close to it, that cannot be written to."""
    found = decoded(saved(picture(), form))
    assert (found.pixels.shape, found.flags) == ((48, 64, 3), ())
    assert difference(found.pixels, picture()).mean() < (0.1 if form in ("PNG", "BMP", "TIFF") else 12)
    assert not found.pixels.flags.writeable


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_an_animation_shows_its_first_frame(form):
    """Fault 7: the first frame, flagged, equal to the same picture saved alone."""
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    frames = [Image.new("RGB", (20, 10), colour) for colour in colours]
    frames[0].putpixel((3, 3), (0, 0, 0))
    options = {"lossless": True} if form == "WEBP" else {}
    found = decoded(saved(frames[0], form, save_all=True, append_images=frames[1:], **options))
    assert found.flags == ("animated",)
    assert (found.pixels == np.asarray(frames[0])).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_all_orientations_give_the_upright_picture(value, form):
    """Fault 12: eight files that are stored turned decode to one picture."""
    stored = cells().transpose(TURNS[value]) if value > 1 else cells()
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    found = decoded(saved(stored, form, exif=exif, **options))
    assert found.pixels.shape == (48, 64, 3)
    assert difference(found.pixels, cells()).max() <= 2
    assert found.flags == ()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05cut", b"Exif\0\0nonsense"]
)
def test_malformed_exif_is_ignored_and_flagged(exif, form):
    """Fault 12: the picture is shown as it is stored; no warning, no crash."""
    found = decoded(saved(picture(), form, exif=exif))
    assert (found.flags, found.pixels.shape) == (("bad_exif",), (48, 64, 3))


def test_odd_shapes_are_decoded_or_skipped():
    """Fault 14: one pixel is an image, a hair is not."""
    assert decoded(saved(Image.new("RGB", (1, 1), (5, 6, 7)), "PNG")).pixels.tolist() == [[[5, 6, 7]]]
    assert decoded(saved(Image.new("RGB", (100, 1)), "PNG")).pixels.shape == (1, 100, 3)
    for size in ((101, 1), (1, 101), (10_000, 1), (1, 10_000)):
        for form in ("PNG", "JPEG", "GIF"):
            assert decode(saved(Image.new("RGB", size), form)) == Skipped(
                "bad_aspect", f"{size[0]} x {size[1]} is longer than 100:1"
            )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_one_colour_is_flagged(form):
    """Fault 17: an image of one colour is decoded, with a flag; NaN everywhere is black."""
    image = Image.new("RGB", (32, 32), (255, 255, 255))
    assert decoded(saved(image, form)).flags == ("low_information",)
    image.paste((0, 0, 0), (8, 20, 24, 28))
    assert decoded(saved(image, form)).flags == ()
    data = saved(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
    assert decoded(data).flags == ("rescaled", "low_information")
    assert not decoded(data).pixels.any()


def test_limits_are_the_callers():
    """A file beyond them is skipped, one at them is not; transparent pixels show theirs (fault 10)."""
    data = saved(picture(), "PNG")
    assert reason(data, limits=Limits(max_bytes=len(data) - 1)) == "too_large"
    assert reason(data, limits=Limits(max_pixels=48 * 64 - 1)) == "too_many_pixels"
    assert decoded(data, limits=Limits(max_bytes=len(data), max_pixels=48 * 64))
    hidden = saved(Image.new("RGBA", (4, 4), (1, 2, 3, 0)), "PNG")
    assert (decoded(hidden).pixels == 255).all()
    assert (decoded(hidden, limits=Limits(background=(9, 8, 7))).pixels == (9, 8, 7)).all()


@pytest.mark.parametrize(
    ("size", "at_least", "wanted"),
    [((800, 600), 150, (200, 150)), ((800, 600), 151, (400, 300)), ((801, 600), 75, (101, 75)),
     ((800, 600), 10, (100, 75)), ((800, 600), 601, (800, 600)), ((800, 600), None, (800, 600))],
)  # fmt: skip  # one case after another
def test_a_jpeg_may_be_decoded_smaller(size, at_least, wanted):
    """The shorter side keeps the pixels that were asked for; other formats are never reduced."""
    image = picture(size[1], size[0])
    found = decoded(saved(image, "JPEG", quality=95), at_least=at_least).pixels
    assert found.shape == (wanted[1], wanted[0], 3)
    assert difference(to_square(found, 64), image.resize((64, 64), Image.Resampling.BICUBIC)).mean() < 3
    assert decoded(saved(image, "PNG"), at_least=at_least).pixels.shape == (*image.size[::-1], 3)


def test_small_images_decode_fast():
    """Thousands of small images a second: the common way is short."""
    data = saved(picture(32, 32), "PNG")
    start = time.process_time()
    for _ in range(500):
        decode(data)
    assert (time.process_time() - start) / 500 < 1e-3  # some ten times the usual; shape checks are on


def test_warnings_are_counted_in_words():
    """A line for each kind, in the order in which they are stored; every kind has its text."""
    assert warning_lines({"low_information": 1, "animated": 2000, "bad_exif": 0}) == (
        "2,000 images animated (first frame used)",
        "1 image of a single colour",
    )
    assert len(warning_lines(dict.fromkeys(FLAGS, 1))) == len(FLAGS)
