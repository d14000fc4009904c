"""The bytes of one image file become pixels, or it is skipped with its reason."""

import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import chunk, decoded, difference, mpf, picture, png, reason, saved, with_segment
from PIL import Image, ImageCms, ImageFile, MpoImagePlugin

from assay.data.dataset import Skipped
from assay.data.decode import (
    FLAGS,
    BadImageError,
    DecodedImage,
    decode,
    size_in_header,
    to_rgb,
    warning_lines,
)
from assay.data.files import Limits
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


def exif_block(entry: bytes, order: str = "<", start: int = 8) -> bytes:
    magic = b"Exif\0\0II*\0" if order == "<" else b"Exif\0\0MM\0*"
    return magic + struct.pack(order + "I", start) + bytes(start - 8) + struct.pack(order + "H", 1) + entry


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_read_in_both_byte_orders(order):
    """Fault 12: of the first block; a long number and 0, as some programs write them, count too."""
    plain = saved(picture(), "JPEG")
    turned = exif_block(struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0), order, start=20)
    for block, is_turned in (
        (turned, True),
        (exif_block(struct.pack(order + "HHII", 0x0112, 4, 1, 6), order), True),
        (exif_block(struct.pack(order + "HHIHH", 0x0112, 3, 1, 0, 0), order), False),
        (exif_block(struct.pack(order + "HHII", 0x0128, 3, 1, 2), order), False),
    ):
        later = with_segment(plain, 0xE1, b"Exif\0\0second")
        found = decoded(with_segment(with_segment(later, 0xE5, b"other"), 0xE1, block))
        assert (found.pixels.shape, found.flags) == ((64, 48, 3) if is_turned else (48, 64, 3), ())
    filled = plain[:2] + b"\xff\xff\xff" + with_segment(plain, 0xE1, turned)[2:]
    assert decoded(filled).pixels.shape == (64, 48, 3)


MALFORMED = [
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x05cut",
    b"Exif\0\0nonsense",
    exif_block(b""),
    exif_block(struct.pack("<HHII", 0x0112, 3, 1, 9)),
    exif_block(struct.pack("<HHII", 0x0112, 2, 1, 6)),
]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", MALFORMED)
def test_malformed_exif_is_ignored_and_flagged(exif, form):
    """Fault 12: the picture is shown as it is stored; no warning, no crash, no guess."""
    found = decoded(saved(picture(), form, exif=exif))
    assert (found.flags, found.pixels.shape) == (("bad_exif",), (48, 64, 3))


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
)
def test_any_exif_is_read_or_flagged(tail, head):
    """No block, however hostile, costs the image."""
    found = decoded(with_segment(saved(picture(8, 8), "JPEG"), 0xE1, b"Exif\0\0" + head + tail))
    assert set(found.flags) <= {"bad_exif"}


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


@pytest.mark.parametrize(
    ("form", "options"),
    [*((form, {}) for form in FORMATS), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"x"})],
)
def test_limits_are_the_callers(form, options):
    """Fault 5: a file beyond them is skipped, one at them is not, whatever its kind of header."""
    data = saved(picture(), form, **options)
    assert reason(data, limits=Limits(max_bytes=len(data) - 1)) == "too_large"
    assert reason(data, limits=Limits(max_pixels=48 * 64 - 1)) == "too_many_pixels"
    assert decoded(data, limits=Limits(max_bytes=len(data), max_pixels=48 * 64))


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


# Damaged and hostile files


def test_an_empty_file_and_a_renamed_page_are_skipped():
    """Faults 1 and 2: by their content, whatever their name."""
    assert decode(b"") == Skipped("empty_file", "0 bytes")
    assert decode(b"<!doctype html>") == Skipped(
        "not_an_image", "starts with b'<!doctyp', as no known image does"
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.7, 0.99])
def test_a_cut_jpeg_is_skipped_or_accepted(part, progressive):
    """Fault 3: wherever it was cut; on demand the part that is there is decoded at full size, flagged."""
    data = saved(picture(256, 256), "JPEG", progressive=progressive, quality=95)
    cut = data[: int(len(data) * part)]
    assert reason(cut) == "truncated"
    if part > 0.5:
        found = decoded(cut, accept_truncated=True)
        assert (found.flags, found.pixels.shape) == (("truncated",), (256, 256, 3))
        assert difference(found.pixels, picture(256, 256))[:100].mean() < 12


