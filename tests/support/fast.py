"""A gateway's web room on a real socket, with the fast road or without, on a real story whose clock stands still."""

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web
from typing_extensions import override

from campaign_gateway.policy.evidence import Evidence
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.outlook import Quota
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import Absence, Stored
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.flights import Flights, Timeouts
from campaign_gateway.proxy.ports import NO_TRACES, Copy, Found, Store, Traces
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.writers import Writers
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.telemetry.access import AccessLines
from campaign_gateway.telemetry.logs import HitLines, JsonFormatter
from campaign_gateway.web.actions import Actions
from campaign_gateway.web.api import Api
from campaign_gateway.web.clients import Client, Clients
from campaign_gateway.web.fast import FastRoad
from campaign_gateway.web.grants import Grant, Grants
from campaign_gateway.web.record import Recorder
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.responses import Bounds
from campaign_gateway.web.server import Connection, Server
from tests.support.doubles import LONG_AGO, SALES, START, SUPPORT, ManualClock, make_request
from tests.support.meters import CountingMeter
from tests.support.wire import Answered, parse_answers

FRESHNESS = Freshness(factor=0.0, min=600.0, max=600.0)
KEYS = {"reporting": "cgk_reporting", "operations": "cgk_operations"}
_MADE_ID = re.compile(rb"\b[0-9a-f]{32}\b")


def stored(text: str, *, validated_at: float = START) -> Stored:
    body = json.dumps({"data": {"_id": text}}).encode()
    return Stored(body, "application/json", b"digest of " + body, LONG_AGO, "Ready", validated_at)


BIG = Stored(b"1" * 2**17, "application/json", b"big", None, "Ready", START)
GONE = Stored(b"", "", b"", None, None, START, Absence(400, "400", "Campaign not found"))
CAMPAIGNS: Mapping[str, Stored] = {
    "c-1": stored("c-1"),
    "c-2": stored("c-2"),
    "15551234567": stored("15551234567"),
    "a" * 128: stored("long"),
    "big": BIG,
    "gone": GONE,
    "old": stored("old", validated_at=START - 700),
}


