"""Guard: the ASGI middleware before every local web page.

Every page that a browser on this machine visits can reach a server on it. So a request is let in only if it
is addressed to this server by name and port, comes from this server's own pages, and carries the token of
this run. Bodies, and the time for a request to arrive and be answered, are bounded.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = ("GET", "HEAD")

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""What a browser may call this machine."""

MAX_BODIES = 16
"""As many bodies of the largest size may be in memory at once."""

SECURITY_HEADERS = (
    (
        "content-security-policy",
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
)

_DROPPED = (b"range", b"if-range", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
"""Answers in ranges cost more than they are worth; no proxy is expected."""

# A page that goes on by itself, not a redirect: after a redirect the browser still takes the first page for
# the source of the request, and keeps a strict cookie back from it.
_WELCOME = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
    b'<title>assay</title><p><a href="/">Go on</a></p></html>'
)


class RefusedError(Exception):
    """A request that is not let in; ends in an answer, never in the server's log."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Guard:
    """An application behind the checks.

    Parameters
    ----------
    port : the one that the server listens on
    token : the secret of this run, never logged; None where programs may ask without one, and only requests
        of other pages are refused
    hosts : further names of this machine
    timeout_s : for a request to arrive, and for its answer to begin and end
    """

    def __init__(
        self,
        app: Application,
        *,
        port: int,
        token: str | None,
        hosts: Iterable[str] = (),
        max_body_bytes: int = 1024 * 1024,
        timeout_s: float = 30.0,
    ) -> None:
        self.app, self.port, self.token = app, port, token
        self.max_body_bytes, self.timeout_s = max_body_bytes, timeout_s
        names = (*LOOPBACK, *(host.lower() for host in hosts))
        self.addresses = {f"{name}:{port}" for name in names} | ({*names} if port == 80 else set())
        # Cookies do not tell ports apart: two pages on one machine would overwrite each other's.
        self.cookie_name = f"assay-{port}"
        # Not the token itself, which is in the history of the terminal.
        self.cookie = hashlib.sha256(f"cookie {token}".encode()).hexdigest()
        self.free_bytes = MAX_BODIES * max_body_bytes
        """Left for bodies, of all requests together."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = answered = False

        async def send_on(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "http.response.start":
                message = {**message, "headers": _with_security(message.get("headers", ()))}
            await send(message)

        try:
            async with asyncio.timeout(self.timeout_s):
                self._check_address(scope)
                self._check_origin(scope)
                if [value.lower() for value in _all(scope, b"upgrade")] == ["websocket"]:
                    raise RefusedError(403, "there are no WebSockets here")
                if self._brings_token(scope):
                    await self._welcome(send_on)
                    return
                self._check_token(scope)
                with contextlib.ExitStack() as held:
                    body = await self._read_body(scope, receive, held)
                    arrived = True
                    kept = [header for header in scope["headers"] if header[0] not in _DROPPED]
                    await self.app({**scope, "headers": kept}, _replay(body, receive), send_on)
        except RefusedError as refusal:
            await _refuse(send_on, refusal)
        except TimeoutError:
            if not answered:
                late = (503, "this took too long; try again")
                slow = (408, "the request took too long to arrive; try again")
                await _refuse(send_on, RefusedError(*(late if arrived else slow)))
        except asyncio.CancelledError:
            pass  # the server ends at once: nobody waits for the answer, nor for a line in the log

    def _check_address(self, scope: Scope) -> None:
        """Before anything else: against DNS rebinding and odd request lines."""
        hosts = _all(scope, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self.addresses:
            raise RefusedError(421, "this server has another name or port")
        if not scope["path"].startswith("/") or scope["path"].startswith("//"):
            raise RefusedError(400, "expected a path of this server")

    def _check_origin(self, scope: Scope) -> None:
        """From a page of ours, or from no page; a program without a browser has the token."""
        safe = scope["method"] in SAFE_METHODS
        sites, origins = _all(scope, b"sec-fetch-site"), _all(scope, b"origin")
        if origins and origins != [f"{scope['scheme']}://{_all(scope, b'host')[0].lower()}"]:
            raise RefusedError(403, "this request comes from another page")
        # A link with the token may be followed from elsewhere, such as a terminal in a browser.
        is_link = self._brings_token(scope) and _all(scope, b"sec-fetch-mode") == ["navigate"]
        if sites and not (sites == ["same-origin"] or (safe and (sites == ["none"] or is_link))):
            raise RefusedError(403, "this request comes from another page")
        if self.token and not safe and not sites and not origins and not self._is_bearer(scope):
            raise RefusedError(403, "a program must send the token as Authorization: Bearer")

    def _brings_token(self, scope: Scope) -> bool:
        if not self.token or scope["method"] not in SAFE_METHODS or scope["path"] != "/":
            return False
        # The page has no query at /, so one that is longer than a token's is no token.
        query = scope["query_string"].decode("latin-1")[:512]
        return _same(parse_qs(query).get("token", [""])[0], self.token)

    def _check_token(self, scope: Scope) -> None:
        has_cookie = any(_same(value, self.cookie) for value in _cookies(scope, self.cookie_name))
        if self.token and not has_cookie and not self._is_bearer(scope):
            raise RefusedError(403, "open the address that assay printed: this one lacks its token")

    def _is_bearer(self, scope: Scope) -> bool:
        values = _all(scope, b"authorization")
        return len(values) == 1 and _same(values[0], f"Bearer {self.token}")

    async def _welcome(self, send: Send) -> None:
        """Exchange the token for a cookie."""
        cookie = f"{self.cookie_name}={self.cookie}; HttpOnly; SameSite=Strict; Path=/"
        await _send_page(send, 200, b"text/html; charset=utf-8", _WELCOME, (b"set-cookie", cookie.encode()))

    async def _read_body(self, scope: Scope, receive: Receive, held: contextlib.ExitStack) -> bytes:
        """The whole body, before anything is done with it; its bytes are free again when ``held`` ends."""
        limit = self.max_body_bytes
        declared = [value for key, value in scope["headers"] if key == b"content-length"]
        if any(not value.isdigit() or len(value) > 18 or int(value) > limit for value in declared):
            raise RefusedError(413, f"expected at most {limit:,} bytes")
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "the rest of the request never came")
            piece = message.get("body", b"")
            if len(piece) > self.free_bytes:
                raise RefusedError(503, "too many large requests at once; try again in a moment")
            self.free_bytes -= len(piece)
            held.callback(self._free, len(piece))
            body += piece
            more = message.get("more_body", False)
            if len(body) > limit:
                raise RefusedError(413, f"expected at most {limit:,} bytes")
        return bytes(body)

    def _free(self, n_bytes: int) -> None:
        self.free_bytes += n_bytes


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body in one piece."""
    pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pieces.pop() if pieces else await receive()

    return replay


async def _refuse(send: Send, refusal: RefusedError) -> None:
    # The connection stays open: the server reads the rest of the body, which it passes over. A client whose
    # upload is cut off would see a reset in place of the answer.
    await _send_page(send, refusal.status, b"application/json", json.dumps({"error": str(refusal)}).encode())


async def _send_page(send: Send, status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-type", kind), (b"content-length", length), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_security(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers with ours and without any that would allow another origin."""
    ours = {name.encode(): value.encode() for name, value in SECURITY_HEADERS}
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in ours and not name.lower().startswith(b"access-control-")
    ]
    if not any(name.lower() == b"cache-control" for name, _ in kept):
        kept.append((b"cache-control", b"no-store"))
    return kept + list(ours.items())


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _same(value: str, secret: str) -> bool:
    """In constant time, so that nobody can find a secret letter by letter."""
    return hmac.compare_digest(value.encode(), secret.encode())


def _cookies(scope: Scope, name: str) -> list[str]:
    found = []
    for header in _all(scope, b"cookie"):
        for part in re.split(r";\s*", header[:8192]):
            try:
                cookie = SimpleCookie(part)
            except CookieError:  # of another server on this machine
                continue
            found += [morsel.value for key, morsel in cookie.items() if key == name]
    return found
