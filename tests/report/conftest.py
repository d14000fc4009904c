import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import chromium
from small_runs import SmallData, draw_data, quick_learning

from assay.data.dataset import ReadOptions
from assay.pipeline.options import RunOptions
from assay.pipeline.run import run

NAMES = "{http://www.w3.org/2000/svg}"


class Picture:
    """An SVG file as a browser sees it."""

    def __init__(self, text: str) -> None:
        self.root = ET.fromstring(text.encode("utf-8"))

    @property
    def title(self) -> str:
        return self.root.findtext(f"{NAMES}title")

    @property
    def description(self) -> str:
        return self.root.findtext(f"{NAMES}desc")

    @property
    def texts(self) -> list[str]:
        """What is written in it, in order."""
        return ["".join(node.itertext()).strip() for node in self.root.iter(f"{NAMES}text")]

    @property
    def links(self) -> list[str]:
        """Addresses that a browser would follow or fetch."""
        found = [value for node in self.root.iter() for key, value in node.attrib.items() if "href" in key]
        return [value for value in found if not value.startswith(("#", "data:image/png;base64,"))]

    @property
    def images(self) -> int:
        return sum(1 for _ in self.root.iter(f"{NAMES}image"))


@pytest.fixture
def seen() -> Callable[[str], Picture]:
    """Parses an SVG text, so that one which is not well-formed fails."""
    return Picture


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> SmallData:
    """120 images of three classes, one of them damaged; not to be changed."""
    data = draw_data(tmp_path_factory.mktemp("small") / "data", 120)
    (data.images / "7.png").write_bytes(b"")
    return data


@pytest.fixture(scope="session")
def finished(small_data, tmp_path_factory) -> Path:
    """The folder of a run that is not to be changed."""
    place = tmp_path_factory.mktemp("finished")
    read = ReadOptions(noisy=small_data.folder / "noisy.csv", trusted=small_data.folder / "trusted.csv")
    options = RunOptions(read=read, backbone="tiny", cache=place / "cache")
    with quick_learning():
        run(small_data.images, place / "out", options, command=("assay", "run", "my images/", "-o", "out"))
    return place / "out"


@pytest.fixture
def own_run(finished, tmp_path) -> Path:
    """A copy of the run that a test may change."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def chrome():
    """Chromium, for the tests of one file."""
    with chromium() as found:
        yield found
