"""The server on a real socket; its guard is tested in tests/web."""

import concurrent.futures
import http.client
import socket

import pytest
from chromium import serving, serving_apart
from review_runs import write_reviewed_run, write_run


@pytest.fixture(scope="module")
def server(tmp_path_factory, images):
    """One for all: none of the tests decides anything."""
    with serving(write_run(tmp_path_factory.mktemp("served") / "out", images=images)) as found:
        yield found


def token(server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.address.partition('token=')[2]}"}


def ask(server, path: str, headers=None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.port), timeout=60)
    connection.request("GET", path, None, token(server) if headers is None else headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def raw(server, text: bytes) -> bytes:
    """The answer to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", int(server.port)), timeout=60) as connection:
        connection.sendall(text)
        return connection.recv(65536)


@pytest.mark.parametrize(
    "text",
    [
        b"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:%b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/?x=\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: 127.0.0.1:%b\r\n\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
        b"POST /decide HTTP/1.1\r\nHost: 127.0.0.1:%b\r\nContent-Length: 104857600\r\n\r\nxxxx",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
def test_odd_requests_are_refused(server, text):
    """Absolute URLs, odd hosts, no host, endless headers, huge bodies: 4xx, and the server goes on."""
    answer = raw(server, text.replace(b"%b", server.port.encode()))
    assert answer.split(b" ")[1][:1] == b"4"
    assert ask(server, "/progress").status == 200


def test_many_thumbnails_at_once_are_bounded(server):
    """Each is drawn or refused, and the page still answers; Range changes nothing."""
    many = {"Range": "bytes=" + ",".join(f"{i}-" for i in range(1000)), **token(server)}
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        paths = (f"/image/{5 + i % 35}/large" for i in range(200))
        statuses = [*pool.map(lambda path: ask(server, path, many).status, paths)]
    assert {200} <= set(statuses) <= {200, 503}
    assert ask(server, "/").status == 200


def test_the_secret_is_in_no_log(tmp_path, images):
    """No request is printed, and no answer names the software; Ctrl-C ends it with what was decided."""
    run = write_reviewed_run(tmp_path / "out", images)
    with serving_apart(run) as server:
        ask(server, f"/?token={server.address.partition('token=')[2]}", {})
        assert ask(server, "/?token=wrong", {}).status == 403
        assert ask(server, "/").getheader("server") is None
        code, printed = server.interrupt()
    assert code == 0
    assert "token" not in printed
    assert "GET" not in printed
    assert printed.splitlines()[-1] == (
        "2 of 36 decided, 1 skipped; wrong: 1 noisy label, 1 proposed label; "
        f"saved in {run / 'decisions.sqlite'}"
    )
