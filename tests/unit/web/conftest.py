import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from aiohttp import web

from campaign_gateway.contract.answers import Response
from campaign_gateway.policy.decide import Fwd
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.telemetry.logs import HitLines
from campaign_gateway.web.actions import Actions
from campaign_gateway.web.api import Api
from campaign_gateway.web.changes import ChangeLimits, Changes
from campaign_gateway.web.clients import Client, Clients
from campaign_gateway.web.grants import Grants
from campaign_gateway.web.record import Recorder
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.responses import Bounds
from campaign_gateway.web.server import Server
from tests.support.doubles import SALES, START, SUPPORT
from tests.support.fast import quota
from tests.support.meters import CountingMeter
from tests.support.wire import Answered, talk

BODY = b'{"data": {"_id": "c-1"}}'
ENTRY = Stored(BODY, "application/json", b"digest", None, "Ready", START)
SENT = Reply(
    Outcome(Fwd.METHOD, 200), passed=Response(200, "application/json", b'{"status": "success"}'), written_at=START
)
MAX_REQUEST = 4_096
MAX_CHANGES = 5
LISTENERS = ChangeLimits(subscribers=4, client_subscribers=3, max_unsent=20_480)
HIT = Reply(Outcome(ttl=20.0), ENTRY, None, 10.0, 30.0)
KEYS = {"reporting": "cgk_reporting", "operations": "cgk_operations"}
SCOPES = {"reporting": {"read"}, "operations": {"read", "write", "purge"}}


class ScriptedExchange:
    """In the place of the story: remembers what it is asked and gives one reply to all."""

    def __init__(self) -> None:
        self.reply: Reply | Exception = HIT
        self.requests: list[Request] = []
        self.open = asyncio.Event()
        self.open.set()

    async def read(self, request: Request) -> Reply:
        self.requests.append(request)
        await self.open.wait()
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def read_all(self, requests: Sequence[Request]) -> Sequence[Reply]:
        return [await self.read(request) for request in requests]

    async def answer(self, request: Request, _last: object) -> Reply:
        return await self.read(request)

    def hit(self, _request: Request) -> None:
        return None

    holds = current_age = hit
    validity = None


class ScriptedForwarder:
    """In the place of what sends on: remembers what it is given and gives one reply to all."""

    def __init__(self) -> None:
        self.reply: Reply | Exception = SENT
        self.requests: list[Request] = []
        self.looked_at: list[tuple[str, str]] = []
        """Stream and id of each campaign whose channel was asked for."""
        self.found: str | Reply = "voice"

    async def send(self, request: Request) -> Reply:
        self.requests.append(request)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def channel(self, stream: Stream, campaign: str, _client: str) -> str | Reply:
        self.looked_at.append((stream.alias, campaign))
        return self.found


class ScriptedInvalidator:
    """In the place of what purges."""

    def __init__(self) -> None:
        self.purges: list[tuple[str, list[str] | None, str]] = []
        """Stream, campaigns, client."""
        self.is_shared = True

    async def purge(self, stream: Stream, campaigns: list[str] | None, client: str) -> bool:
        self.purges.append((stream.alias, campaigns, client))
        return self.is_shared


class ScriptedHints:
    """In the place of what takes hints."""

    def __init__(self) -> None:
        self.given: list[tuple[str, list[str], str]] = []
        """Stream, campaigns, client."""

    async def give(self, stream: Stream, campaigns: list[str], client: str) -> None:
        self.given.append((stream.alias, campaigns, client))


class Front:
    """The web room on a real socket."""

    def __init__(
        self,
        *,
        default_stream: str | None = "support",
        anonymous: bool = False,
        max_request: int = MAX_REQUEST,
        has_docs: bool = True,
    ) -> None:
        self.exchange, self.meter = ScriptedExchange(), CountingMeter()
        clock = StoreClock()
        self.log = LocalChanges(clock.now, MAX_CHANGES)
        self.feed = Feed(self.log, LocalIndex(Epoch(), clock.now), clock.now, Tasks(), self.meter, {})
        self.streams = {"support": SUPPORT, "sales": SALES}
        rights = {"reporting": {"support"}, "operations": {"support", "sales"}}
        by_hash = {
            hashlib.sha256(key.encode()).hexdigest(): Client(name, frozenset(rights[name]), frozenset(SCOPES[name]))
            for name, key in KEYS.items()
        }
        everybody = Client("anonymous", frozenset(self.streams), frozenset({"read"}))
        clients = self.clients = Clients({} if anonymous else by_hash, everybody if anonymous else None)
        bounds = Bounds(60.0, 86_400.0)
        self.forwarder, self.invalidator = ScriptedForwarder(), ScriptedInvalidator()
        self.hints = ScriptedHints()
        recorder, reader = Recorder(self.meter, HitLines()), cast("Any", self.exchange)
        self.api = Api(
            actions=Actions(
                cast("Any", self.exchange),
                cast("Any", self.forwarder),
                cast("Any", self.invalidator),
                max_request,
                cast("Any", self.hints),
            ),
            streams=self.streams,
            default_stream=default_stream,
            clients=clients,
            bounds=bounds,
            recorder=recorder,
            quota=quota,
            grants=Grants(reader, recorder, RenderedHits(reader, bounds, recorder), bounds, clients.epoch, quota),
            changes=Changes(self.feed, LISTENERS, clients.epoch),
            has_docs=has_docs,
        )
        self.port = 0
        self.server: Server

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def talk(self, *pieces: bytes, count: int = 1, to_head: bool = False) -> list[Answered]:
        return await talk(self.port, *pieces, count=count, to_head=to_head)

    async def ask(
        self,
        target: str | bytes = "/v1/campaigns/c-1",
        *fields: str | bytes,
        method: str = "GET",
        key: str | None = KEYS["reporting"],
        body: bytes = b"",
    ) -> Answered:
        """One well-formed request and its answer; a body comes with its length."""
        if body:
            fields = (*fields, f"Content-Length: {len(body)}")
        given = [b"Host: gateway", *(field.encode() if isinstance(field, str) else field for field in fields)]
        if key is not None:
            given.append(b"Authorization: Bearer " + key.encode())
        raw = target.encode() if isinstance(target, str) else target
        head = b"\r\n".join([b"%s %s HTTP/1.1" % (method.encode(), raw), *given, b"", body])
        (answer,) = await self.talk(head, to_head=method == "HEAD")
        return answer


@contextlib.asynccontextmanager
async def serving(front: Front) -> AsyncIterator[Front]:
    front.server = Server(front.api.handle, front.api.refuse)
    runner = web.ServerRunner(front.server, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    front.port = runner.addresses[0][1]
    try:
        yield front
    finally:
        await runner.cleanup()


@pytest.fixture
async def front():
    async with serving(Front()) as front:
        yield front


@pytest.fixture
def serve():
    """Makes a front with other settings: `async with serve(anonymous=True) as front`."""
    return lambda **options: serving(Front(**options))
