"""The sockets that servers listen on, and how many more there is room for."""

import errno
import logging
import os
import resource
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

_log = logging.getLogger(__name__)

MOST_RESERVED = 128
"""Descriptors, or a quarter of them all, that callers' connections leave to operators, the platform and the store."""


def connection_limit() -> int:
    """How many connections of callers the process has file descriptors for."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed - min(MOST_RESERVED, allowed // 4)


@contextmanager
def named(key: str) -> Iterator[None]:
    """Puts the setting's key in front of the reason why an address cannot be bound, and what to do behind it.

    Raises:
        OSError: with these words.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno, "write another address")
        raise OSError(error.errno, f"{key}: {error.strerror}: {advice}") from error


_ADVICE: Mapping[int | None, str] = {
    errno.EADDRINUSE: "stop what listens there, or write another port",
    errno.EACCES: "write a port above 1023, or give the process CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "write an address of this machine",
}


def bind(host: str, port: int, *, is_shared: bool = False, is_dual: bool = True) -> list[socket.socket]:
    """Bound sockets that do not listen yet, one for each address that the host stands for, all with one port.

    Args:
        host: an address or a name. `::` stands for every address of both families.
        port: 0 takes a free one.
        is_shared: whether others may bind there too, if they say so as well.
        is_dual: False leaves IPv4 out of `::`, for another socket to take.

    Raises:
        OSError: one cannot be bound, or the host is not known.
    """
    if host == "::" and is_dual and not _has_ipv6():
        host = "0.0.0.0"  # noqa: S104 - as it was written
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {host}, port {port}: no such host") from error
    with ExitStack() as stack:
        sockets = []
        for family, _, _, _, (address, _, *scope) in found:
            made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is accepted here inherits it: a peer that is gone without a word is found out by the kernel.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if is_shared:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                # asyncio would keep IPv4 out.
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
            try:
                made.bind((address, port, *scope))
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise OSError(error.errno, f"cannot listen on {address}, port {port}: {reason}") from error
            port = made.getsockname()[1]
            sockets.append(made)
        stack.pop_all()
    return sockets


def bind_all(addresses: Sequence[tuple[str, int]], *, is_shared: bool = False) -> list[list[socket.socket]]:
    """As `bind`, for each host and port. `::` leaves IPv4 to others of them that have its port.

    Raises:
        OSError: one cannot be bound; then none is.
    """
    with ExitStack() as stack:
        bound = []
        for host, port in addresses:
            is_dual = not any(other == port > 0 and ":" not in name for name, other in addresses)
            bound.append(bind(host, port, is_shared=is_shared, is_dual=is_dual))
            for made in bound[-1]:
                stack.enter_context(made)
        stack.pop_all()
    return bound


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def say_serving(addresses: Sequence[object], admin_listen: object) -> None:
    """Logs where callers and operators are served."""
    _log.info("serving on %s, metrics and probes on %s", addresses[0], admin_listen)
    for other in addresses[1:]:
        _log.info("serving on %s too", other)
