"""Help pages, docs/cli.md, and how little they load."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from assay import errors
from assay.cli.app import COMMANDS, SIGNALS
from assay.cli.options import SKIPPED

DOCS = Path(__file__).parents[2] / "docs"

PAGE = (DOCS / "cli.md").read_text(encoding="utf-8")


def test_the_documentation_is_up_to_date(monkeypatch):
    """docs/cli.md and docs/reference.md are what ``make docs`` writes, whole."""
    monkeypatch.setattr(sys, "argv", ["assay"])  # cyclopts takes the program's name from it
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    generator = module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.text() == PAGE
    assert generator.reference() == (DOCS / "reference.md").read_text(encoding="utf-8")


def test_the_documented_exit_codes_are_the_ones_there_are():
    """The table names every code of ``errors.py``, and those of signals."""
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)
    classes = [found for found in vars(errors).values() if isinstance(found, type)]
    found = {error.exit_code for error in classes if issubclass(error, errors.AssayError)}
    assert {int(code) for code in re.findall(r"\d+", " ".join(rows))} == {0, SKIPPED, 130, *SIGNALS, *found}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_parse(assay, command):
    """-h and --help print one page; each of its examples is refused only because its files are missing."""
    found = assay(command, "-h")
    assert (found.code, found.err, found.out) == (0, "", assay(command, "--help").out)
    assert found.out.startswith(f"Usage: assay {command} ")
    lines = re.sub(r"\n(?! )", " ", found.out.partition("Examples:\n")[2]).split("  assay ")[1:]
    assert lines
    for line in lines:
        words = line.partition("|")[0].partition("<")[0].split()
        assert words[0] == command
        if command != "demo":
            tried = assay(*words)
            assert tried.code in (2, 3)
            assert f"See assay {command} -h" not in tried.err, tried.err


OWN = {
    "--out": "each command writes its own things",
    "IMAGES": "new images may come on stdin; those of a run may have moved",
    "--decisions": "run trains on them, labels writes them",
    "--format": "predict writes rows, labels writes folders and files of other tools too",
    "--labels": "evaluate takes right labels, check those that it is to check",
}


def test_an_option_means_the_same_everywhere():
    """Each argument and option has its help, a sentence; those of one name have one text."""
    commands = PAGE.partition("### assay run")[2].partition("### assay --install")[0]
    texts = {}
    for name, text in re.findall(r"^\* `([\w|-]+)[^`]*`: (.*)$", commands, re.MULTILINE):
        sentence = re.sub(r" \*+\[.*", "", text)
        assert sentence.endswith("."), name
        texts.setdefault(name, set()).add(sentence)
    assert len(texts) > 60
    assert {name for name, found in texts.items() if len(found) > 1} == {*OWN}


def test_without_a_command_the_help_is_shown(assay):
    """The name alone shows the commands."""
    found = assay()
    assert (found.code, found.out) == (0, assay("-h").out)
    assert "Start with: assay demo" in found.out


def test_help_fits_a_narrow_terminal(assay, monkeypatch):
    """On 20 columns nothing breaks (fault 52)."""
    monkeypatch.setenv("COLUMNS", "20")
    for words in ((), ("run",)):
        found = assay(*words, "-h")
        assert found.code == 0
        assert max(map(len, found.out.splitlines())) <= 20 or "Examples" in found.out


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_next_to_nothing(words):
    """Help is instant: no large package is loaded for it."""
    code = (
        "import sys\nfrom assay.cli.app import run_app\n"
        f"code = run_app({words})\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'PIL', 'polars', 'timm', 'onnx', 'onnxruntime'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)), code)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "loaded [] 0"