class FarStore:
    """The memory as if it were reached by wire: nothing of it is local, and each look-up is a trip."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory
        self.trips = 0
        self.gate = asyncio.Event()
        """Trips come back when it is set."""
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def peek(self, key: str) -> Copy:
        return self._memory.peek(key)._replace(stored=None)

    def shows(self, _key: str, stored: Stored, evidence: Evidence) -> bool:
        return False

    def holds(self, _key: str) -> None:
        return None

    async def get(self, key: str, copy: Copy | None = None, raw: object = None) -> Found:
        self.trips += 1
        await self.gate.wait()
        await asyncio.sleep(0)
        found = await self._memory.get(key)
        return replace(found, raw=found.stored)


Layer = Callable[[MemoryStore], Store]
"""Makes the store that is asked out of the one that holds the campaigns."""


def far(memory: MemoryStore) -> Store:
    return cast("Store", FarStore(memory))


def local(memory: MemoryStore) -> Store:
    return memory


def quota(_account: str, _client: str) -> Quota:
    return Quota(20, 60.0, 7, 12.3)


class NoPlatform:
    """In the place of `Fetcher`: nothing can be had."""

    def __init__(self) -> None:
        self.refused: Failure | None = None
        """What every request for a call is refused with, if anything."""
        self.asked: list[str] = []
        """What calls were requested for."""

    def refusal(self, request: Request, *_: Any) -> Failure | None:
        self.asked.append(request.id)
        return self.refused

    async def fetch(self, *_: Any, **__: Any) -> Failure:
        return Failure(Problem.UPSTREAM_UNAVAILABLE, "no platform here")


class WholeRoad:
    """A reader whose answers are all replies: none is rendered, counted or logged as a hit."""

    def __init__(self, reader: Exchange) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def hit(self, _request: Request) -> None:
        return None

    holds = hit

    async def answer(self, request: Request, _last: object) -> Reply:
        return await self._reader.read(request)


class NoGrants(Grants):
    """Nothing is recalled, and refusals are made anew like any other failure."""

    @override
    def recall(self, http: object) -> tuple[None, str]:
        return None, ""

    @override
    def give(self, *arguments: Any) -> Grant:
        grant = super().give(*arguments)
        grant._refusals = cast("Any", SimpleNamespace(of=lambda _: None))
        return grant


@dataclass
class Received:
    """What came back on a connection."""

    answers: list[Answered]
    rest: bytes
    is_closed: bool


@dataclass
class Gateway:
    """One web room, and what it does it with."""

    is_fast: bool = True
    """Whether it has the fast road."""
    has_grants: bool = True
    """Without them, and without the fast road, each request is authorised anew and each answer made anew."""
    clock: ManualClock = field(default_factory=ManualClock)
    layer: Layer = local
    meter: Any = field(default_factory=CountingMeter)
    traces: Traces = NO_TRACES
    max_bytes: int = 2**26
    """The bound of the memory."""

    def __post_init__(self) -> None:
        self.port = 0
        self.memory = MemoryStore(self.max_bytes, self.clock, self.meter)
        self.store = self.layer(self.memory)
        self.index, self.tasks = LocalIndex(self.memory.epoch, self.clock.now), Tasks()
        self.writers, self.platform = Writers(self.clock.now, 5.0), NoPlatform()
        self.exchange = Exchange(
            store=self.store,
            index=self.index,
            fetcher=cast("Any", self.platform),
            flights=Flights(self.tasks),
            rules=FRESHNESS,
            meter=self.meter,
            timeouts=Timeouts(1.0),
            writers=self.writers,
        )
        rights = {"reporting": {"support"}, "operations": {"support", "sales"}}
        self.clients = Clients(
            {
                hashlib.sha256(key.encode()).hexdigest(): Client(name, frozenset(rights[name]), frozenset({"read"}))
                for name, key in KEYS.items()
            },
            None,
        )
        bounds = Bounds(60.0, 86_400.0)
        self.epoch = self.clients.epoch
        self.lines = HitLines(access=AccessLines("all"))
        recorder = Recorder(self.meter, self.lines, self.traces)
        reader = self.exchange if self.has_grants else cast("Any", WholeRoad(self.exchange))
        self.rendered = RenderedHits(reader, bounds, recorder)
        self.memory.on_dropped = self.rendered.follow
        self.grants = (Grants if self.has_grants else NoGrants)(
            reader, recorder, self.rendered, bounds, self.epoch, quota
        )
        self.api = Api(
            actions=Actions(self.exchange, cast("Any", None), cast("Any", None), 4_096, cast("Any", None)),
            streams={"support": SUPPORT, "sales": SALES},
            default_stream="support",
            clients=self.clients,
            bounds=bounds,
            recorder=recorder,
            quota=quota,
            grants=self.grants,
        )
        self.fast = FastRoad(self.epoch)
        self.runner: web.ServerRunner | None = None

    @property
    def connection(self) -> Connection:
        """The one that is open."""
        assert self.runner is not None
        assert self.runner.server is not None
        (made,) = self.runner.server.connections
        return cast("Connection", made)

    async def put(self, id_: str, entry: Stored) -> None:
        """Stores an entry as a fill would."""
        key = make_request(id_).key
        found = await self.memory.get(key)
        await self.memory.put(key, entry, found.fence, 86_400.0)


@contextlib.asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Gateway]:
    for id_, entry in CAMPAIGNS.items():
        await gateway.put(id_, entry)
    connect = gateway.fast.connect if gateway.is_fast else Connection
    server = Server(gateway.api.handle, gateway.api.refuse, connect)
    runner = gateway.runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gateway.port = runner.addresses[0][1]
    try:
        yield gateway
    finally:
        await runner.cleanup()
        await gateway.fast.close()
        await gateway.tasks.close()
        gateway.lines.flush()


class Caller:
    """One connection that sends bytes just as it is given them, in pieces, and never waits for a time.

    What the gateway does about a piece is done after a few turns of the loop that both run on.
    """

    def __init__(self, port: int, peer: socket.socket) -> None:
        self.port = port
        self.peer = peer
        self.received = b""
        self.is_closed = False

    async def send(self, *pieces: bytes, turns: int = 25, listens: bool = True) -> None:
        loop = asyncio.get_running_loop()
        for piece in pieces:
            try:
                await loop.sock_sendall(self.peer, piece)
            except ConnectionError:
                self.is_closed = True
            for _ in range(turns):
                await asyncio.sleep(0)
                if listens:
                    self.read()

    def read(self) -> None:
        try:
            while piece := self.peer.recv(2**20):
                self.received += piece
            self.is_closed = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.is_closed = True

    @property
    def answers(self) -> list[Answered]:
        return self.parsed().answers

    def parsed(self, *, to_head: bool = False) -> Received:
        answers = parse_answers(self.received, to_head=to_head)
        length = sum(len(answer.head) + len(answer.body) for answer in answers)
        return Received(answers, self.received[length:], self.is_closed)


@contextlib.asynccontextmanager
async def calling(gateway: Gateway) -> AsyncIterator[Caller]:
    with socket.socket() as peer:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", gateway.port))
        yield Caller(gateway.port, peer)


def comparable(received: bytes) -> bytes:
    """The bytes without what may differ: the date, and ids that were made up."""
    return _MADE_ID.sub(b"<id>", re.sub(rb"\r\nDate: [^\r]+", b"\r\nDate: <date>", received))


@contextlib.contextmanager
def logged() -> Any:
    """The log lines of requests, as they are written, but for the time and what time it took."""
    sink, log = io.StringIO(), logging.getLogger("campaign_gateway.requests")
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonFormatter())
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    rows: list[dict[str, Any]] = []
    try:
        yield rows
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        for line in sink.getvalue().splitlines():
            row = json.loads(line)
            assert 0 <= row.pop("milliseconds") < 10_000
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", row.pop("time"))
            row["request_id"] = _MADE_ID.sub(b"<id>", row["request_id"].encode()).decode()
            rows.append(row)
