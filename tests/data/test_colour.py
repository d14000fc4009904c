import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from assay.data.decode import to_rgb
from assay.data.formats import BadImageError

BACKGROUND = (10, 200, 30)


def pixels(image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    rgb, flags = to_rgb(image, BACKGROUND)
    assert rgb.mode == "RGB"
    return np.asarray(rgb), flags


def reopened(image: Image.Image, form: str, **options) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return Image.open(buffer)


def corrected(values) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(red, green, blue, space: bytes = b"RGB ") -> bytes:
    """A small ICC profile: linear light, its three primaries given as XYZ at D50."""
    white = (0.9642, 1.0, 0.8249)
    points = {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue, b"wtpt": white}
    xyz = [(tag, b"XYZ \0\0\0\0" + corrected(values)) for tag, values in points.items()]
    curves = [(tag, b"curv\0\0\0\0" + struct.pack(">I", 0)) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = [*xyz, *curves, (b"desc", text), (b"cprt", b"text\0\0\0\0none\0")]
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = place + len(body)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", size, b"\0" * 4, 0x02100000, b"mntr", space, b"XYZ ", bytes(12), b"acsp"
    )
    header += bytes(68 - len(header)) + corrected(white)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


# The primaries of sRGB at D50; ImageCms writes the same numbers into its own profile.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


def test_plain_rgb_is_passed_on():
    """An RGB image without profile or transparency is the very same object."""
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    assert to_rgb(image, BACKGROUND) == (image, ())
    assert to_rgb(image, BACKGROUND)[0] is image


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (Image.new("RGBA", (2, 2), (100, 50, 250, 0)), BACKGROUND),
        (Image.new("RGBA", (2, 2), (100, 50, 250, 255)), (100, 50, 250)),
        (Image.new("RGBA", (2, 2), (110, 100, 130, 128)), (60, 150, 80)),
        (Image.new("LA", (2, 2), (90, 0)), BACKGROUND),
        (Image.new("LA", (2, 2), (90, 255)), (90, 90, 90)),
        (Image.new("La", (2, 2), (45, 128)), (50, 145, 60)),
        (Image.new("RGBa", (2, 2), (0, 0, 0, 0)), BACKGROUND),
        (Image.new("1", (2, 2), 1), 255),
        (Image.new("L", (2, 2), 77), 77),
    ],
)
def test_gray_has_three_channels_and_transparency_shows_the_background(image, wanted):
    """Faults 10 and 11: alpha is composited over the fixed background, to one step of 255."""
    assert np.abs(pixels(image)[0].astype(int) - wanted).max() <= 1


def test_a_transparent_palette_entry_shows_the_background():
    """Fault 10: the tRNS of a palette image hides one colour, or every colour by a degree."""
    image = Image.new("P", (2, 1))
    image.putpalette([250, 0, 0, 0, 0, 250])
    image.putpixel((1, 0), 1)
    assert pixels(reopened(image, "PNG", transparency=1))[0].tolist() == [[[250, 0, 0], [*BACKGROUND]]]
    half = pixels(reopened(image, "PNG", transparency=bytes([255, 128])))[0].astype(int)
    assert np.abs(half - [[[250, 0, 0], [5, 100, 140]]]).max() <= 1


@pytest.mark.parametrize(
    ("mode", "hidden", "shown"), [("RGB", (1, 2, 3), (9, 9, 9)), ("L", 7, 9), ("1", 0, 1)]
)
def test_a_transparent_colour_shows_the_background(mode, hidden, shown):
    """Fault 10: the tRNS of a gray or RGB image hides that colour only; of 16-bit gray before scaling."""
    image = Image.new(mode, (2, 1), hidden)
    image.putpixel((1, 0), shown)
    found = pixels(reopened(image, "PNG", transparency=hidden))[0]
    assert tuple(found[0, 0]) == BACKGROUND
    assert tuple(found[0, 1]) != BACKGROUND
    deep = Image.fromarray(np.array([[1000, 1001]], np.uint16))
    deep.info["transparency"] = 1000
    assert pixels(deep)[0].tolist() == [[[*BACKGROUND], [4, 4, 4]]]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled(form):
    """Fault 9: 65535 becomes 255 and what lies between is rounded, in either byte order."""
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    found, flags = pixels(reopened(Image.fromarray(values), form))
    assert found[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert flags == ()
    image = Image.frombytes("I;16B", (2, 1), b"\x80\x00\xff\xff")
    assert pixels(image)[0][0, :, 0].tolist() == [128, 255]


def twelve_bit_tiff(values: list[int]) -> Image.Image:
    packed = b"".join(
        ((a << 12) | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True)
    )
    ones = dict.fromkeys((257, 259, 262, 277, 278), 1)
    tags = sorted({**ones, 256: len(values), 258: 12, 273: 8, 279: len(packed)}.items())
    packed += bytes(len(packed) % 2)
    data = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags) + bytes(4)
    return Image.open(BytesIO(data))


