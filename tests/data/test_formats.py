from io import BytesIO

import pytest
from PIL import Image

from assay.data.formats import ALLOWED_EXTENSIONS, IMAGE_EXTENSIONS, allowed_format, extension, foreign_format


def saved(form: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 60)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_an_allowed_format_is_known_by_its_first_bytes(form):
    """Each allowed format is recognised from its first 32 bytes and is foreign to no one."""
    assert allowed_format(saved(form)[:32]) == form
    assert foreign_format(saved(form)) is None


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\x00", "JPEG XL"),
        (b"8BPS\0\1", "PSD"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"%PDF-1.7", "PDF"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"P6\n2 2\n255\n", "Netpbm"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='x'/>", "SVG"),
        (b"<SVG>", "SVG"),
    ],
)
def test_a_foreign_image_is_named(head, form):
    """An image outside the allow-list is told apart from what is no image."""
    assert allowed_format(head) is None
    assert foreign_format(head) == form


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x89PN",
        b"<html>",
        b"BMW and other makers, a list",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypmp42",
        b"P7x",
    ],
)
def test_what_is_no_image_has_no_format(head):
    """Text, sound, film and cut beginnings belong to no image format."""
    assert allowed_format(head) is None
    assert foreign_format(head) is None


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.JPG", ".jpg"),
        ("x.y/a", ""),
        ("x/a.tar.GZ", ".gz"),
        (".png", ""),
        ("a.", ""),
        ("a\udcff.PnG", ".png"),
    ],
)
def test_an_extension_is_the_end_of_the_last_part(name, ending):
    """The extension is in lower case, belongs to the last part, and is not the whole of it."""
    assert extension(name) == ending


def test_extensions_of_foreign_images_promise_an_image_too():
    """A HEIC photo has to become a row, although it will be skipped."""
    assert ".heic" in IMAGE_EXTENSIONS - ALLOWED_EXTENSIONS
