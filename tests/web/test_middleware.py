"""The guard of every local page: who is let in, what is bounded, and the headers of every answer."""

import asyncio

import pytest
from browser import HOST, TOKEN, Browser, converse, send

from assay.web.middleware import SECURITY_HEADERS, Guard

OWN = f"http://{HOST}"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def test_the_token_becomes_a_cookie(browser, echo):
    """The address that was printed is exchanged for a strict cookie of this port, and goes on to /."""
    answer = browser.ask("GET", f"/?token={TOKEN}")
    assert answer.status == 200
    name, _, rest = answer.header("set-cookie").partition("=")
    assert name == "assay-8765"
    assert rest.partition(";")[2] == " HttpOnly; SameSite=Strict; Path=/"
    assert 'http-equiv="refresh" content="0;url=/"' in answer.text
    assert TOKEN not in answer.text + rest
    assert echo.asked == []
    assert browser.get("/any").status == 200


def test_a_link_in_another_page_may_bring_the_token(browser):
    """A terminal in a browser is another site: following its link works, a script's request does not."""
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert browser.ask("GET", f"/?token={TOKEN}", link).status == 200
    assert browser.ask("GET", f"/?token={TOKEN}", link | {"sec-fetch-mode": "no-cors"}).status == 403
    assert browser.ask("GET", "/?token=other", link).status == 403


@pytest.mark.parametrize("token", ["", "a-secre", "a-secret-", "A-SECRET", "%00", "é"])
def test_another_token_opens_nothing(browser, echo, token):
    """Neither as an address, nor as a bearer, nor as a cookie."""
    assert browser.ask("GET", f"/?token={token}").status == 403
    assert browser.ask("GET", "/x", {"authorization": f"Bearer {token}"}).status == 403
    assert browser.ask("GET", "/x", {"cookie": f"assay-8765={token}"}).status == 403
    assert browser.ask("GET", "/x", {"cookie": f"assay-8765={TOKEN}"}).status == 403
    assert echo.asked == []


def test_the_token_opens_only_the_first_page(browser):
    """In another address, or in a request that changes something, it means nothing."""
    assert browser.ask("GET", f"/other?token={TOKEN}").status == 403
    assert browser.ask("POST", f"/?token={TOKEN}").status == 403


def test_other_cookies_are_left_alone(browser):
    """Other servers on this machine set cookies too, well formed or not."""
    crowd = f'a=b; "; x y=z;; {browser.cookie}; csrf={{"a": 1}}'
    assert browser.ask("GET", "/x", {"cookie": crowd}).status == 200
    assert browser.ask("GET", "/x", {"cookie": browser.cookie.replace("8765", "8766")}).status == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:8765:8765",
        "127.0.0.1:08765",
        "a/?x=127.0.0.1:8765",
        "a/?x=",
        "127.0.0.1:8765.evil.example",
        "evil@127.0.0.1:8765",
        "[::1]",
        "::1:8765",
        "",
        "127.0.0.1:8765, evil.example",
    ],
)
def test_a_foreign_host_is_misdirected(browser, echo, host):
    """DNS rebinding and odd hosts are refused before anything else, also with the cookie and the token."""
    for path in ("/x", f"/?token={TOKEN}", "/../../etc/passwd"):
        assert browser.get(path, host=host).status == 421
        assert browser.ask("POST", path, {"host": host, **BEARER}).status == 421
    assert echo.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"])
def test_the_names_of_this_machine_are_right(browser, host):
    """With the exact port."""
    assert browser.get("/x", host=host, origin=f"http://{host.lower()}").status == 200


def test_two_hosts_or_none_are_misdirected(browser):
    """There must be exactly one."""
    two = [("host", HOST), ("host", HOST), ("cookie", browser.cookie)]
    assert browser.ask("GET", "/x", two).status == 421
    none = browser.loop.run_until_complete(
        send(browser.app, "GET", "/x", [("cookie", browser.cookie)], [b""])
    )
    assert none.status == 421


def test_port_80_may_be_left_out(echo):
    """As browsers do."""
    browser = Browser(Guard(echo, port=80, token=TOKEN))
    assert browser.ask("GET", "/x", {"host": "localhost", **BEARER}).status == 200
    assert browser.ask("GET", "/x", {"host": "localhost:80", **BEARER}).status == 200
    browser.close()


def test_a_name_that_was_asked_for_is_right(echo):
    """Who serves beyond this machine names the address."""
    browser = Browser(Guard(echo, port=8765, token=TOKEN, hosts=("192.0.2.1",)))
    assert browser.ask("GET", "/x", {"host": "192.0.2.1:8765", **BEARER}).status == 200
    assert browser.ask("GET", "/x", {"host": "192.0.2.2:8765", **BEARER}).status == 421
    browser.close()


