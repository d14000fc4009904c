"""The server on a real socket: bounded, patient only for a while, and gone without a trace of its secret."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import socket

import pytest
import uvicorn
from chromium import serving
from review_runs import write_run

from assay.review.server import guarded_app
from assay.review.thumbnails import Thumbnails
from assay.web import patience
from assay.web.listen import listen

PROGRESS = b"GET /progress HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer t\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory, images):
    """One for all: none of the tests decides anything."""
    with serving(write_run(tmp_path_factory.mktemp("served") / "out", images=images)) as found:
        yield found


def token(server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.address.partition('token=')[2]}"}


def ask(server, path: str, headers=None, method="GET", body=None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.port), timeout=60)
    connection.request(method, path, body, token(server) if headers is None else headers)
    answer = connection.getresponse()
    answer.data = answer.read()
    connection.close()
    return answer


def raw(server, text: bytes) -> bytes:
    """What comes back for these very bytes."""
    with socket.create_connection(("127.0.0.1", int(server.port)), timeout=60) as connection:
        connection.sendall(text)
        return connection.recv(65536)


def test_it_answers_only_this_machine_and_only_with_the_token(server):
    """Without the token nothing, with it the page; the answer says nothing of what serves it."""
    assert ask(server, "/", {}).status == 403
    answer = ask(server, "/")
    assert answer.status == 200
    assert answer.getheader("server") is None
    assert ask(server, "/", {"Host": "evil.example", **token(server)}).status == 421


@pytest.mark.parametrize(
    "text",
    [
        b"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:%b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/?x=\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: 127.0.0.1:%b\r\n\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
def test_odd_requests_are_refused(server, text):
    """Absolute forms, odd hosts, no host, headers without end: 4xx, and the server lives."""
    answer = raw(server, text.replace(b"%b", server.port.encode()))
    assert answer.split(b" ")[1][:1] == b"4"
    assert ask(server, "/progress").status == 200


def test_a_websocket_is_no_way_in(server):
    """An upgrade is refused like any other request of another page."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    answer = ask(server, "/", {"Origin": "http://evil.example", "Sec-WebSocket-Key": "x" * 24, **upgrade})
    assert answer.status == 403


def test_a_thousand_thumbnails_at_once_are_bounded(server):
    """Each is drawn or refused, and the page still answers; Range asks for nothing more."""
    many = {"Range": "bytes=" + ",".join(f"{i}-" for i in range(1000)), **token(server)}
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(
            pool.map(lambda i: ask(server, f"/image/{5 + i % 35}/large", many).status, range(1000))
        )
    assert set(answers) <= {200, 503}
    assert answers.count(200) > 0
    assert ask(server, "/").status == 200


def test_a_huge_body_is_refused_unread(server):
    """A hundred megabytes are refused by their announcement."""
    headers = {"Content-Length": str(100 * 1024 * 1024), **token(server)}
    text = b"POST /decide HTTP/1.1\r\nHost: 127.0.0.1:" + server.port.encode() + b"\r\n"
    text += "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\nxxxx"
    assert raw(server, text).startswith(b"HTTP/1.1 413")


def test_the_secret_is_in_no_log(run):
    """Nothing that was asked is printed, and the token only once, for who opens the page."""
    with serving(run) as server:
        ask(server, f"/?token={server.address.partition('token=')[2]}", {})
        ask(server, "/?token=wrong", {})
        code, said = server.interrupt()
    assert code == 0
    assert "token" not in said
    assert "GET" not in said
    assert "in " in said.splitlines()[-1]


@pytest.fixture
def hasty(opened, monkeypatch):
    """A server in this process whose patience is short, and its port."""
    monkeypatch.setattr(patience, "PATIENCE_S", 0.2)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    guard = guarded_app(opened.session, Thumbnails(opened.session.run.images), port=port, token="t")
    config = uvicorn.Config(
        guard, http=patience.PatientProtocol, ws="none", lifespan="off", log_level="error"
    )
    return uvicorn.Server(config), listener, port


def test_who_sends_drop_by_drop_is_let_go(hasty, loop):
    """A connection that never finishes its headers is closed after a while, others are answered meanwhile."""
    server, listener, port = hasty

    async def talk():
        serving_ = asyncio.ensure_future(server.serve([listener]))
        slow, unfinished = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PROGRESS % port)
        first = await reader.readline()
        closed = await slow.read()
        for one in (writer, unfinished):
            one.close()
            await one.wait_closed()
        server.should_exit = True
        await serving_
        return first, closed

    first, closed = loop.run_until_complete(asyncio.wait_for(talk(), 30))
    assert first.startswith(b"HTTP/1.1 200")
    assert closed == b""


def test_who_never_reads_is_let_go(hasty, loop):
    """Its answers pile up until no more fit; then it holds no place among the connections."""
    server, listener, port = hasty

    async def talk():
        serving_ = asyncio.ensure_future(server.serve([listener]))
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.setblocking(False)
            held = 0
            while held == 0 or server.server_state.connections:
                held = max(held, len(server.server_state.connections))
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    deaf.send(100 * (PROGRESS % port))
                await asyncio.sleep(0.01)
        server.should_exit = True
        await serving_
        return held

    assert loop.run_until_complete(asyncio.wait_for(talk(), 60)) == 1
