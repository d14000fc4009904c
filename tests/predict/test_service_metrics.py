"""What assay serve tells of its work."""

import asyncio

import pytest

pytest.importorskip("fastapi")

from browser import HOST, Browser, send

from assay.predict.runtime import load_runtime
from assay.predict.service import make_service
from assay.predict.work import Service


@pytest.fixture
def app(model):
    return make_service(Service(load_runtime(model), "trees"))


@pytest.fixture
def browser(app):
    found = Browser(app)
    yield found
    found.close()


def test_metrics_count_what_was_done(browser, new_images):
    """Requests by address and status, images by what became of them, how many were answered together."""
    for name in ("5.png", "empty.png"):
        browser.ask("POST", "/predict", {}, (new_images / name).read_bytes())
    browser.get("/nothing")
    text = browser.get("/metrics").text
    assert 'assay_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'assay_requests_total{path="other",status="404"} 1.0' in text
    assert 'assay_images_total{status="ok"} 1.0' in text
    assert 'assay_images_total{status="empty_file"} 1.0' in text
    assert "assay_batch_images_count 1.0" in text


def test_metrics_count_what_nobody_answered(app, browser):
    """A bug is a 500, and what took too long a 503: a server in trouble shows it."""

    async def broken():
        raise RuntimeError("a bug")

    async def slow():
        await asyncio.sleep(60)

    app.add_api_route("/broken", broken)
    app.add_api_route("/slow", slow)
    with pytest.raises(RuntimeError, match="a bug"):
        browser.get("/broken")
    with pytest.raises(TimeoutError):
        browser.loop.run_until_complete(
            asyncio.wait_for(send(app, "GET", "/slow", [("host", HOST)], [b""]), 0.2)
        )
    text = browser.get("/metrics").text
    assert 'assay_requests_total{path="/broken",status="500"} 1.0' in text
    assert 'assay_requests_total{path="/slow",status="503"} 1.0' in text
