"""A Redis on a network that a test controls: the real client and scripts, fakeredis as the server, wires in between.

Every request and every reply travels for a while, in order on each connection. The server can be lost, restarted empty,
flushed or hung; a replica can be parted from it, and its subscription cut, delayed, or robbed of a message. As on TCP,
what was sent before a connection broke may still arrive, and a hung server does later what it was asked meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import fakeredis
import redis.asyncio
from fakeredis.aioredis import AsyncFakeSocket
from typing_extensions import override

SLOWEST_SECONDS = 0.02
"""One way, at most."""

Executed = Callable[[str, list[bytes]], None]


class RedisNet:
    """The server and all wires to it. Replicas are known by name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.server = fakeredis.FakeServer()
        self.run = 1
        self.is_up = True
        self.is_hung = False
        self.parted: set[str] = set()
        self.deaf: set[str] = set()
        self.robbed: set[str] = set()
        """Replicas whose next message on the bus gets lost."""
        self.on_executed: Executed = lambda _replica, _fields: None
        self.on_message: Callable[[str], None] = lambda _replica: None
        """Called with each replica that a message is delivered to."""
        self._wires: list[_Wire] = []
        self._waiting: list[tuple[_Wire, bytes]] = []

    def dress(self, client: redis.asyncio.Redis, replica: str) -> None:
        """Lets a client that has not connected yet reach this server instead of the network."""
        client.connection_pool.connection_class = _Connection
        client.connection_pool.connection_kwargs |= {"net": self, "replica": replica}

    def reaches(self, replica: str) -> bool:
        return self.is_up and replica not in self.parted

    def flush(self) -> None:
        with self.server.lock:
            for db in self.server.dbs.values():
                db.clear()

    def lose(self) -> None:
        """No connection lives, and none can be made."""
        self.is_up = False
        self._break(lambda _wire: True)

    def come_back(self, *, empty: bool) -> None:
        if empty:
            self.restart_empty()
        self.is_up = True

    def restart_empty(self) -> None:
        """Another run of the server, which knows nothing."""
        self._break(lambda _wire: True)
        self.server = fakeredis.FakeServer()
        self.run += 1

    def hang(self) -> None:
        self.is_hung = True

    def resume(self) -> None:
        """It goes on with whatever it was sent meanwhile, also by those who gave up."""
        self.is_hung = False
        waiting, self._waiting = self._waiting, []
        for wire, data in waiting:
            wire.execute(data)

    def part(self, replica: str) -> None:
        self.parted.add(replica)
        self._break(lambda wire: wire.replica == replica)

    def join(self, replica: str) -> None:
        self.parted.discard(replica)

    def kill(self, replica: str) -> None:
        """The replica died: it receives and sends nothing more, but what it has sent still arrives."""
        self.parted.add(replica)
        for wire in self._wires:
            if wire.replica == replica:
                wire.abandon()

    def cut_bus(self, replica: str) -> None:
        """The subscription's connection breaks; what is on its way is lost."""
        self._break(lambda wire: wire.replica == replica and wire.is_subscription)

    def deafen(self, replica: str) -> None:
        """Nothing arrives on the subscription any longer, while the connection looks good."""
        self.deaf.add(replica)

    def undeafen(self, replica: str) -> None:
        """What was held up arrives, on connections that are still there."""
        self.deaf.discard(replica)
        for wire in self._wires:
            if wire.replica == replica:
                wire.let_through()

    def add(self, wire: "_Wire") -> None:
        self._wires.append(wire)

    def wait(self, wire: "_Wire", data: bytes) -> None:
        self._waiting.append((wire, data))

    def number_of(self, replica: str) -> int:
        return sum(1 for wire in self._wires if wire.replica == replica)

    def _break(self, which: Callable[["_Wire"], bool]) -> None:
        for wire in self._wires:
            if which(wire):
                wire.reset()
        self._waiting = [(wire, data) for wire, data in self._waiting if not wire.is_reset]