def test_twelve_bit_gray_is_scaled():
    """4095 is white where a TIFF says that it has 12 bits."""
    assert pixels(twelve_bit_tiff([0, 4095, 2048, 16]))[0][0, :, 0].tolist() == [0, 255, 128, 1]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.float32), [0, 1, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 10, np.inf]], np.float32), [0, 10, 255]),
        (np.array([[np.nan, np.nan]], np.float32), [0, 0]),
        (np.array([[-5, -5]], np.float32), [0, 0]),
        (np.array([[0, 1, 255]], np.int32), [0, 1, 255]),
        (np.array([[0, 256, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 100, 2**31 - 1]], np.int32), [0, 0, 255]),
    ],
)
def test_numbers_are_read_in_the_narrowest_range(values, wanted):
    """Integer and float images take the narrowest usual range, else are stretched, and are flagged."""
    found, flags = pixels(reopened(Image.fromarray(values), "TIFF"))
    assert found[0, :, 0].tolist() == wanted
    assert flags == ("rescaled",)


def test_cmyk_has_the_right_polarity():
    """Fault 8: no ink is white, all ink is black, and cyan ink is cyan; in YCCK too, as Adobe writes it."""
    for ink, wanted in (((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((255, 0, 0, 0), (0, 255, 255))):
        found = pixels(reopened(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100))[0].astype(int)
        assert np.abs(found - wanted).max() <= 3
    wanted = (180, 60, 30)
    y, cb, cr = Image.new("RGB", (1, 1), tuple(255 - v for v in wanted)).convert("YCbCr").getpixel((0, 0))
    buffer = BytesIO()
    # Pillow writes 255 minus these as they are; the byte that says "they are YCCK" is set afterwards.
    Image.new("CMYK", (16, 16), (255 - y, 255 - cb, 255 - cr, 0)).save(buffer, "JPEG", quality=100)
    data = bytearray(buffer.getvalue())
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    found = pixels(Image.open(BytesIO(data)))[0].astype(int)
    assert np.abs(found - wanted).max() <= 3


def test_ycbcr_of_a_tiff_is_converted():
    """A TIFF in YCbCr shows the colour that was put in."""
    image = Image.new("RGB", (8, 8), (180, 60, 30)).convert("YCbCr")
    assert np.abs(pixels(image)[0].astype(int) - (180, 60, 30)).max() <= 3


def test_a_profile_is_converted_below_transparency():
    """Fault 13: with the green primary called red, red pixels turn green, and the background stays."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.info["icc_profile"] = profile(GREEN, RED, BLUE)
    found, flags = pixels(image)
    assert np.abs(found[0, 0].astype(int) - (0, 255, 0)).max() <= 4
    assert (tuple(found[0, 1]), flags) == (BACKGROUND, ())


def test_an_srgb_profile_changes_nothing():
    """The profile that most photos carry costs no rounding."""
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found, flags = pixels(image)
    assert (found == np.asarray(image)).all()
    assert flags == ()


@pytest.mark.parametrize(
    ("mode", "icc"),
    [
        ("RGB", b"no profile"),
        ("RGB", profile(RED, GREEN, BLUE)[:200]),
        ("L", profile(RED, GREEN, BLUE)),
        ("I;16", b"x"),
    ],
    ids=["garbage", "cut", "of another space", "on 16-bit gray"],
)
def test_a_profile_that_cannot_be_used_is_flagged(mode, icc):
    """Fault 13: a broken profile, or one of another colour space, is ignored with a flag."""
    image = Image.new(mode, (2, 2))
    image.info["icc_profile"] = icc
    found, flags = pixels(image)
    assert not found.any()
    assert flags == ("icc_ignored",)


def test_an_odd_colour_space_is_refused():
    """Lab is none of the colour spaces that are promised."""
    with pytest.raises(BadImageError, match=r"^colour space LAB$"):
        to_rgb(Image.new("LAB", (2, 2)), BACKGROUND)
