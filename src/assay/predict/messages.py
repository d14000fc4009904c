"""HTTP for the guard: bodies of bounded size, refusals, and the headers of every answer."""

from collections.abc import Awaitable, Callable, MutableMapping
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


class RefusedError(Exception):
    """A request that is not let in; ends in an answer, never in the server's log."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


async def read_body(scope: MutableMapping[str, Any], receive: Receive, limit: int) -> Receive:
    """The whole body, read before anything is done with it, as a ``receive`` that gives it in one piece.

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
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise RefusedError(413, f"expected at most {limit:,} bytes")
    pieces: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return pieces.pop() if pieces else await receive()

    return replay


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


def _headers(given: Any) -> list[tuple[bytes, bytes]]:
    ours = {name.encode(): value.encode() for name, value in SECURITY_HEADERS}
    kept = [
        (name, value)
        for name, value in given
        if name.lower() not in ours and not name.lower().startswith(b"access-control-")
    ]
    if not any(name.lower() == b"cache-control" for name, _ in kept):
        kept.append((NO_STORE[0].encode(), NO_STORE[1].encode()))
    return kept + list(ours.items())