def test_a_cut_png_can_be_accepted():
    """The rows before the cut are kept, the rest is black."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))
    data = saved(noise, "PNG")
    cut = data[: len(data) // 2]
    assert reason(cut) == "truncated"
    found = decoded(cut, accept_truncated=True)
    assert found.flags == ("truncated",)
    assert (found.pixels[:30] == np.asarray(noise)[:30]).all()
    assert not found.pixels[-30:].any()


@pytest.mark.parametrize(
    ("harm", "reason", "message"),
    [
        (lambda data: data[:-12], "corrupt", "PNG has no IEND chunk"),
        (
            lambda data: data[:-16] + b"\0\0\0\0" + data[-12:],
            "corrupt",
            "PNG chunk b'IDAT' at byte 33 has a wrong CRC",
        ),
        (lambda data: data[:45], "truncated", "PNG ends inside the chunk b'IDAT' at byte 33"),
        (lambda data: data[:37], "truncated", "PNG ends inside the chunk at byte 33"),
        (lambda data: data[:8], "corrupt", "PNG has no IEND chunk"),
    ],
    ids=["no IEND", "bad CRC", "cut in a chunk", "cut in a chunk header", "signature only"],
)
def test_a_damaged_png_is_refused(harm, reason, message):
    """Fault 4: damage that Pillow would not notice is named with its place; bytes after the end are none."""
    assert decoded(saved(picture(21, 37)) + b"trailing bytes")
    assert decode(harm(saved(picture(21, 37)))) == Skipped(reason, message)


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_file_of_any_format_is_skipped(form):
    """Fault 3: where cut files are accepted, a whole one is not flagged and one without pixels is skipped."""
    data = saved(picture(), form)
    assert reason(data[: len(data) // 2]) in ("truncated", "corrupt")
    assert decoded(data, accept_truncated=True).flags == ()
    assert isinstance(decode(data[:20], accept_truncated=True), Skipped)
    if form in ("GIF", "WEBP"):
        assert decode(data[:18]) == Skipped("truncated", f"{form} ends inside its header")


def test_a_png_whose_pixels_end_early_is_skipped():
    """Chunks that are whole but hold only the beginning of the pixels are no image."""
    noise = np.random.default_rng(0).bytes(65 * 64)
    rows = b"".join(b"\0" + noise[place : place + 64] for place in range(0, 64 * 64, 64))
    packed = zlib.compress(rows)
    assert decoded(png(64, 64, chunk(b"IDAT", packed)))
    assert reason(png(64, 64, chunk(b"IDAT", packed[: len(packed) // 2]))) == "truncated"


BOMBS = {
    "png": png(50_000, 50_000, chunk(b"IDAT", zlib.compress(bytes(6251 * 100))), bits=1),
    "gif screen": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    + b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2\x4c\1\0;",
    "gif frame": b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"!\xf9\4\x08\0\0\0\0,"
    + struct.pack("<4HB", 0, 0, 12000, 12000, 0) + b"\2\2\x4c\1\0;",
    "webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    + b"\xff\x3f\0" * 2,
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 40000, 40000, 1, 24, 0, 0, 0, 0, 0, 0),
    "jpeg": b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65000, 65000) + b"\3\1\x11\0\2\x11\0\3\x11\0"
    b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0" + bytes(64) + b"\xff\xd9",
    "tiff": b"II*\0\x08\0\0\0" + struct.pack("<H", 7)
    + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in
               [(256, 60000), (257, 60000), (258, 8), (259, 1), (262, 1), (273, 8), (278, 60000)]) + bytes(4),
}  # fmt: skip  # the parts of each file stand together


@pytest.mark.parametrize("junk", [b"", b"\0", b"\x01\x02", b"!\x01\0\x01,\0", b"!\xfe\0"])
def test_a_gif_frame_beyond_its_screen_counts(junk):
    """Fault 5: it is the frame that Pillow finds, behind comments and bytes of no standard too."""
    for options in ({}, {"comment": b"c" * 600, "transparency": 0}):
        data = saved(Image.new("RGB", (37, 21)), "GIF", **options)
        frame = data.index(b",", 13)
        hidden = data[:6] + struct.pack("<HH", 1, 1) + data[10:frame] + junk + data[frame:]
        assert size_in_header(hidden, Limits()) == Image.open(BytesIO(hidden)).size == (37, 21)
        assert reason(hidden, limits=Limits(max_pixels=37 * 21 - 1)) == "too_many_pixels"


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_with_a_huge_text_is_skipped(kind, place):
    """Fault 6: text that unpacks to megabytes is refused wherever it stands."""
    packed = zlib.compress(bytes(4_000_000))
    text = chunk(kind, b"a\0\1\0\0\0" + packed if kind == b"iTXt" else b"a\0\0" + packed)
    pixels = chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    if place == "before":
        assert reason(png(64, 64, text, pixels)) == "too_large"
    else:
        assert isinstance(decode(png(64, 64, pixels, text)), Skipped | DecodedImage)


MEASURE = """
import re, sys, zlib
from pathlib import Path
from assay.data.decode import decode

