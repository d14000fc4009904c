"""The socket of a local page, and its secret."""

import asyncio
import socket

import pytest

from assay.errors import UsageError
from assay.web.listen import is_loopback, listen, new_token, url_host


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
