"""What is published: the wheel and the source distribution."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import assay

ROOT = Path(__file__).parents[1]


@pytest.fixture
def package() -> set[str]:
    """Every file of the package: modules, templates, styles, scripts, py.typed."""
    files = (ROOT / "src").rglob("*")
    found = {file.relative_to(ROOT / "src").as_posix() for file in files if file.is_file()}
    return {name for name in found if "__pycache__" not in name and name.startswith("assay/")}


def test_the_wheel_has_every_file_of_the_package(package: set[str], tmp_path: Path) -> None:
    """Pages, styles and scripts are in it as the code is, with the command, the licence and the version."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        about = f"assay-{assay.__version__}.dist-info"
        assert {name for name in names if not name.startswith(about)} == package
        assert {"assay/py.typed", f"{about}/licenses/LICENSE"} <= names
        assert "assay = assay.cli.app:main" in packed.read(f"{about}/entry_points.txt").decode()


def test_the_source_distribution_has_what_its_tests_read(package: set[str], tmp_path: Path) -> None:
    """Who unpacks it can build the wheel, the docs site and run the tests."""
    (source,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(source) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {f"src/{name}" for name in package} <= names
    wanted = "pyproject.toml README.md LICENSE Makefile mkdocs.yml docs/index.md tests/test_packaging.py"
    assert set(wanted.split()) <= names
    pages = {file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").glob("*.md")}
    assert pages <= names
