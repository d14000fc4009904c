"""The system's Chromium, and a review's server in a process of its own for it to talk to.

Without Chromium these tests are skipped; where CI is set they fail instead, so that nothing is green for
want of a browser.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable")

ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera with a drawn picture, for pages that ask for one
    "--use-fake-ui-for-media-stream",
)


def need_chromium() -> str:
    """Where Chromium is; the test is skipped without it, and fails in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    packages = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    if found and not packages:
        return found
    missing = ", ".join([*packages, *([] if found else ["chromium"])])
    words = (
        f"expected a browser to test with, missing: {missing}; apt-get install chromium, pip install '.[dev]'"
    )
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


@contextmanager
def chromium() -> Iterator[object]:
    """A running browser."""
    path = need_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and all that went on in it that should not have."""

    page: object
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Requests to other machines."""

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._asked)

    def _said(self, message) -> None:
        # Chromium itself reports answers such as 409, which the page handles and the test expects.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _dialog(self, dialog) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.elsewhere.append(request.url)


@dataclass
class Server:
    """``assay review`` in a process of its own."""

    process: subprocess.Popen
    address: str

    @property
    def port(self) -> str:
        return self.address.partition("127.0.0.1:")[2].partition("/")[0]

    def kill(self) -> None:
        """In this moment, as a power cut would."""
        self.process.kill()
        self.process.communicate()

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; the exit code and what was said."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@contextmanager
def serving(run: Path, *flags: str) -> Iterator[Server]:
    """A server that answers; it is killed at the end if the test did not end it."""
    script = Path(__file__).with_name("review_runs.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])}
    command = [sys.executable, str(script), "review", str(run), "--no-browser", "--who", "mia", *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    address = process.stdout.readline().strip()
    try:
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        yield Server(process, address)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
