"""Asks an ASGI application without a socket, with exactly the headers that a test names."""

import asyncio
import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from assay.web.listen import serve

HOST = "127.0.0.1:8765"

TOKEN = "a-secret"


class Echo:
    """An application that says what it was asked, and would let every page ask."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, scope, receive, send) -> None:
        message = await receive()
        self.asked.append((scope["method"], scope["path"]))
        names = sorted(name.decode() for name, _ in scope["headers"])
        body = json.dumps({"headers": names, "body": message["body"].decode()}).encode()
        headers = [(b"content-type", b"text/plain"), (b"access-control-allow-origin", b"*")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The only header of that name."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Browser:
    """One window: ``get`` and ``post`` send what a page of the server itself would send."""

    app: object
    cookie: str = ""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, {"sec-fetch-site": "same-origin", **self.cookies(), **_named(headers)})

    def post(self, path: str, value: object, **headers: str) -> Answer:
        own = {
            "content-type": "application/json",
            "origin": f"http://{HOST}",
            "sec-fetch-site": "same-origin",
        }
        return self.ask(
            "POST", path, {**own, **self.cookies(), **_named(headers)}, json.dumps(value).encode()
        )

    def cookies(self) -> dict[str, str]:
        return {"cookie": self.cookie} if self.cookie else {}

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Answer:
        """A request; ``host`` is the right one unless it is among the headers."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if not any(name == "host" for name, _ in pairs):
            pairs.insert(0, ("host", HOST))
        return self.loop.run_until_complete(send(self.app, method, path, pairs, [body]))

    def close(self) -> None:
        self.loop.close()


async def send(app, method: str, target: str, headers, pieces: list[bytes]) -> Answer:
    """One request, its body in pieces; what the application sends back."""
    waiting = list(pieces)

    async def receive():
        if not waiting:
            await asyncio.sleep(3600)  # nothing more will come
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    return await converse(app, method, target, headers, receive)


async def converse(app, method: str, target: str, headers, receive) -> Answer:
    """One request whose body comes as ``receive`` gives it; what the application sends back."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }
    sent = []

    async def take(message):
        sent.append(message)

    await app(scope, receive, take)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    if not starts:
        return Answer(0, (), b"")
    pairs = tuple((name.decode(), value.decode("latin-1")) for name, value in starts[0]["headers"])
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Answer(starts[0]["status"], pairs, body)


def run_beside(listener, app, talk):
    """Serve the application on a socket and, once it is ready, talk to it on the given port."""

    async def both():
        ready = asyncio.Event()
        serving = asyncio.create_task(serve(app, listener, ready=ready.set))
        await ready.wait()
        try:
            return await asyncio.wait_for(talk(listener.getsockname()[1]), 60)
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    return asyncio.run(both())


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
