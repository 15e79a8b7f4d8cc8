"""Where the gateway listens: at its addresses, or where a supervisor of several workers says."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from campaign_gateway.settings import Address

BACKLOG = 1024


class WorkerSlot(NamedTuple):
    """Where one of several workers listens; their supervisor gives it out."""

    number: int
    port: int
    """The API's, on which all of them listen."""
    admin_socket: Path
    """Where this one answers for `admin_listen`."""


async def listen(
    runner: web.BaseRunner, address: Address, slot: WorkerSlot | None, stack: AsyncExitStack
) -> tuple[web.TCPSite, Address]:
    """A listening site, and the address it got; both are closed with the stack.

    Raises:
        OSError: the address cannot be bound.
    """
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    port = address.port if slot is None else slot.port
    site = web.TCPSite(runner, address.host, port, backlog=BACKLOG, reuse_port=slot is not None)
    await site.start()
    return site, Address(address.host, runner.addresses[0][1])


async def listen_for_operators(
    runner: web.BaseRunner, address: Address, slot: WorkerSlot | None, stack: AsyncExitStack
) -> Address | Path:
    """Where it listens: at the address, or where the supervisor asks.

    Raises:
        OSError: the address cannot be bound.
    """
    if slot is None:
        return (await listen(runner, address, None, stack))[1]
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.UnixSite(runner, slot.admin_socket).start()
    return slot.admin_socket
