"""A run made by hand, its review, and a window on its page."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Browser
from chromium import Watched, chromium
from review_runs import draw_images, write_run

pytest.importorskip("fastapi", reason="needs the web extra")

from assay.data.decisions import open_decisions
from assay.review.app import Thumbnails, make_app
from assay.review.neighbours import Neighbours
from assay.review.queue import order_images
from assay.review.run import read_review_run
from assay.review.session import ReviewSession
from assay.web.middleware import Guard

TOKEN = "secret-of-this-run"


@dataclass
class Opened:
    """A review, its guarded page and a window that has exchanged the token."""

    session: ReviewSession
    app: object
    browser: Browser


def open_session(run: Path) -> ReviewSession:
    found = read_review_run(run)
    ordered = order_images(found.noisy, found.proposed, found.confidence, found.is_open, strategy="doubtful")
    return ReviewSession(
        found, open_decisions(run / "decisions.sqlite"), ordered, Neighbours(found, None), "mia"
    )


def open_page(run: Path) -> Opened:
    session = open_session(run)
    app = Guard(make_app(session, Thumbnails(session.run.images)), port=8765, token=TOKEN)
    browser = Browser(app)
    browser.cookie = browser.get(f"/?token={TOKEN}").header("set-cookie").partition(";")[0]
    return Opened(session, app, browser)


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
def opened(opener, run):
    """The page of that run."""
    return opener(run)


@pytest.fixture
def opener():
    """Opens pages of runs, and closes them."""
    every = []

    def give(run):
        every.append(open_page(run))
        return every[-1]

    yield give
    for found in every:
        found.browser.close()
        found.session.store.close()


@pytest.fixture
def session(run):
    found = open_session(run)
    yield found
    found.store.close()


@pytest.fixture
def loop():
    found = asyncio.new_event_loop()
    yield found
    found.close()


@pytest.fixture(scope="module")
def chrome():
    """Chromium, for the tests of one file: while it runs, no other loop may run in this thread."""
    with chromium() as found:
        yield found


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
    assert [one.errors for one in windows] == [[] for _ in windows]
    assert [one.elsewhere for one in windows] == [[] for _ in windows]
