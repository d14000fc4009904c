"""Headers of every answer, and requests that are too large, too slow or broken off."""

import asyncio

from browser import HOST, TOKEN, converse, send

from assay.web.messages import SECURITY_HEADERS

BEARER = {"authorization": f"Bearer {TOKEN}"}


def test_every_answer_has_the_security_headers(browser):
    """Pages, refusals and the exchange of the token; and none allows another origin."""
    answers = [
        browser.get("/x"),
        browser.get("/x", host="evil"),
        browser.get(f"/?token={TOKEN}"),
        browser.ask("POST", "/x"),
        browser.ask("POST", "/x", {"content-length": "5000", **BEARER}),
    ]
    assert [answer.status for answer in answers] == [200, 421, 200, 403, 413]
    for answer in answers:
        assert {name: answer.header(name) for name, _ in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
        assert answer.header("cache-control") == "no-store"
        assert not any(name.startswith("access-control") for name, _ in answer.headers)


def test_the_policy_is_the_agreed_one():
    """Nothing from elsewhere, no frames, no inline scripts."""
    assert dict(SECURITY_HEADERS) == {
        "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
    }


def test_a_large_body_is_refused(browser, echo):
    """Announced or not, in one piece or many, and with a length that is no number."""
    for length in ("1001", "99999999999999999999", "-1", "x", "1e3"):
        assert browser.ask("POST", "/x", {"content-length": length, **BEARER}).status == 413
    headers = [("host", HOST), *BEARER.items()]
    pieces = [b"x" * 400] * 3
    answer = browser.loop.run_until_complete(send(browser.app, "POST", "/x", headers, pieces))
    assert answer.status == 413
    assert echo.asked == []
    assert browser.ask("POST", "/x", BEARER, b"x" * 1000).status == 200


def test_a_body_that_never_ends_is_given_up(browser, echo):
    """A slow client has its time, and then gets an answer."""

    async def dribble():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    headers = [("host", HOST), *BEARER.items()]
    answer = browser.loop.run_until_complete(converse(browser.app, "POST", "/x", headers, dribble))
    assert answer.status == 408
    assert echo.asked == []


def test_too_many_large_bodies_are_refused(browser, echo):
    """Each may be allowed and all together fill the memory; who ends makes room."""
    guard = browser.app
    headers = [("host", HOST), *BEARER.items()]
    guard.bodies.held = guard.bodies.room - 300
    answer = browser.loop.run_until_complete(send(guard, "POST", "/x", headers, [b"x" * 200, b"x" * 200]))
    assert (answer.status, echo.asked) == (503, [])
    assert guard.bodies.held == guard.bodies.room - 300
    assert browser.loop.run_until_complete(send(guard, "POST", "/x", headers, [b"x" * 200])).status == 200
    assert guard.bodies.held == guard.bodies.room - 300


def test_who_sends_too_much_can_hear_it(browser):
    """What is announced is taken for a moment, so that the client comes to read the answer."""
    left = [b"x" * 400] * 3

    async def receive():
        left.pop()
        return {"type": "http.request", "body": b"x", "more_body": bool(left)}

    headers = [("host", HOST), ("content-length", "5000"), *BEARER.items()]
    answer = browser.loop.run_until_complete(converse(browser.app, "POST", "/x", headers, receive))
    assert (answer.status, left) == (413, [])


def test_a_server_that_ends_at_once_says_nothing(browser, echo):
    """The answer that was begun is given up without a word in the log."""

    async def asked_and_ended():
        async def never():
            await asyncio.sleep(60)

        headers = [("host", HOST), *BEARER.items()]
        task = asyncio.create_task(converse(browser.app, "POST", "/x", headers, never))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert browser.loop.run_until_complete(asked_and_ended()).status == 0


def test_a_client_that_goes_away_ends_quietly(browser, echo):
    """Its half request reaches nobody."""

    async def gone():
        return {"type": "http.disconnect"}

    headers = [("host", HOST), *BEARER.items()]
    answer = browser.loop.run_until_complete(converse(browser.app, "POST", "/x", headers, gone))
    assert answer.status == 400
    assert echo.asked == []


def test_ranges_and_forwarding_never_reach_the_application(browser):
    """Range asks for work without end; a proxy's headers would be a stranger's words here."""
    answer = browser.get(
        "/x", range="bytes=0-,0-,0-", if_range="x", x_forwarded_host="evil", x_forwarded_for="1.1.1.1"
    )
    assert answer.json["headers"] == ["cookie", "host", "sec-fetch-site"]
