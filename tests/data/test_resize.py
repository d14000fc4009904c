import numpy as np
from pictures import difference, picture
from PIL import Image, ImageFilter

from assay.data.resize import inverse_temperature, to_square


def test_to_square_is_pillows_bicubic():
    """The resize is Pillow's own, straight to the square, and does nothing to an image of that size."""
    pixels = np.asarray(picture())
    wanted = np.asarray(picture().resize((20, 20), Image.Resampling.BICUBIC))
    assert (to_square(pixels, 20) == wanted).all()
    square = to_square(pixels, 32)
    assert square.shape == (32, 32, 3)
    assert to_square(square, 32) is square


def test_the_nearest_pixel_is_repeated():
    """From 32 to 128 pixels each colour fills a block of four by four, and none is new."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert (to_square(pixels, 128, "nearest") == pixels.repeat(4, axis=0).repeat(4, axis=1)).all()
    smaller = to_square(np.asarray(picture()), 20, "nearest")
    assert (smaller == np.asarray(picture().resize((20, 20), Image.Resampling.NEAREST))).all()


def test_to_square_does_not_alias():
    """Stripes finer than a pixel of the result become even gray."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert difference(to_square(stripes, 16), Image.new("RGB", (16, 16), (128, 128, 128))).max() <= 4


def test_an_enlarged_picture_gets_its_edges_back():
    """``sharp`` adds to each pixel its difference from those around it, two of the small picture's wide."""
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    plain = small.resize((60, 60), Image.Resampling.BICUBIC)  # two and a half times
    around = np.asarray(plain.filter(ImageFilter.BoxBlur(2))).astype(float)
    wanted = np.clip(2.0 * np.asarray(plain) - around, 0, 255)
    found = to_square(np.asarray(small), 60, "sharp")
    assert np.abs(found - wanted).max() <= 1
    large = np.asarray(picture(64, 48))  # one that is shrunk has nothing to get back
    assert (to_square(large, 32, "sharp") == to_square(large, 32, "bicubic")).all()
    assert [inverse_temperature(factor) for factor in (0.5, 1.0, 1.25, 2.0, 12.0)] == [0, 0, 0.25, 1, 1]
