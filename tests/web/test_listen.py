"""The socket of a local page, its secret, and connections that are bounded."""

import asyncio
import contextlib
import resource
import socket

import pytest
from browser import TOKEN, run_beside

from assay.errors import UsageError
from assay.web import listen as module
from assay.web.listen import is_loopback, listen, new_token, serve, url_host
from assay.web.middleware import Guard


def test_a_secret_is_long_and_new():
    """256 bits each time."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 for token in tokens)  # 256 bits in base64


def test_the_socket_is_for_this_machine_alone():
    """127.0.0.1 and a free port, unless somebody asks for more and says so."""
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert (host, port > 1023) == ("127.0.0.1", True)
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}: .*--port"):
            listen("127.0.0.1", port)
    for host in ("192.0.2.1", "example.org", "0.0.0.0", "::"):
        with pytest.raises(UsageError, match="pass --allow-remote if that is what you want"):
            listen(host, 0)
    for host in ("0.0.0.0", "::", "[::]", ""):
        with pytest.raises(UsageError, match="expected one address or name"):
            listen(host, 0, allow_remote=True)


def test_answers_are_sent_at_once():
    """Asyncio turns Nagle's algorithm off for connections of this socket: its protocol is named."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP

        async def served():
            found = asyncio.get_running_loop().create_future()

            def asked(_, writer):
                connection = writer.get_extra_info("socket")
                found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                writer.close()

            async with await asyncio.start_server(asked, sock=listener.dup()):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                writer.close()
                return await found

        assert asyncio.run(served()) == 1


def test_what_loopback_is():
    """All of 127.0.0.0/8, ::1 and localhost."""
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "localhost.evil.example", "")))
    assert [url_host(host) for host in ("::1", "[::1]", "127.0.0.1")] == ["[::1]", "[::1]", "127.0.0.1"]


def test_brackets_of_an_address_are_no_part_of_it():
    """As browsers write IPv6."""
    if not socket.has_ipv6:
        pytest.skip("this system has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    with listen("[::1]", 0) as listener:
        assert listener.getsockname()[0] == "::1"


REQUEST = b"GET /any HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"


@pytest.fixture
def listener(monkeypatch):
    """A socket whose patience is short."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    with listen("127.0.0.1", 0) as found:
        yield found


def test_slow_headers_are_given_up(listener, echo):
    """Fault 57: a connection that never ends its first or its next headers is closed, others are answered."""

    async def talk(port):
        idle, unfinished = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST % port)
        first = await reader.readuntil(b"}")
        dribbled = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and dribbled < 500:  # the headers of a second request, drop by drop
                writer.write(b"GET /any HTTP/1.1"[dribbled : dribbled + 1] or b"x")
                dribbled += 1
                await writer.drain()
                await asyncio.sleep(0.02)
        closed = await idle.read()
        for one in (writer, unfinished):
            one.close()
        return first, closed, dribbled

    first, closed, dribbled = run_beside(listener, echo, talk)
    assert first.startswith(b"HTTP/1.1 200")
    assert closed == b""
    assert dribbled < 500


def test_a_client_that_never_reads_is_given_up(listener):
    """Its answers pile up until no more fit; then it holds no place among the connections."""

    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(200_000)})

    async def talk(port):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.setblocking(False)
            held = 0
            while held == 0 or listener.connections:
                held = max(held, len(listener.connections))
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    deaf.send(100 * (REQUEST % port))
                await asyncio.sleep(0.01)
            return held

    assert run_beside(listener, Bounded(large), talk) == 1


class Bounded:
    """An application whose answers take half a second at most, as behind the guard."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.app(scope, receive, send)


def test_a_long_answer_is_no_idle_connection(listener):
    """Patience counts from the end of a request."""

    async def slow(scope, receive, send):
        if scope["type"] == "http":
            await asyncio.sleep(0.6)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"late"})

    async def talk(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST % port)
        answer = await reader.readuntil(b"late")
        writer.close()
        return answer

    assert run_beside(listener, slow, talk).startswith(b"HTTP/1.1 200")


def test_connections_beyond_what_the_process_may_hold_are_closed(echo, monkeypatch):
    """Those before them are answered, and a connection that ends makes room."""
    monkeypatch.setattr(module, "most_connections", lambda: 2)

    async def talk(port):
        first, second, third = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await third[0].read() == b""
        second[1].close()
        await asyncio.sleep(0.05)
        fourth = await asyncio.open_connection("127.0.0.1", port)
        for reader, writer in (first, fourth):
            writer.write(REQUEST % port)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
        third[1].close()
        return True

    with listen("127.0.0.1", 0) as listener:
        assert run_beside(listener, echo, talk)


def test_spare_files_are_left(monkeypatch):
    """As many connections as the process may have files, but for what else it opens."""
    for files, most in ((1024, 896), (200, 72), (100, 25)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert module.most_connections() == most


def test_a_server_whose_start_cannot_be_told_ends(listener, echo):
    """Such as with a closed stdout: the error ends it."""

    def ready():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        asyncio.run(serve(echo, listener, ready=ready))


def test_a_refusal_during_an_upload_is_read(echo):
    """Fault 67: whoever sends megabytes that are refused by their first line reads the refusal, no reset."""
    body = b"x" * 8_000_000

    def upload(port):
        head = f"POST /x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://evil.example\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return client.recv(100)

    async def talk(port):
        return await asyncio.gather(*(asyncio.to_thread(upload, port) for _ in range(8)))

    with listen("127.0.0.1", 0) as listener:
        guard = Guard(echo, port=listener.getsockname()[1], token=TOKEN)
        answers = run_beside(listener, guard, talk)
    assert [answer.split()[1] for answer in answers] == [b"403"] * 8
    assert echo.asked == []


def test_a_websocket_gets_a_quiet_refusal(echo, caplog):
    """Fault 54: one 403, and no line in the log; another upgrade, which Java asks for, is passed over."""
    upgrade = b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"

    async def talk(port):
        statuses = []
        for name in (b"websocket", b"h2c"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(upgrade % (port, name))
            statuses.append((await reader.readline()).split()[1])
            writer.close()
        return statuses

    with listen("127.0.0.1", 0) as listener:
        guard = Guard(echo, port=listener.getsockname()[1], token=None)
        assert run_beside(listener, guard, talk) == [b"403", b"200"]
    assert caplog.records == []
