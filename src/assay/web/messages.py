"""HTTP for the guard: bodies of bounded size, refusals, and the headers of every answer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

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

NO_STORE = ("cache-control", "no-store")
"""Of answers that say nothing else about it."""


LINGER_S = 0.5
"""For which a body that is too large is still taken from the client."""


class RefusedError(Exception):
    """A request that is not let in; ends in an answer, never in the server's log."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class Bodies:
    """Bytes of all requests that are being read or answered; more than there is room for are not taken."""

    room: int
    held: int = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[Callable[[int], None]]:
        """For one request: to be called with the bytes that come; raises RefusedError, 503, for too many."""
        mine = 0

        def take(n_bytes: int) -> None:
            nonlocal mine
            if self.held + n_bytes > self.room:
                raise RefusedError(503, "too many large requests at once; try again in a moment")
            self.held += n_bytes
            mine += n_bytes

        try:
            yield take
        finally:
            self.held -= mine


async def read_body(
    scope: MutableMapping[str, Any], receive: Receive, limit: int, take: Callable[[int], None]
) -> Receive:
    """The whole body, read before anything is done with it, as a ``receive`` that gives it in one piece.

    Parameters
    ----------
    take : is told of the bytes as they come, and may refuse them

    Raises
    ------
    RefusedError : 413 for more than ``limit`` bytes, announced or sent; 400 if the client goes away
    """
    declared = [value for key, value in scope["headers"] if key == b"content-length"]
    if any(not value.isdigit() or len(value) > 18 or int(value) > limit for value in declared):
        raise RefusedError(413, f"expected at most {limit:,} bytes")
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the rest of the request never came")
        piece = message.get("body", b"")
        take(len(piece))
        body += piece
        more = message.get("more_body", False)
        if len(body) > limit:
            raise RefusedError(413, f"expected at most {limit:,} bytes")
    pieces: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return pieces.pop() if pieces else await receive()

    return replay


async def let_pass(receive: Receive) -> None:
    """Read on for a moment, keeping nothing: who is cut off while sending never sees the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            message = await receive()
            while message.get("more_body", False):
                message = await receive()


async def refuse(send: Send, refusal: RefusedError) -> None:
    """Answer with the status and one line of plain text."""
    body = f"{refusal}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    # What is left of the request is not read, so nothing can follow it.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def with_headers(send: Send) -> Send:
    """A ``send`` that puts the security headers on every answer, and takes no CORS header."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": _headers(message.get("headers", ()))}
        await send(message)

    return wrapped


def _headers(noisy: Any) -> list[tuple[bytes, bytes]]:
    ours = {name.encode(): value.encode() for name, value in SECURITY_HEADERS}
    kept = [
        (name, value)
        for name, value in noisy
        if name.lower() not in ours and not name.lower().startswith(b"access-control-")
    ]
    if not any(name.lower() == b"cache-control" for name, _ in kept):
        kept.append((NO_STORE[0].encode(), NO_STORE[1].encode()))
    return kept + list(ours.items())