class _Socket(AsyncFakeSocket):
    """The server's end of a connection. It can also tell the server's run, which fakeredis cannot."""

    def __init__(self, wire: "_Wire", net: RedisNet) -> None:
        super().__init__(net.server, 0, client_class=redis.asyncio.Redis, client_info={"resp": 2, "user": "default"})
        self._wire = wire
        self._net = net

    @override
    def _process_command(self, fields: list[bytes]) -> None:
        if fields[0].upper() == b"INFO":
            self.put_response(b"# Server\r\nrun_id:%040x\r\n" % self._net.run)
            return
        super()._process_command(fields)
        self._net.on_executed(self._wire.replica, fields)

    @override
    def put_response(self, msg: Any) -> None:
        if isinstance(msg, list) and msg and msg[0] == b"message":
            self._wire.is_subscription = True
            if self._wire.replica in self._net.robbed:
                self._net.robbed.discard(self._wire.replica)
                return
        if isinstance(msg, list) and msg and msg[0] == b"subscribe":
            self._wire.is_subscription = True
        self._wire.send_back(msg)


class _Wire:
    """One connection; also the reader and the writer that redis-py thinks it has."""

    def __init__(self, net: RedisNet, replica: str) -> None:
        self.replica = replica
        self.is_subscription = False
        self.is_reset = False
        self._is_abandoned = False
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._net = net
        self._random = Random(f"{net.seed} {replica} {net.number_of(replica)}")
        self._loop = asyncio.get_running_loop()
        self._there = self._back = 0.0
        self._held: list[Any] = []
        self._socket = _Socket(self, net)
        net.add(self)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        if self.is_reset or self._is_abandoned:
            raise ConnectionResetError("the connection was reset")
        self._there = max(self._there, self._loop.time() + self.delay())
        self._loop.call_at(self._there, self.execute, b"".join(pieces))

    async def drain(self) -> None:
        return

    def close(self) -> None:
        # Requests on their way were sent before the connection's end, and are done.
        self._socket._cleanup(self._socket._server)

    async def wait_closed(self) -> None:
        return

    def execute(self, data: bytes) -> None:
        if self._net.is_hung and not self.is_reset:
            self._net.wait(self, data)
        elif not self.is_reset:
            self._socket.sendall(data)

    def send_back(self, message: Any) -> None:
        if self.is_subscription and self.replica in self._net.deaf:
            self._held.append(message)
            return
        self._back = max(self._back, self._loop.time() + self.delay())
        self._loop.call_at(self._back, self._deliver, message)

    def let_through(self) -> None:
        held, self._held = self._held, []
        for message in held:
            self.send_back(message)

    def reset(self) -> None:
        if not self.is_reset:
            self.is_reset = True
            self.close()
            self.inbox.put_nowait(ConnectionResetError("the connection was reset"))

    def abandon(self) -> None:
        self._is_abandoned = True
        self.close()

    def delay(self) -> float:
        """Mostly short; now and then long enough for others to go in between."""
        return self._random.choice((0.0005, 0.001, 0.002, 0.005, SLOWEST_SECONDS))

    def _deliver(self, message: Any) -> None:
        if not self.is_reset:
            self.inbox.put_nowait(message)
            if isinstance(message, list) and message and message[0] == b"message":
                self._net.on_message(self.replica)


class _Connection(redis.asyncio.Connection):
    """redis-py's own connection, on a wire instead of a socket."""

    def __init__(self, *, net: RedisNet, replica: str, **options: Any) -> None:
        super().__init__(**options)
        self._net = net
        self._replica = replica
        self._wire: _Wire | None = None

    @override
    async def _connect(self) -> None:
        await asyncio.sleep(0.001)
        if not self._net.reaches(self._replica):
            raise ConnectionRefusedError("refused")
        self._wire = _Wire(self._net, self._replica)
        # Whatever has the few methods that are called.
        self._reader: Any = self._wire
        self._writer: Any = self._wire

    @override
    async def can_read(self) -> bool:
        return self._wire is not None and not self._wire.inbox.empty()

    @override
    async def _read_response_from_parser(
        self, disable_decoding: bool = False, push_request: bool | None = False
    ) -> Any:
        if self._wire is None:
            raise ConnectionResetError("never connected")
        message = await self._wire.inbox.get()
        if isinstance(message, OSError):
            raise message
        return message
