"""The system's Chromium, and a review's server for it to talk to, here or in a process of its own.

Without Chromium these tests are skipped; where CI is set they fail instead, so that nothing is green for
want of a browser.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
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


COMMAND = """
import signal
from assay.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored Ctrl-C is inherited from where tests start
main()
"""


@dataclass
class Server:
    """``assay review``."""

    address: str
    process: subprocess.Popen | None = None

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
def serving(run: Path, port: str = "0") -> Iterator[Server]:
    """A server in a thread: it is there at once. What it serves was opened anew, as by another process."""
    import uvicorn
    from review_runs import open_review

    from assay.review.app import Thumbnails, make_app
    from assay.web.listen import listen, new_token, serve
    from assay.web.middleware import Guard

    session, token, ready = open_review(run), new_token(), threading.Event()
    listener, thumbnails = listen("127.0.0.1", int(port)), Thumbnails(session.run.images)
    bound = listener.getsockname()[1]
    app = Guard(make_app(session, thumbnails), port=bound, token=token)
    servers = []

    class Kept(uvicorn.Server):
        """Can be ended without a signal, which only the main thread gets."""

        def __init__(self, config) -> None:
            super().__init__(config)
            servers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", Kept)
        thread = threading.Thread(target=lambda: asyncio.run(serve(app, listener, ready=ready.set)))
        thread.start()
        assert ready.wait(60)
    try:
        yield Server(f"http://127.0.0.1:{bound}/?token={token}")
    finally:
        servers[0].should_exit = True
        thread.join()
        listener.close()
        thumbnails.close()
        session.store.close()


@contextmanager
def serving_apart(run: Path) -> Iterator[Server]:
    """A server in a process of its own; it is killed at the end if the test did not end it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMMAND, "review", str(run), "--no-browser", "--who", "mia"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    address = process.stdout.readline().strip()
    try:
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        yield Server(address, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
