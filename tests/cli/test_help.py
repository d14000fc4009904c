"""Help pages: what they say, and that docs/cli.md says the same."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import typer

DOCS = Path(__file__).parents[2] / "docs"

PAGE = (DOCS / "cli.md").read_text(encoding="utf-8")

COMMANDS = (
    "run",
    "noise",
    "predict",
    "export",
    "serve",
    "evaluate",
    "compare",
    "audit",
    "report",
    "review",
    "plan",
    "demo",
)


@pytest.fixture(scope="module")
def generator():
    """The script that writes the page."""
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same_typer() -> bool:
    """Whether the page was written with the typer that is installed: another one lays help out otherwise."""
    return f"with typer {'.'.join(typer.__version__.split('.')[:2])}." in PAGE


@pytest.mark.skipif(not same_typer(), reason="docs/cli.md was written with another version of typer")
def test_the_documented_help_is_the_help(generator):
    """docs/cli.md is what ``make docs`` writes, whole."""
    assert generator.text() == PAGE


@pytest.mark.skipif(not same_typer(), reason="docs/cli.md was written with another version of typer")
@pytest.mark.parametrize("words", [(), *((command,) for command in COMMANDS)])
def test_a_help_page_is_what_is_documented(assay, monkeypatch, words):
    """Each command prints the page that docs/cli.md shows, on a terminal of that width, for -h and --help."""
    monkeypatch.setenv("COLUMNS", "100")
    section = PAGE.partition(f"\n## {' '.join(('assay', *words))}\n\n```\n")[2].partition("\n```\n")[0]
    for flag in ("-h", "--help"):
        noisy = assay(*words, flag)
        assert (noisy.code, noisy.err) == (0, "")
        assert noisy.out.strip() == section


def test_every_command_has_examples_that_parse(assay, monkeypatch, tmp_path):
    """The examples of a help page name flags that there are."""
    for command in COMMANDS:
        lines = assay(command, "-h").out.partition("Examples:\n")[2].splitlines()
        assert lines, command
        for line in lines:
            words = line.partition("|")[0].split()
            assert words[:2] == ["assay", command]
            if command != "demo":
                noisy = assay(*words[1:])
                assert "No such option" not in noisy.err
                assert noisy.code in (2, 3), line  # the files of the examples are not here


def test_help_fits_a_narrow_terminal(assay, monkeypatch):
    """On 20 columns nothing breaks, and there is no escape sequence anywhere."""
    monkeypatch.setenv("COLUMNS", "20")
    for words in ((), ("run",)):
        noisy = assay(*words, "-h")
        assert noisy.code == 0
        assert "\x1b" not in noisy.out


def test_the_documented_exit_codes_are_the_ones_there_are():
    """The table names every code of ``errors.py``, and those of signals."""
    from assay import errors
    from assay.cli.endings import INTERRUPTED, SKIPPED, TERMINATED

    named = {
        int(code)
        for code in re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)))
    }
    classes = [found for found in vars(errors).values() if isinstance(found, type)]
    codes = {found.exit_code for found in classes if issubclass(found, errors.AssayError)}
    assert named == {0, SKIPPED, INTERRUPTED, TERMINATED, *codes}


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_next_to_nothing(words):
    """Help is instant, since neither torch nor numpy nor any other large package is loaded for it."""
    code = (
        "import sys\nfrom assay.cli.app import run_app\n"
        f"code = run_app({words})\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'PIL', 'polars', 'timm', 'safetensors'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)), code)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "loaded [] 0"


def test_importing_assay_loads_next_to_nothing():
    """The names are loaded when they are used."""
    code = "import sys, assay\nprint(sorted({'torch', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
