"""onnxruntime-web for the tests of the page, as ``npm pack`` wrote it into the virtual environment.

Without it these tests are skipped; where CI is set they fail instead.
"""

import os
import sys
from pathlib import Path

import pytest


def need_onnxruntime_web() -> Path:
    """The .tgz; the test is skipped without it, and fails in CI."""
    folder = Path(sys.prefix) / "onnxruntime-web"
    found = sorted(folder.glob("onnxruntime-web-*.tgz"))
    if found:
        return found[-1]
    words = f"expected onnxruntime-web in {folder}, got none; there, run: npm pack onnxruntime-web"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)
