"""Where the gateway listens: at its addresses, or where a supervisor of several workers says."""

import socket
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from campaign_gateway.settings import Address
from campaign_gateway.web.sockets import bind_all, named

BACKLOG = 1024


class WorkerSlot(NamedTuple):
    """Where one of several workers listens; their supervisor gives it out."""

    number: int
    ports: Sequence[int]
    """The API's, one for each address, on which all of them listen."""
    admin_socket: Path
    """Where this one answers for `admin_listen`."""


async def listen(
    runner: web.BaseRunner,
    addresses: Sequence[Address],
    slot: WorkerSlot | None,
    stack: AsyncExitStack,
    key: str = "listen",
    tls: ssl.SSLContext | None = None,
) -> tuple[list[web.SockSite], list[Address]]:
    """Listening sites, and the addresses with the ports that were taken; all are closed with the stack.

    Raises:
        OSError: an address cannot be bound.
    """
    if slot is not None:
        addresses = [Address(host, port) for (host, _), port in zip(addresses, slot.ports, strict=True)]
    with named(key):
        bound = bind_all(addresses, is_shared=slot is not None)
    sites = await _serve(runner, [made for sockets in bound for made in sockets], stack, tls)
    return sites, [Address(row.host, made[0].getsockname()[1]) for row, made in zip(addresses, bound, strict=True)]


async def _serve(
    runner: web.BaseRunner, sockets: Sequence[socket.socket], stack: AsyncExitStack, tls: ssl.SSLContext | None
) -> list[web.SockSite]:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    sites = [web.SockSite(runner, made, ssl_context=tls, backlog=BACKLOG) for made in sockets]
    for site in sites:
        await site.start()
    return sites


async def listen_for_operators(
    runner: web.BaseRunner, address: Address, slot: WorkerSlot | None, stack: AsyncExitStack
) -> Address | Path:
    """Where it listens: at the address, or where the supervisor asks.

    Raises:
        OSError: the address cannot be bound.
    """
    if slot is None:
        return (await listen(runner, [address], None, stack, "admin_listen"))[1][0]
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.UnixSite(runner, slot.admin_socket).start()
    return slot.admin_socket
