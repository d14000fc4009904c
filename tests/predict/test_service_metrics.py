"""What assay serve tells of requests that it could not answer."""

import asyncio

import pytest

pytest.importorskip("fastapi")

from browser import HOST, Browser, send

from assay.predict.runtime import load_runtime
from assay.serve.service import make_service
from assay.serve.work import Service


@pytest.fixture
def app(model):
    return make_service(Service(load_runtime(model), "trees"))


@pytest.fixture
def browser(app):
    found = Browser(app)
    yield found
    found.close()


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
