"""Processes that run, are killed and run out of disk."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def process() -> Callable[..., dict]:
    """Run a scenario of ``scenarios.py`` in a process of its own; what it prints as JSON."""

    def run(scenario: str, *arguments: object) -> dict:
        script = Path(__file__).with_name("scenarios.py")
        command = [sys.executable, str(script), scenario, *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run
