"""A socket on this machine, and the address with its secret that a person opens."""

import ipaddress
import secrets
import socket

from assay.errors import UsageError

QUEUE = 128
"""Connections that may wait to be accepted."""


def new_token() -> str:
    """256 bits, for one run of a server."""
    return secrets.token_urlsafe(32)


def listen(host: str, port: int, *, allow_remote: bool = False) -> socket.socket:
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
        raise UsageError(f"--host {host}: expected one address or name, which browsers will ask for")
    try:
        family, _, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        made = socket.create_server((address[0], port), family=family, backlog=QUEUE)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host} port {port}: {why}; name another with --port") from error
    # asyncio sends at once only where a socket names its protocol, which create_server leaves out; otherwise
    # each answer waits 40 ms for the other side to acknowledge its first half.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url_host(host: str) -> str:
    """As it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
