"""What a connection with one request takes of the server's CPU, beside one that stays, and beside the least there can be.

`python -m tests.bench.connections`; some twenty seconds. A gateway's web room answers hits over sockets, on connections
that are new for each request and on one that stays; so does a protocol that knows nothing of HTTP and writes constant
bytes, which is what Python, uvloop and the kernel take by themselves. The least of some rounds, in turns, in
microseconds of the process' CPU time for one request.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from subprocess import PIPE
from typing import cast

import uvloop
from prometheus_client import CollectorRegistry
from typing_extensions import override

from campaign_gateway.store.clock import StoreClock
from campaign_gateway.telemetry.metrics import Metrics
from tests.bench.hits import SIZE, head, id_of, logging_to_nowhere
from tests.support.doubles import ManualClock
from tests.support.fast import CAMPAIGNS, Gateway, running

REQUESTS = 2_000
ROUNDS = 4
BODY = b"x" * SIZE
CALLER = """
import socket, sys
port, head, body, size = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])
def ask(connection):
    connection.sendall(head)
    received = b""
    while not received.endswith(body * size):
        received += connection.recv(65_536)
kept = socket.create_connection(("127.0.0.1", port))
for _ in range(5):
    ask(kept)
print(flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        if int(line) % 2:
            ask(kept)
        else:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                ask(connection)
    print(flush=True)
"""
"""A process of its own: an even number on its input is so many new connections, an odd one so many requests on a kept one."""


class Constant(asyncio.Protocol):
    """Answers whatever comes with the same bytes."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + BODY

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.Transport", transport).write

    @override
    def data_received(self, data: bytes) -> None:
        self._write(self.answer)


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A caller that has had some answers."""
    arguments = (str(port), head(0, 1).hex(), "x", str(SIZE))
    caller = await asyncio.create_subprocess_exec(sys.executable, "-c", CALLER, *arguments, stdin=PIPE, stdout=PIPE)
    await _line_of(caller)
    try:
        yield caller
    finally:
        caller.kill()
        await caller.wait()


async def cost(caller: asyncio.subprocess.Process, requests: int) -> float:
    """Microseconds of this process' CPU for one of these."""
    if caller.stdin is None:
        raise TypeError("the caller listens to nobody")
    began = time.process_time()
    caller.stdin.write(b"%d\n" % requests)
    await _line_of(caller)
    return (time.process_time() - began) * 1e6 / requests


async def _line_of(caller: asyncio.subprocess.Process) -> None:
    if caller.stdout is None or not await caller.stdout.readline():
        raise RuntimeError("the caller has ended")


async def main() -> None:
    """Prints the table."""
    gateway = Gateway(clock=cast("ManualClock", StoreClock()), meter=Metrics(CollectorRegistry()))
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", 0)
    constant_port = server.sockets[0].getsockname()[1]
    async with running(gateway):
        await gateway.put(id_of(0), replace(CAMPAIGNS["c-1"], body=BODY, validated_at=time.time()))
        async with calling(gateway.port) as own, calling(constant_port) as bare:
            gc.collect()
            gc.freeze()
            found: dict[tuple[str, str], float] = {}
            with logging_to_nowhere():
                for _ in range(ROUNDS):
                    for name, caller in (("gateway", own), ("constant bytes", bare)):
                        for kind, requests in (("new", REQUESTS), ("kept", REQUESTS + 1)):
                            took = await cost(caller, requests)
                            found[name, kind] = min(took, found.get((name, kind), took))
    server.close()
    for name in ("gateway", "constant bytes"):
        print(f"{name:16} {found[name, 'new']:7.1f} us a new connection, {found[name, 'kept']:7.1f} us on a kept one")


if __name__ == "__main__":
    uvloop.run(main())
