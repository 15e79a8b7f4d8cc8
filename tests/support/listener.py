"""A program that listens to the feed of changes, at one gateway after the other."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.gateway import GatewayProcess
from tests.support.waiting import until

PATIENCE = 60.0
"""Seconds for anything to come, also on a busy machine."""


@dataclass
class Consumer:
    """A program that listens at one gateway after the other, and goes on where it was."""

    cursor: str = ""
    changes: list[dict[str, Any]] = field(default_factory=list)
    resets: int = 0

    async def listen(self, gateway: GatewayProcess) -> None:
        """Reads events until the connection ends."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": self.cursor} if self.cursor else {})}
        timeout = aiohttp.ClientTimeout(total=None)
        with contextlib.suppress(aiohttp.ClientError):
            async with gateway.session.get(f"{gateway.url}/v1/changes", headers=headers, timeout=timeout) as response:
                assert response.status == 200
                block: dict[str, str] = {}
                async for line in response.content:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if line == b"\n":
                        self.take(block)
                        block = {}
                    else:
                        block[name] = value

    def take(self, block: dict[str, str]) -> None:
        self.cursor = block.get("id", self.cursor)
        if block.get("event") == "reset":
            self.resets += 1
        elif "data" in block:
            self.changes.append(json.loads(block["data"]))

    def names(self) -> set[str]:
        return {change["data"].get("name", "") for change in self.changes}


@contextlib.asynccontextmanager
async def listening(consumer: Consumer, gateway: GatewayProcess) -> AsyncIterator[None]:
    task = asyncio.create_task(consumer.listen(gateway))  # noqa: TID251 - ends with the block
    try:
        await until(lambda: bool(consumer.cursor), PATIENCE)
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def silent_listeners(gateway: GatewayProcess, count: int, target: str = "/v1/changes") -> Iterator[list[socket.socket]]:
    """So many connections that ask for events and never read; they have little room for what comes."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = stack.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peer.connect((host, int(port)))
            peer.sendall(head)
            peers.append(peer)
        yield peers
