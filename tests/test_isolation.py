"""What is loaded when, and what the tests themselves may reach."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "assay"
WITHOUT_TORCH = ("data", "noise", "correct", "evaluate", "predict", "review")


def modules_loaded_by(code: str) -> set[str]:
    """Names of the modules in memory after a fresh interpreter ran ``code``."""
    script = f"import sys\n{code}\nprint('loaded', *sys.modules, sep='\\n')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rpartition("loaded\n")[2].splitlines())


def test_importing_assay_loads_no_torch():
    """``import assay`` is cheap and works without the train extra."""
    assert "torch" not in modules_loaded_by("import assay")


def test_help_loads_no_torch():
    """``assay --help`` answers without loading torch."""
    code = (
        "from assay.cli.app import main\n"
        "sys.argv = ['assay', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )
    assert "torch" not in modules_loaded_by(code)


def test_the_packages_that_need_no_torch_load_none():
    """No module of the packages that read, evaluate, predict and review loads torch when it is imported."""
    files = [file for package in WITHOUT_TORCH for file in sorted((SOURCE / package).rglob("*.py"))]
    names = [".".join(file.relative_to(SOURCE.parent).with_suffix("").parts) for file in files]
    loaded = modules_loaded_by("\n".join(f"import {name.removesuffix('.__init__')}" for name in names))
    assert "assay.evaluate" in loaded
    assert "torch" not in loaded


def test_predicting_starts_without_scipy():
    """It takes longer to load than all else that a prediction needs."""
    loaded = modules_loaded_by("import assay.predict.batch, assay.predict.predictor")
    assert not {"scipy", "sklearn", "polars"} & loaded


def test_a_review_starts_without_the_tests_of_scipy():
    """They take a second to load, and no page needs them; nor do the commands that read a finished run."""
    loaded = modules_loaded_by("import assay.review.app, assay.review.neighbours, assay.pipeline.finished")
    assert "assay.noise.transition" in loaded
    assert not {"scipy.stats", "scipy.optimize"} & loaded


def test_tests_have_no_network():
    """A test that tries to reach another machine fails before anything is sent."""
    refusal = r"a test tried to reach 192\.0\.2\.1: tests have no network"
    with socket.socket() as client, pytest.raises(AssertionError, match=refusal):
        client.connect(("192.0.2.1", 80))


def test_tests_may_reach_this_machine():
    """A test may talk to a server that it started itself."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_tests_use_a_cache_of_their_own():
    """What the tests compute never reaches the user's cache."""
    assert "pytest" in os.environ["ASSAY_CACHE"]
    assert os.environ["ASSAY_OFFLINE"] == "1"
