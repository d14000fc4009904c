"""A run made by hand, its review, and a window on its page."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Browser
from chromium import Watched
from review_runs import draw_images, open_review, write_run

pytest.importorskip("fastapi", reason="needs the web extra")

from assay.review.app import Thumbnails, make_app
from assay.review.session import ReviewSession
from assay.web.middleware import Guard

TOKEN = "secret-of-this-run"


@dataclass
class Opened:
    """A review, and a window on its guarded page."""

    session: ReviewSession
    browser: Browser


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Forty images; not to be changed."""
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder, [f"{row}.png" for row in range(40)])
    return folder


@pytest.fixture
def run(tmp_path, images) -> Path:
    """A run folder that knows where its images are."""
    return write_run(tmp_path / "out", images=images)


@pytest.fixture
def opener():
    """Opens pages of runs in windows that have exchanged the token, and closes them."""
    with ExitStack() as ends:

        def give(run: Path) -> Opened:
            session = open_review(run, "doubtful")
            ends.callback(session.store.close)
            app = make_app(session, Thumbnails(session.run.images))
            browser = Browser(Guard(app, port=8765, token=TOKEN))
            ends.callback(browser.close)
            browser.cookie = browser.get(f"/?token={TOKEN}").header("set-cookie").partition(";")[0]
            return Opened(session, browser)

        yield give


@pytest.fixture
def opened(opener, run) -> Opened:
    return opener(run)


@pytest.fixture
def session(opened) -> ReviewSession:
    return opened.session


@pytest.fixture
def visit(chrome):
    """Opens an address in a new window; at the end there were no errors and no requests to other servers."""
    windows = []

    def give(address, **context) -> object:
        page = chrome.new_context(**context).new_page()
        page.set_default_timeout(120_000)  # a busy machine is slow, and not wrong
        windows.append(Watched(page))
        page.goto(address)
        # The script sets this address when it starts: from then on keys work.
        page.wait_for_url("**/item/*")
        return page

    yield give
    for one in windows:
        one.page.context.close()
    assert [(one.errors, one.elsewhere) for one in windows] == [([], [])] * len(windows)