def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

files = [Path(name).read_bytes() for name in sys.argv[1:]]
before = peak_mb()
reasons = [getattr(decode(data), "reason", "decoded") for data in files]
print(peak_mb() - before, *reasons)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_bombs_take_no_memory(tmp_path):
    """Faults 5 and 6: all bombs together raise the peak memory by less than 50 MB."""
    packer = zlib.compressobj()
    text = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    pixels = chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    bombs = [*BOMBS.values(), png(64, 64, chunk(b"zTXt", b"a\0\0" + text), pixels),
             png(64, 64, pixels, chunk(b"zTXt", b"a\0\0" + text))]  # fmt: skip  # the two texts
    files = [tmp_path / str(number) for number in range(len(bombs))]
    for file, data in zip(files, bombs, strict=True):
        file.write_bytes(data)
    run = subprocess.run([sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, check=True)
    growth, *reasons = run.stdout.split()
    assert float(growth) < 50
    assert reasons == ["too_many_pixels"] * 7 + ["too_large"] * 2


@pytest.mark.parametrize(
    ("index", "is_refused"),
    [
        (mpf(0x030000, 0x020002, order="<"), True),
        (mpf(0x030000, 0x020002, order=">"), True),
        (mpf(0x030000), False),
        (mpf(0x030000, 0x010001, 0x010002), False),
        (mpf(0x030000, 0), False),
        (mpf(0x030000, 0, 0), False),
        (mpf(0x030000, 0x020002)[:-20], False),
        (b"MPF\0", False),
    ],
    ids=["stereo", "big endian", "one", "previews", "gain map", "gain map and depth", "cut", "empty"],
)
def test_only_a_second_view_makes_a_jpeg_a_multi_picture_file(index, is_refused):
    """Fault 15: what phones add to a photo does not make it another format."""
    found = decode(with_segment(saved(picture(), "JPEG"), 0xE2, index))
    assert isinstance(found, Skipped) == is_refused


FOREIGN = {
    "TIFF of several pages": saved(picture(), "TIFF", save_all=True, append_images=[picture()]),
    "MPO (several pictures in one JPEG)": with_segment(
        saved(picture(), "JPEG"), 0xE2, mpf(0x030000, 0x020002)
    ),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40),
    "AVIF": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(40),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "PSD": b"8BPS\0\1" + bytes(40),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "PDF": b"%PDF-1.7\n",
    "SVG": b"<SVG xmlns='http://www.w3.org/2000/svg'/>",
    "ICO": saved(picture(), "ICO"),
    "Netpbm": saved(picture(), "PPM"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_format_is_skipped_without_its_parser(name, monkeypatch):
    """Fault 15: outside the allow-list no parser is called but TIFF's own, to count its pages."""
    opened = []
    start = ImageFile.ImageFile.__init__

    def record(self, *args, **kwargs):
        opened.append(type(self).__name__)
        start(self, *args, **kwargs)

    monkeypatch.setattr(ImageFile.ImageFile, "__init__", record)
    monkeypatch.setattr(MpoImagePlugin.MpoImageFile, "adopt", lambda *_: opened.append("adopted"))
    monkeypatch.setattr(Image, "open", lambda *_, **__: opened.append("Image.open"))
    assert decode(FOREIGN[name]) == Skipped("unsupported_format", name)
    assert opened == (["TiffImageFile"] if name.startswith("TIFF") else [])


def test_decoding_changes_nothing_that_is_shared():
    """Truncated and huge files in many threads leave Pillow and the warning filters as they were."""
    whole = saved(picture(256, 256), "JPEG")
    cut = whole[: len(whole) * 2 // 3]
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    with ThreadPoolExecutor(8) as pool:
        accepted = pool.map(lambda _: decode(cut, accept_truncated=True), range(100))
        refused = pool.map(lambda _: decode(cut), range(100))
        bombs = pool.map(decode, list(BOMBS.values()) * 5)
        assert all(isinstance(found, DecodedImage) for found in accepted)
        assert {found.reason for found in refused} == {"truncated"}
        assert {found.reason for found in bombs} == {"too_many_pixels"}
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


WHOLE = [saved(picture(24, 32), form) for form in FORMATS] + [
    saved(
        picture(24, 32), "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", icc_profile=bytes(200)
    ),
    saved(picture(24, 32).quantize(16), "PNG", transparency=3),
    saved(picture(24, 32), "GIF", save_all=True, append_images=[picture(24, 32).rotate(180)]),
    saved(picture(24, 32), "TIFF", compression="tiff_lzw"),
]


@settings(max_examples=400)
@given(
    data=st.sampled_from(WHOLE),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    end=st.one_of(st.just(1.0), st.floats(0, 1)),
    accept=st.booleans(),
)
def test_any_damage_is_decoded_or_skipped(data, flips, end, accept):
    """No damaged file raises, warns or gives anything but pixels of the right kind."""
    damaged = bytearray(data)
    for place, value in flips:
        damaged[int(place * len(damaged))] = value
    found = decode(
        bytes(damaged[: int(end * len(damaged))]), accept_truncated=accept, limits=Limits(max_pixels=10**6)
    )
    assert isinstance(found, Skipped | DecodedImage)
    if isinstance(found, DecodedImage):
        assert found.pixels.dtype == np.uint8
        assert found.pixels.shape[2] == 3
    else:
        assert found.reason
        assert found.detail


def test_a_full_memory_is_no_fault_of_the_image(monkeypatch):
    """It would be a skipped row, and the run a success."""

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", full)
    with pytest.raises(MemoryError):
        decode(saved(picture(), "BMP"))


# Colours

BACKGROUND = (10, 200, 30)


def pixels(image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    rgb, flags = to_rgb(image, BACKGROUND)
    assert rgb.mode == "RGB"
    return np.asarray(rgb), flags


def reopened(image: Image.Image, form: str, **options) -> Image.Image:
    return Image.open(BytesIO(saved(image, form, **options)))


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


def test_transparent_pixels_show_the_callers_background():
    """Fault 10: white, if nothing else was asked for."""
    hidden = saved(Image.new("RGBA", (4, 4), (1, 2, 3, 0)), "PNG")
    assert (decoded(hidden).pixels == 255).all()
    assert (decoded(hidden, limits=Limits(background=(9, 8, 7))).pixels == (9, 8, 7)).all()


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


def test_libtiff_prints_nothing(capfd):
    """Pixels of a TIFF that do not unpack are a reason to skip it, not lines on stderr."""
    data = bytearray(saved(picture(), "TIFF", compression="tiff_adobe_deflate"))
    data[20:60] = bytes(40)
    assert reason(bytes(data)) == "corrupt"
    assert capfd.readouterr().err == ""


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
    # Pillow writes 255 minus these as they are; the byte that says "they are YCCK" is set afterwards.
    ink = Image.new("CMYK", (16, 16), (255 - y, 255 - cb, 255 - cr, 0))
    data = bytearray(saved(ink, "JPEG", quality=100))
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