@pytest.mark.parametrize("target", ["http://127.0.0.1:8765/x", "x", "*", "//evil.example/x", ""])
def test_a_target_that_is_no_path_is_refused(browser, echo, target):
    """Absolute forms and the like."""
    assert browser.get(target).status == 400
    assert echo.asked == []


METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "post")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "https://127.0.0.1:8765"},
        {"origin": "http://127.0.0.1:8766"},
        {"origin": "http://localhost:8765"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "same-origin", "origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": OWN},
        {"sec-fetch-site": "cross-site", **BEARER},
        {"origin": "null", **BEARER},
    ],
)
def test_what_changes_something_comes_from_our_own_page(browser, echo, method, headers):
    """A form, a script or a frame of another page is refused, whatever cookie the browser sends along."""
    assert browser.ask(method, "/x", {"cookie": browser.cookie, **headers}).status == 403
    assert echo.asked == []


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": OWN}])
def test_our_own_page_may_change_something(browser, headers):
    """One of the two headers will do; a browser sends both."""
    assert browser.ask("POST", "/x", {"cookie": browser.cookie, **headers}, b"hello").json["body"] == "hello"


def test_a_program_needs_the_token_as_bearer(browser):
    """Without a browser's headers a cookie is not enough."""
    assert browser.ask("POST", "/x", {"cookie": browser.cookie}).status == 403
    assert browser.ask("POST", "/x", BEARER).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_another_page_cannot_read_either(browser, echo, headers):
    """Images and pages are not for other sites either, nor for other ports of this machine."""
    assert browser.ask("GET", "/x", {"cookie": browser.cookie, **headers}).status == 403
    assert echo.asked == []


def test_a_websocket_is_refused(browser, echo):
    """There are none."""
    headers = [("host", HOST), ("cookie", browser.cookie)]
    answer = browser.loop.run_until_complete(
        send(browser.app, "GET", "/x", headers, [b""], type_="websocket")
    )
    assert answer.json == ["websocket.close"]
    assert echo.asked == []


def test_a_query_of_any_length_is_no_token(browser, echo):
    """A thousand fields, or a megabyte of them, are refused like any other stranger."""
    stranger = {"cookie": ""}
    for query in ("&".join("a=b" for _ in range(1000)), "token=" + "x" * 1_000_000, "%ff&&&===;"):
        assert browser.ask("GET", f"/?{query}", stranger).status == 403
    assert echo.asked == []


def test_the_token_is_not_shown(echo):
    """The guard's own text, which may end in a log, does not have it."""
    assert TOKEN not in repr(Guard(echo, port=1, token=TOKEN))


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
    policy = (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    for answer in answers:
        assert {name: answer.header(name) for name, _ in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
        assert answer.header("content-security-policy") == policy
        assert answer.header("cache-control") == "no-store"
        assert not any(name.startswith("access-control") for name, _ in answer.headers)


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
    """Each may be allowed and all together fill the memory; a request that ends makes room."""
    guard = browser.app
    headers = [("host", HOST), *BEARER.items()]
    guard.free_bytes = 300
    answer = browser.loop.run_until_complete(send(guard, "POST", "/x", headers, [b"x" * 200, b"x" * 200]))
    assert (answer.status, echo.asked, guard.free_bytes) == (503, [], 300)
    assert browser.loop.run_until_complete(send(guard, "POST", "/x", headers, [b"x" * 200])).status == 200
    assert guard.free_bytes == 300


def test_a_refused_body_is_read_for_a_moment(browser):
    """So the client comes to read the answer."""
    left = [b"x" * 400] * 3

    async def receive():
        left.pop()
        return {"type": "http.request", "body": b"x", "more_body": bool(left)}

    headers = [("host", HOST), ("content-length", "5000"), *BEARER.items()]
    answer = browser.loop.run_until_complete(converse(browser.app, "POST", "/x", headers, receive))
    assert (answer.status, left) == (413, [])


def test_a_server_that_ends_at_once_logs_nothing(browser, echo):
    """A request that is cancelled ends without an answer and without an exception."""

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
    """Ranges cost work without end, and no proxy is expected."""
    answer = browser.get(
        "/x", range="bytes=0-,0-,0-", if_range="x", x_forwarded_host="evil", x_forwarded_for="1.1.1.1"
    )
    assert answer.json["headers"] == ["cookie", "host", "sec-fetch-site"]
