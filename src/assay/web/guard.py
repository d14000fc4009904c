"""Guard: what stands before every local web page.

A server on this machine can be reached by every page that a browser here visits. So the guard lets a
request pass only if it is addressed to this server by name and port, comes from this server's own pages,
and carries the secret of this run. It is plain ASGI and wraps the whole application, errors too.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from assay.web.messages import (
    Bodies,
    Receive,
    RefusedError,
    Send,
    let_pass,
    read_body,
    refuse,
    with_headers,
)

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = ("GET", "HEAD")

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""What a browser may call this machine."""

MANY_BODIES = 16
"""As many of the largest that are allowed may be held at once."""

_NOT_FORWARDED = (b"range", b"if-range", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
"""Range asks for parts of answers, which costs more to grant than it is worth; no proxy is expected."""

_WELCOME = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
    b'<title>assay</title><p><a href="/">Go on</a></p></html>'
)


@dataclass(frozen=True)
class Guard:
    """An application behind the checks."""

    app: Application
    port: int
    """The one that the server listens on."""
    token: str | None = field(repr=False)
    """The secret of this run, see ``new_token``; never logged. None where programs may ask without one: then
    only requests of other pages are refused."""
    hosts: tuple[str, ...] = ()
    """Further names of this machine, for who serves beyond it on purpose."""
    max_body_bytes: int = 1024 * 1024
    timeout_s: float = 30.0
    """For a request to arrive, and for its answer to begin and end."""

    @cached_property
    def bodies(self) -> Bodies:
        """Of all requests together."""
        return Bodies(MANY_BODIES * self.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":  # a WebSocket: there are none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        course = _Course(send)
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._let_in(scope, receive, course)
        except RefusedError as refusal:
            if refusal.status == 413:
                await let_pass(receive)
            await refuse(send, refusal)
        except TimeoutError:
            if not course.answered:
                await refuse(send, course.too_slow())
        except asyncio.CancelledError:
            # The server ends at once: nobody waits for the answer, nor for a word about it in the log.
            pass

    async def _let_in(self, scope: Scope, receive: Receive, course: "_Course") -> None:
        self._check_address(scope)
        self._check_origin(scope)
        if self._brings_token(scope):
            await self._welcome(course.send_on)
            return
        self._check_secret(scope)
        with self.bodies.counted() as take:
            body = await read_body(scope, receive, self.max_body_bytes, take)
            course.arrived = True
            await self.app(_without(scope, _NOT_FORWARDED), body, course.send_on)

    def _check_address(self, scope: Scope) -> None:
        """Before anything else: is this request for us? Against DNS rebinding and odd request lines."""
        hosts = _all(scope, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self._addresses():
            raise RefusedError(421, "this server does not go by that name")
        if not scope["path"].startswith("/") or scope["path"].startswith("//"):
            raise RefusedError(400, "expected a path of this server")

    def _check_origin(self, scope: Scope) -> None:
        """Does it come from a page of ours, or from no page? A program without a browser has the token."""
        safe = scope["method"] in SAFE_METHODS
        sites, origins = _all(scope, b"sec-fetch-site"), _all(scope, b"origin")
        if origins and origins != [f"{scope['scheme']}://{_all(scope, b'host')[0].lower()}"]:
            raise RefusedError(403, "this request comes from another page")
        if sites and not (sites == ["same-origin"] or (safe and (sites == ["none"] or self._is_link(scope)))):
            raise RefusedError(403, "this request comes from another page")
        if self.token and not safe and not sites and not origins and not self._is_bearer(scope):
            raise RefusedError(403, "a program must send the token as Authorization: Bearer")

    def _check_secret(self, scope: Scope) -> None:
        if self.token and not self._is_bearer(scope) and not self._has_cookie(scope):
            raise RefusedError(403, "open the address that assay printed: this one lacks its token")

    def _is_link(self, scope: Scope) -> bool:
        """Whether somebody follows a link that has the token, from a terminal in a browser say."""
        return self._brings_token(scope) and _all(scope, b"sec-fetch-mode") == ["navigate"]

    def _brings_token(self, scope: Scope) -> bool:
        if not self.token or scope["method"] not in SAFE_METHODS or scope["path"] != "/":
            return False
        # The page asks for nothing at / by a query, so one that is longer than a token's is no token.
        query = scope["query_string"].decode("latin-1")[:512]
        return _same(parse_qs(query).get("token", [""])[0], self.token)

    def _is_bearer(self, scope: Scope) -> bool:
        noisy = _all(scope, b"authorization")
        return len(noisy) == 1 and _same(noisy[0], f"Bearer {self.token}")

    def _has_cookie(self, scope: Scope) -> bool:
        return any(_same(value, self._cookie) for value in _cookies(scope, self._cookie_name))

    async def _welcome(self, send: Send) -> None:
        """Exchange the token for a cookie.

        A page that goes on by itself, not a redirect: after a redirect the browser still holds the first
        page for the one that asks, and keeps a strict cookie back from it.
        """
        cookie = f"{self._cookie_name}={self._cookie}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"set-cookie", cookie.encode())]
        headers.append((b"content-length", str(len(_WELCOME)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _WELCOME})

    def _addresses(self) -> Iterable[str]:
        names = (*LOOPBACK, *(host.lower() for host in self.hosts))
        # Browsers leave 80 out.
        return {f"{name}:{self.port}" for name in names} | ({*names} if self.port == 80 else set())

    @property
    def _cookie_name(self) -> str:
        # Cookies do not tell ports apart: two pages on one machine would overwrite each other's.
        return f"assay-{self.port}"

    @property
    def _cookie(self) -> str:
        # Not the token itself, which is in the history of the terminal.
        return hashlib.sha256(f"cookie {self.token}".encode()).hexdigest()


@dataclass
class _Course:
    """How far a request has come."""

    send: Send
    arrived: bool = False
    answered: bool = False
    """True from the first byte of the answer on."""

    async def send_on(self, message: MutableMapping[str, Any]) -> None:
        self.answered = True
        await self.send(message)

    def too_slow(self) -> RefusedError:
        """Whose fault it is."""
        if self.arrived:
            return RefusedError(503, "this took too long; try again")
        return RefusedError(408, "the request took too long to come; try again")


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _without(scope: Scope, names: tuple[bytes, ...]) -> Scope:
    return {**scope, "headers": [(key, value) for key, value in scope["headers"] if key not in names]}


def _same(noisy: str, secret: str) -> bool:
    """In constant time, so that nobody can find a secret letter by letter."""
    return hmac.compare_digest(noisy.encode(), secret.encode())


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
