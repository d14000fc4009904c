"""A module imports only from names above its own in the listing; ``cli`` alone is exempt."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "assay"

EXEMPT = ("cli", "__main__")
"""May import anything; nothing else may import them."""


def modules_below(folder: Path) -> dict[str, str]:
    """Source of each module of the package in ``folder``, by dotted name; a package ends in ``__init__``."""
    return {
        ".".join((folder.name, *file.relative_to(folder).with_suffix("").parts)): file.read_text("utf-8")
        for file in sorted(folder.rglob("*.py"))
    }


MODULES = modules_below(SOURCE)


def imports_of(name: str, sources: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Line and full name of every module of the package that module ``name`` imports, lazily or not."""
    for node in ast.walk(ast.parse(sources[name])):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(name.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (start, node.module) if part)
            # "from assay.data import folders" may name a module, or something inside assay.data.
            wanted = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for dotted in wanted:
            if dotted == "assay" or dotted.startswith("assay."):
                yield node.lineno, _module_of(dotted, sources)


def _module_of(dotted: str, sources: Mapping[str, str]) -> str:
    """The module in ``sources`` that is the object ``dotted``, or has it; else ``dotted`` as it is."""
    parts = dotted.split(".")
    # Down to two parts: what is in no known room is not therefore in the package itself.
    for length in range(len(parts), min(len(parts), 2) - 1, -1):
        stem = ".".join(parts[:length])
        for candidate in (stem, f"{stem}.__init__"):
            if candidate in sources:
                return candidate
    return "assay.__init__" if len(parts) <= 2 else dotted


def place(name: str) -> str:
    """The folder, or top-level module, that a module belongs to."""
    return name.split(".")[1]


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every import that does not go up the listing, in words."""
    found = []
    for name in sources:
        here = place(name)
        if here in ("__init__", *EXEMPT):
            continue
        for line, target in imports_of(name, sources):
            there = place(target)
            if there in EXEMPT:
                found.append(f"{name}:{line} imports {target}; nothing imports {there}")
            elif there == "__init__":
                if not re.search(r"\bfrom assay import __version__$", sources[name].splitlines()[line - 1]):
                    found.append(
                        f"{name}:{line} imports the package itself; import the module that has the name"
                    )
            elif there != here and not there < here:
                found.append(f"{name}:{line} imports {target}; {there} is not above {here} in the listing")
    return found


def circles(sources: Mapping[str, str]) -> list[str]:
    """Every circle of imports between modules of one place, as the path around it."""
    edges = {
        name: {target for _, target in imports_of(name, sources) if _same_place(name, target)}
        for name in sources
    }
    found, done = [], set[str]()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in sorted(edges.get(name, ())):
                walk(target, [*path, name])
            done.add(name)

    for name in sources:
        walk(name, [])
    return found


def _same_place(name: str, target: str) -> bool:
    return target != name and place(target) == place(name)


def test_a_module_imports_only_from_names_above_its_own():
    """The alphabetical listing of folders and top-level modules is the order of all imports."""
    assert violations(MODULES) == []


def test_no_folder_imports_in_circles():
    """Inside a folder, no chain of imports comes back to where it began."""
    assert circles(MODULES) == []


def test_the_package_itself_loads_its_rooms_late():
    """``assay/__init__.py`` imports no room when it is loaded, only when a name is asked for."""
    tree = ast.parse(MODULES["assay.__init__"])
    early = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    early_source = {"assay.__init__": "\n".join(map(ast.unparse, early))}
    found = [place(name) for _, name in imports_of("assay.__init__", MODULES | early_source)]
    assert [name for name in found if not name.startswith("_")] == []


DOWN = "imports assay.correct.label_issues; fix is not above data in the listing"


@pytest.mark.parametrize(
    ("importer", "statement", "message"),
    [
        ("data.tables", "from assay.correct import suspects", f"data.tables:1 {DOWN}"),
        ("data.tables", "import assay.correct.label_issues", f"data.tables:1 {DOWN}"),
        (
            "data.tables",
            "def late():\n    from assay.correct.label_issues import rank",
            f"data.tables:2 {DOWN}",
        ),
        ("data.tables", "from ..fix.suspects import rank", f"data.tables:1 {DOWN}"),
        (
            "_errors",
            "from assay.types import UNKNOWN",
            "_errors:1 imports assay.types; _types is not above _errors in the listing",
        ),
        (
            "fix.suspects",
            "from assay.cli.app import main",
            "fix.suspects:1 imports assay.cli.app; nothing imports cli",
        ),
        (
            "fix.suspects",
            "from assay import run",
            "fix.suspects:1 imports the package itself; import the module that has the name",
        ),
    ],
)
def test_an_import_against_the_order_is_named(importer, statement, message):
    """An import down the listing is found wherever and however it is written."""
    known = dict.fromkeys(
        ("assay.__init__", "assay.errors", "assay.types", "assay.cli.app", "assay.data.tables"), ""
    )
    assert violations(known | {"assay.correct.label_issues": ""} | {f"assay.{importer}": statement}) == [
        f"assay.{message}"
    ]


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("assay.correct.label_issues", "from assay.data.tables import read"),
        ("assay.correct.label_issues", "from assay import __version__"),
        ("assay.correct.label_issues", "from assay import data"),
        ("assay.correct.label_issues", "import numpy as np"),
        ("assay.cli.app", "from assay.correct import suspects"),
        ("assay.__main__", "from assay.cli.app import main"),
        ("assay.__init__", "from assay.correct import suspects"),
    ],
)
def test_an_import_in_order_is_left_alone(importer, statement):
    """Imports up the listing, and those of the exempt, are not reported."""
    known = dict.fromkeys(("assay.__init__", "assay.cli.app", "assay.data.__init__", "assay.data.tables"), "")
    assert violations(known | {"assay.correct.label_issues": ""} | {importer: statement}) == []


def test_a_circle_is_named():
    """Two modules of a folder that import each other are reported with the way around."""
    sources = {
        "assay.correct.a": "from assay.correct.b import x",
        "assay.correct.b": "def late():\n    import assay.correct.a",
        "assay.correct.c": "from assay.correct.a import x",
    }
    assert circles(sources) == ["assay.correct.a -> assay.correct.b -> assay.correct.a"]
