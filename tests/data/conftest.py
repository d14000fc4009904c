"""Tiny data sets for the tests of this room: real files, drawn on the spot."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image


def png(shade: int = 0) -> bytes:
    """A PNG of 4 by 4 pixels of one grey."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade % 256,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def make_folder(tmp_path):
    """Makes a folder ``images`` with a small PNG under each name, of another grey each."""

    def make(*names: str, folder: str = "images") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for shade, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(shade))
        return root

    return make


@pytest.fixture
def make_zip(tmp_path):
    """Makes a zip with a small PNG under each name."""

    def make(*names: str, file: str = "images.zip") -> Path:
        path = tmp_path / file
        with zipfile.ZipFile(path, "w") as archive:
            for shade, name in enumerate(names):
                archive.writestr(name, png(shade))
        return path

    return make


@pytest.fixture
def write_file(tmp_path):
    """Writes text or bytes below the test's folder and gives the path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
