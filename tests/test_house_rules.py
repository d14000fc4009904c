"""The rules of CONTRIBUTING.md that a reader of the source would otherwise have to check by eye."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RUNS_CODE = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
"""Modules whose files run code, or crash, when a stranger wrote them."""


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    """Path from the root, and text, of every Python file in ``folders``."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield str(file.relative_to(ROOT)), file.read_text("utf-8")


def loads_code(text: str) -> list[str]:
    """Line and name of each import of a module whose files run code, and of NumPy's door to it."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and ast.unparse(node.value) != "False"
        ):
            names = ["pickle"]
        found += [f"{node.lineno}: {name}" for name in names if name.split(".")[0] in RUNS_CODE]
    return found


def test_no_module_can_unpickle():
    """No module of the package reads a format that runs code."""
    assert {file: found for file, text in sources("src") if (found := loads_code(text))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "def f():\n    import shelve",
        "np.load(file, allow_pickle=True)",
    ],
)
def test_a_way_to_unpickle_is_found(line):
    """Each way to read a pickle is found, wherever it is written."""
    assert len(loads_code(line)) == 1
    assert loads_code("np.load(file, allow_pickle=False)") == []


def test_no_module_postpones_its_annotations():
    """Annotations stay objects, so that shapes can be checked while the tests run."""
    pattern = re.compile(r"^from __future__ import .*annotations", re.MULTILINE)
    assert [file for file, text in sources("src", "tests") if pattern.search(text)] == []


SILENCER = re.compile(r"#\s*(noqa|type:\s*ignore|fmt:\s*(?:off|skip)|pragma:)(?P<rest>.*)$")


def without_reason(text: str) -> list[int]:
    """Numbers of the lines whose comment silences a rule and gives no reason after a second ``#``."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = (
        (token.start[0], SILENCER.search(token.string)) for token in tokens if token.type == tokenize.COMMENT
    )
    return [line for line, match in comments if match and not re.search(r"#\s*\w", match["rest"])]


def test_every_silenced_rule_gives_its_reason():
    """A line that silences a linter or type checker says why, after a second ``#``."""
    files = sources("src", "tests", "benchmarks")
    assert {file: lines for file, text in files if (lines := without_reason(text))} == {}


def test_a_missing_reason_is_found():
    """Only the comment that gives no reason is reported, and text in quotes is no comment."""
    text = 'import a  # noqa: F401\nimport b  # noqa: F401  # asked for its effect\nc = "# noqa"\n'
    assert without_reason(text) == [1]


def test_every_rule_silenced_for_all_gives_its_reason():
    """An entry of a list of ignored rules in pyproject.toml has its reason beside it."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    entries = re.findall(r'^(?:"\S+" = \[| *)"[A-Z]+\d*".*$', text, re.MULTILINE)
    assert len(entries) > 10
    assert [entry for entry in entries if not re.search(r"# \w", entry)] == []


def test_every_test_says_what_it_shows():
    """Each test has a docstring, a whole sentence of behaviour."""
    found = []
    for file, text in sources("tests"):
        for node in ast.walk(ast.parse(text)):
            is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            if is_test and not (ast.get_docstring(node) or "").endswith("."):
                found.append(f"{file}:{node.lineno} {node.name}")
    assert found == []


def test_the_list_of_behaviours_names_tests_that_exist():
    """Each test that tests/README.md names, or a test that begins so, is there."""
    named = set(re.findall(r"\btest_[a-z0-9_]+", (ROOT / "tests" / "README.md").read_text("utf-8")))
    known = {Path(file).stem for file, _ in sources("tests")}
    known |= {name for _, text in sources("tests") for name in re.findall(r"def (test_\w+)", text)}
    assert len(named) > 100
    assert [name for name in sorted(named) if not any(one.startswith(name) for one in known)] == []
