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
    script = link | {"sec-fetch-mode": "no-cors"}
    asked = ((f"/?token={TOKEN}", link), (f"/?token={TOKEN}", script), ("/?token=other", link))
    assert [browser.ask("GET", *one).status for one in asked] == [200, 403, 403]


@pytest.mark.parametrize("token", ["", "a-secre", "a-secret-", "A-SECRET", "%00", "é"])
def test_another_token_opens_nothing(browser, echo, token):
    """Neither as an address, a bearer or a cookie; nor does the right one but in the first page."""
    for method, path, headers in (
        ("GET", f"/?token={token}", {}),
        ("GET", "/x", {"authorization": f"Bearer {token}"}),
        ("GET", "/x", {"cookie": f"assay-8765={token}"}),
        ("GET", "/x", {"cookie": f"assay-8765={TOKEN}"}),
        ("GET", f"/other?token={TOKEN}", {}),
        ("POST", f"/?token={TOKEN}", {}),
    ):
        assert browser.ask(method, path, headers).status == 403
    assert echo.asked == []


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


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1:8765", 8765),
        ("localhost:8765", 8765),
        ("LOCALHOST:8765", 8765),
        ("[::1]:8765", 8765),
        ("192.0.2.1:8765", 8765),
        ("localhost", 80),
        ("localhost:80", 80),
    ],
)
def test_the_names_of_this_machine_are_right(echo, host, port):
    """With the exact port, but for port 80, and those that were named."""
    browser = Browser(Guard(echo, port=port, token=TOKEN, hosts=("192.0.2.1",)))
    headers = {"host": host, "origin": f"http://{host.lower()}"}
    assert browser.ask("POST", "/x", headers | BEARER).status == 200
    browser.close()


def test_two_hosts_or_none_are_misdirected(browser):
    """There must be exactly one."""
    for hosts in ([("host", HOST)] * 2, []):
        headers = [*hosts, ("cookie", browser.cookie)]
        asked = send(browser.app, "GET", "/x", headers, [b""])
        assert browser.loop.run_until_complete(asked).status == 421


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


@pytest.mark.parametrize(
    ("headers", "has_cookie", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, True, 200),
        ({"origin": OWN}, True, 200),
        ({}, True, 403),
        (BEARER, False, 200),
    ],
)
def test_our_own_page_and_a_program_may_change_something(browser, headers, has_cookie, status):
    """One of the page's two headers will do; a program has neither, and needs the token as a bearer."""
    cookie = {"cookie": browser.cookie} if has_cookie else {}
    found = browser.ask("POST", "/x", cookie | headers, b"hello")
    assert (found.status, "hello" in found.text) == (status, status == 200)


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


def test_a_query_of_any_length_is_no_token(browser, echo):
    """A thousand fields, or a megabyte of them, are refused like any other stranger."""
    stranger = {"cookie": ""}
    for query in ("&".join("a=b" for _ in range(1000)), "token=" + "x" * 1_000_000, "%ff&&&===;"):
        assert browser.ask("GET", f"/?{query}", stranger).status == 403
    assert echo.asked == []


def test_every_answer_has_the_security_headers(browser):
    """Pages, refusals and the exchange of the token; and none allows another origin."""
    assert TOKEN not in repr(browser.app)
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


def test_too_many_large_bodies_are_refused(browser, echo):
    """Each may be allowed and all together fill the memory; a request that ends makes room."""
    guard = browser.app
    headers = [("host", HOST), *BEARER.items()]
    guard.free_bytes = 300
    answer = browser.loop.run_until_complete(send(guard, "POST", "/x", headers, [b"x" * 200, b"x" * 200]))
    assert (answer.status, echo.asked, guard.free_bytes) == (503, [], 300)
    assert browser.loop.run_until_complete(send(guard, "POST", "/x", headers, [b"x" * 200])).status == 200
    assert guard.free_bytes == 300


async def dribble():
    await asyncio.sleep(0.05)
    return {"type": "http.request", "body": b"x", "more_body": True}


async def go_away():
    return {"type": "http.disconnect"}


async def end():
    raise asyncio.CancelledError


@pytest.mark.parametrize(("receive", "status"), [(dribble, 408), (go_away, 400), (end, 0)])
def test_a_body_that_does_not_end_reaches_nobody(browser, echo, receive, status):
    """A slow client has its time and gets an answer; one that leaves, or a server that ends, logs nothing."""
    headers = [("host", HOST), *BEARER.items()]
    answer = browser.loop.run_until_complete(converse(browser.app, "POST", "/x", headers, receive))
    assert (answer.status, echo.asked) == (status, [])


def test_ranges_and_forwarding_never_reach_the_application(browser):
    """Ranges cost work without end, and no proxy is expected."""
    answer = browser.get(
        "/x", range="bytes=0-,0-,0-", if_range="x", x_forwarded_host="evil", x_forwarded_for="1.1.1.1"
    )
    assert answer.json["headers"] == ["cookie", "host", "sec-fetch-site"]
