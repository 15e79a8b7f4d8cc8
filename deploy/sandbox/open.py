"""The simulated platform of the compose stack.

The sandbox listens on loopback only, so that nobody takes it for a service. In a stack of containers the gateways are
not on its loopback: this relays the stack's network to it, byte for byte.

    open.py port
"""

import asyncio
import contextlib
import signal
import sys

from campaign_gateway.sandbox.config import SandboxConfig
from campaign_gateway.sandbox.platform import Sandbox

LATENCY_SECONDS = 0.15
CHUNK_BYTES = 65_536


async def main(outer_port: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    async with Sandbox(SandboxConfig(latency_seconds=LATENCY_SECONDS)) as sandbox:
        host, _, port = sandbox.url.removeprefix("http://").rpartition(":")

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
                async with asyncio.TaskGroup() as both_ways:
                    both_ways.create_task(pump(reader, inner_writer))
                    both_ways.create_task(pump(inner_reader, writer))

        server = await asyncio.start_server(relay, "0.0.0.0", outer_port)  # noqa: S104 - the stack's network
        await asked_to_stop.wait()
        # Without waiting for connections: gateways keep theirs open.
        server.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes, until an end comes; then the other side is closed too."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
