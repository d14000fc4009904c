"""A socket on this machine, its secret, and the server on it.

uvicorn waits for ever for the end of a request's headers. So the socket itself knows its connections, and
closes those that begin no request for a while, whether they are idle, send drop by drop or do not read their
answers. (On Windows, where asyncio does not accept through the socket, this is left to a proxy.)
"""

import asyncio
import contextlib
import ctypes
import ipaddress
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from assay.errors import MissingExtraError, UsageError
from assay.web.middleware import Application, Receive, Scope, Send

QUEUE = 128
"""Connections that may wait to be accepted."""

PATIENCE_S = 15.0
"""A connection that begins no request for so long is closed."""

ACCEPTED_TOGETHER = 16
"""Connections that asyncio accepts in one turn."""

SPARE_FILES = 128
"""For what else a process opens: without one left it can accept nobody."""

MAX_HEADERS_BYTES = 32 * 1024

LARGE_BLOCK, _M_MMAP_THRESHOLD = 4 * 2**20, -3
"""Bytes from which freed memory goes back at once, and glibc's number of that option."""


class Listener(socket.socket):
    """A listening socket that bounds its connections in number and patience."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connections: dict[object, _Connection] = {}
        """Address of the other side -> its connection; closed ones stay until the next look."""

    def listen(self, backlog: int = QUEUE) -> None:
        """Let ``QUEUE`` connections wait, whatever asyncio wants, which takes the number of one turn."""
        super().listen(max(backlog, QUEUE))

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; those beyond what this process may hold are closed at once."""
        while True:
            made, address = super().accept()
            if len(self.connections) >= most_connections():
                self.close_idle()
            if len(self.connections) < most_connections():
                self.connections[address[:2]] = _Connection(made)
                return made, address
            made.close()

    def close_idle(self) -> None:
        """Forget connections that are closed, and end those that began no request for too long."""
        now = time.monotonic()
        for address, one in list(self.connections.items()):
            if one.socket.fileno() == -1:
                del self.connections[address]
            elif not one.n_requests and now - one.idle_since > PATIENCE_S:
                # Not closed: it is asyncio's, which notices the end and closes it.
                with contextlib.suppress(OSError):
                    one.socket.shutdown(socket.SHUT_RDWR)


class _Connection:
    def __init__(self, made: socket.socket) -> None:
        self.socket, self.n_requests, self.idle_since = made, 0, time.monotonic()


def most_connections() -> int:
    """How many this process may hold and still open files."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit on sockets
        return 512
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(files - SPARE_FILES, files // 4)


def new_token() -> str:
    """256 bits, for one run of a server."""
    return secrets.token_urlsafe(32)


def listen(host: str, port: int, *, allow_remote: bool = False) -> Listener:
    """A listening socket; port 0 takes a free one.

    Raises
    ------
    UsageError : a host beyond this machine without ``allow_remote``, a wildcard, or a port that is taken
    """
    if not is_loopback(host) and not allow_remote:
        raise UsageError(
            f"--host {host}: expected an address of this machine alone, such as 127.0.0.1: others could "
            "reach this page; pass --allow-remote if that is what you want"
        )
    name = host.strip("[]")
    if name in ("", "0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        raise UsageError(f"--host {host}: expected one address or name, which browsers will use")
    try:
        family, _, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        made = socket.create_server((address[0], port), family=family, backlog=QUEUE)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host} port {port}: {why}; name another with --port") from error
    # asyncio sends at once only where a socket names its protocol, which create_server leaves out; otherwise
    # each answer waits 40 ms for the other side to acknowledge its first half.
    return Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url_host(host: str) -> str:
    """As it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def answer_until_interrupted(
    app: Application,
    listener: Listener,
    *,
    ready: Callable[[], None],
    shutdown_timeout_s: int = 3,
) -> None:
    """Answer requests until the process is interrupted, then those that were begun.

    Parameters
    ----------
    listener : closed at the end
    ready : called once requests are answered
    shutdown_timeout_s : seconds that requests have to end in
    """
    _return_large_blocks()
    try:
        asyncio.run(serve(app, listener, ready=ready, shutdown_timeout_s=shutdown_timeout_s))
    finally:
        listener.close()


async def serve(
    app: Application, listener: Listener, *, ready: Callable[[], None], shutdown_timeout_s: int = 3
) -> None:
    """The same in a running loop; the listener stays open."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(error.name or "uvicorn", "web") from None

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        address = tuple(scope.get("client") or ())
        connection = listener.connections.get(address) if scope["type"] == "http" else None
        if connection is None:
            await app(scope, receive, send)
            return
        connection.n_requests += 1
        try:
            await app(scope, receive, send)
        finally:
            connection.n_requests -= 1
            connection.idle_since = time.monotonic()

    config = uvicorn.Config(
        counted,
        http="h11",
        ws="none",
        loop="asyncio",
        log_level="error",  # its warnings are about what clients send
        access_log=False,  # an address may have a secret in it
        server_header=False,
        proxy_headers=False,
        backlog=ACCEPTED_TOGETHER,
        timeout_keep_alive=int(PATIENCE_S),
        timeout_graceful_shutdown=shutdown_timeout_s,
        h11_max_incomplete_event_size=MAX_HEADERS_BYTES,
    )
    server = uvicorn.Server(config)
    watch = asyncio.create_task(_watch(server, listener, ready))
    try:
        with _ending_on_hangup(server):
            await server.serve(sockets=[listener])
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


@contextlib.contextmanager
def _ending_on_hangup(server: Any) -> Iterator[None]:
    """End the server on SIGHUP as uvicorn does on SIGTERM, and then raise the signal again."""
    number = getattr(signal, "SIGHUP", None)  # Windows has none
    in_main = threading.current_thread() is threading.main_thread()
    if number is None or not in_main or signal.getsignal(number) is signal.SIG_IGN:
        yield
        return
    caught: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        caught.append(number)
        server.should_exit = True

    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)
    if caught:
        signal.raise_signal(number)


def _return_large_blocks() -> None:
    """Have the memory of large bodies returned to the system: glibc would keep it for the next ones."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


async def _watch(server: Any, listener: Listener, ready: Callable[[], None]) -> None:
    """Call ``ready`` once, then close idle connections until the server ends."""
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        ready()
        while True:
            await asyncio.sleep(min(PATIENCE_S / 5, 1.0))
            listener.close_idle()
    except Exception:
        server.should_exit = True
        raise
