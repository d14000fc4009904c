import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import chunk, decoded, difference, mpf, picture, png, reason, saved, with_segment
from PIL import Image, ImageFile, MpoImagePlugin

from assay.data.dataset import Skipped
from assay.data.decode import DecodedImage, decode
from assay.data.formats import Limits

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]


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


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_file_of_any_format_is_skipped(form):
    """Fault 3: where cut files are accepted, a whole one is not flagged and one without pixels is skipped."""
    data = saved(picture(), form)
    assert reason(data[: len(data) // 2]) in ("truncated", "corrupt")
    assert decoded(data, accept_truncated=True).flags == ()
    assert isinstance(decode(data[:20], accept_truncated=True), Skipped)


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

    monkeypatch.setattr("assay.data.decode._load", full)
    held = io.BytesIO()
    Image.new("RGB", (40, 40)).save(held, "PNG")
    with pytest.raises(MemoryError):
        decode(held.getvalue())
