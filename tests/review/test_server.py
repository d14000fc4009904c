"""The server on a real socket: bounded, patient only for a while, and gone without a trace of its secret."""

import concurrent.futures
import http.client
import socket

import pytest
from chromium import serving
from review_runs import write_run


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
