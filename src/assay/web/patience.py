"""A server on one socket of this machine, with patience that ends."""

import asyncio
import resource
import socket
from collections.abc import Callable
from typing import Any

from assay.errors import MissingExtraError
from assay.web.listen import QUEUE

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise MissingExtraError(error.name or "uvicorn", "web") from None

PATIENCE_S = 15.0
"""A connection that begins no request for so long is closed, whether it is idle or sends drop by drop; so is
one that takes nothing of what is left to send."""

AT_ONCE = 16
"""Connections that are accepted in one go. One too many is closed four turns of the loop later: it has a
task, a transport, a refusal and an end of its own."""

SPARE_FILES = 4 * AT_ONCE + 64
"""For those, and for what else a process opens."""

_HEADERS_BYTES = 32 * 1024


class PatientProtocol(H11Protocol):
    """uvicorn's own, which waits for ever for the end of the first headers, and for who does not read."""

    def connection_made(self, transport: Any) -> None:
        """Start to wait; what is beyond the number that this process may hold is closed at once."""
        super().connection_made(transport)
        self._waiting = asyncio.get_running_loop().call_later(PATIENCE_S, self._look, None, 0)
        if len(self.connections) > most_connections():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._waiting.cancel()
        super().connection_lost(exc)

    def _look(self, before: Any, unsent_before: int) -> None:
        cycle: Any = self.cycle  # None before the first request
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == unsent_before:
            self.transport.abort()
            return
        if cycle is before and (cycle is None or cycle.response_complete):
            # Not before all is sent, which may be never: it is looked at again.
            self.transport.close()
        self._waiting = asyncio.get_running_loop().call_later(PATIENCE_S, self._look, cycle, unsent)


def most_connections() -> int:
    """How many this process may hold and still open files: without one left it can accept nobody."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(files - SPARE_FILES, files // 4)


def answer_until_interrupted(
    app: Any,
    listener: socket.socket,
    *,
    ready: Callable[[], None],
    shutdown_timeout_s: int = 3,
) -> None:
    """Answer requests until the process is interrupted, then those that were begun.

    Parameters
    ----------
    app : an ASGI application
    listener : a listening socket; closed at the end
    ready : called once requests are answered
    shutdown_timeout_s : seconds that requests have to end in
    """
    # No access log: an address may have a secret in it.
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=AT_ONCE,
        timeout_keep_alive=int(PATIENCE_S),
        timeout_graceful_shutdown=shutdown_timeout_s,
        h11_max_incomplete_event_size=_HEADERS_BYTES,
    )
    try:
        _Server(config, ready).run(sockets=[listener])
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for listener in sockets or ():
            # asyncio lets as many wait as it accepts in one go.
            listener.listen(QUEUE)
        self._ready()
