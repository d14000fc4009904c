"""Serving the page: one socket on this machine, and patience that ends."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from assay._errors import MissingExtraError
from assay.predict.guard import Guard
from assay.review.app import make_app
from assay.review.desk import Desk
from assay.review.thumbnails import Thumbnails

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise MissingExtraError(error.name or "uvicorn", "web") from None

PATIENCE_S = 15.0
"""A connection that begins no request for so long is closed, whether it is idle or sends drop by drop."""

_HEADERS_BYTES = 32 * 1024


class PatientProtocol(H11Protocol):
    """uvicorn's own, which waits for ever for the end of the first request's headers."""

    def connection_made(self, transport: Any) -> None:
        """Start to wait."""
        super().connection_made(transport)
        self._waiting = asyncio.get_running_loop().call_later(PATIENCE_S, self._look, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._waiting.cancel()
        super().connection_lost(exc)

    def _look(self, before: Any) -> None:
        cycle: Any = self.cycle  # None before the first request
        if cycle is before and (cycle is None or cycle.response_complete):
            self.transport.close()
        else:
            self._waiting = asyncio.get_running_loop().call_later(PATIENCE_S, self._look, cycle)


def guarded_app(
    desk: Desk, thumbnails: Thumbnails, *, port: int, token: str, hosts: tuple[str, ...] = ()
) -> Guard:
    """The page behind its guard."""
    return Guard(make_app(desk, thumbnails), port=port, token=token, hosts=hosts)


def serve(
    desk: Desk, listener: socket.socket, *, token: str, hosts: tuple[str, ...] = (), ready: Callable[[], None]
) -> None:
    """Answer requests until the process is interrupted.

    Parameters
    ----------
    listener : a listening socket; closed at the end
    hosts : names of this machine besides loopback
    ready : called once requests are answered
    """
    thumbnails = Thumbnails(desk.run.images)
    app = guarded_app(desk, thumbnails, port=listener.getsockname()[1], token=token, hosts=hosts)
    # No access log: the first address that is asked for has the token in it.
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
        timeout_keep_alive=int(PATIENCE_S),
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=_HEADERS_BYTES,
    )
    try:
        _Server(config, ready).run(sockets=[listener])
    finally:
        thumbnails.close()
        listener.close()


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._ready()
