"""A run made by hand, its desk, and a window on its page."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import HOST, Browser
from chromium import Watched, chromium
from review_runs import draw_images, write_run

pytest.importorskip("fastapi", reason="needs the web extra")

from assay.data.decision_store import open_decisions
from assay.review.neighbours import Neighbours
from assay.review.queue import order_images
from assay.review.run import read_review_run
from assay.review.server import guarded_app
from assay.review.session import ReviewSession
from assay.review.thumbnails import Thumbnails

TOKEN = "secret-of-this-run"


@dataclass
class Opened:
    """A desk, its guarded page and a window that has exchanged the token."""

    session: ReviewSession
    app: object
    browser: Browser

    @property
    def run_name(self) -> str:
        """What only a page that was let in says."""
        return f"{self.session.run.folder.resolve().name} · assay"


def open_desk(run: Path, images: Path | None = None, **order) -> ReviewSession:
    found = read_review_run(run, images)
    options = {"strategy": "doubtful", "seed": 0, **order}
    ordered = order_images(found.noisy, found.proposed, found.confidence, found.is_open, **options)
    store = open_decisions(run / "decisions.sqlite")
    neighbours = Neighbours(found, None)
    return ReviewSession(found, store, ordered, neighbours, "mia")


def open_page(run: Path, images: Path | None = None, **order) -> Opened:
    session = open_desk(run, images, **order)
    app = guarded_app(session, Thumbnails(session.run.images), port=8765, token=TOKEN)
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
    """A run folder that says where its images are."""
    return write_run(tmp_path / "out", images=images)


@pytest.fixture
def opened(run):
    """The page of that run."""
    found = open_page(run)
    yield found
    found.browser.close()
    found.session.store.close()


@pytest.fixture
def opener():
    """Opens pages of other runs, and closes them."""
    every = []

    def give(*arguments, **options):
        every.append(open_page(*arguments, **options))
        return every[-1]

    yield give
    for found in every:
        found.browser.close()
        found.session.store.close()


@pytest.fixture
def session(run):
    found = open_desk(run)
    yield found
    found.store.close()


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def host() -> str:
    return HOST


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
    """Opens an address in a browser of its own; at the end nothing was said and nobody else was asked."""
    validation = []

    def give(address, **context) -> object:
        page = chrome.new_context(**context).new_page()
        page.set_default_timeout(120_000)  # a busy machine is slow, and not wrong
        validation.append(Watched(page))
        page.goto(address)
        # The page says its image's address once its script runs: from then on keys are heard.
        page.wait_for_url("**/item/*")
        return page

    yield give
    for one in validation:
        one.page.context.close()
    assert [one.errors for one in validation] == [[] for _ in validation]
    assert [one.elsewhere for one in validation] == [[] for _ in validation]
