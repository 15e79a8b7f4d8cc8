"""Replicas of the gateway's inside in one event loop, a platform that keeps its own log, and the truth behind both."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.operations import Call
from campaign_gateway.policy.directives import RequestDirectives
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.ledger import Allowance
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.flights import Flights, Timeouts
from campaign_gateway.proxy.ports import CampaignIndex, Handlers, UpstreamError
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.writers import Writers
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.layered import LayeredStore
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.connect import RedisTarget, open_link
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.ledgers import RedisLedgers
from campaign_gateway.store.redis.store import RedisStore
from campaign_gateway.upstream.budget import CallBudget
from tests.support.doubles import NOT_FOUND, SUPPORT, campaign_response, error_response, make_request
from tests.support.meters import CountingMeter
from tests.support.redis_net import RedisNet

UNWATCHED = 1.0
TIMEOUT = 3.0
"""Of one upstream call: longer than a lease."""
ALLOWANCE = Allowance(calls=6, window=8.0, leave=0.6, timeout=TIMEOUT, reserve=1)
FRESHNESS = Freshness(
    factor=0.1, min=1.0, max=12.0, default=2.0, missing=4.0, stale_while_revalidate=4.0, stale_if_error=20.0
)
"""Copies are fresh for longer than a lost subscription is noticed; an absence outlives the call that found it."""


@dataclass
class PlatformCall:
    """A read as the platform's log shows it. Times are the loop's."""

    campaign: str
    replica: str
    started: float
    arrived: float | None = None
    value: str | None = None
    """What it answers with; None for "no such campaign"."""
    answered: bool = False
    """Whether a whole good answer went out."""
    ended: float | None = None
    is_orphan: bool = False
    """Whether its replica died meanwhile."""
    gate: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def release(self, outcome: str) -> None:
        """Lets it be answered, if it still waits for that."""
        if not self.gate.done():
            self.gate.set_result(outcome)


class Platform:
    """Answers out of the truth when the test lets it, and remembers everything."""

    def __init__(self, seed: int) -> None:
        self.calls: list[PlatformCall] = []
        self.holds = False
        """Whether calls wait to be released one by one; else each takes its time and is answered."""
        self.is_prompt = False
        """Whether it answers at once."""
        self._truth: dict[str, list[tuple[float, str | None]]] = {}
        self._random = Random(seed)
        self._loop = asyncio.get_running_loop()

    def change(self, campaign: str, value: str | None) -> None:
        self._history(campaign).append((self._loop.time(), value))

    def was_true(self, campaign: str, value: str | None, since: float, until: float) -> bool:
        """Whether the campaign had this value at some moment between the two."""
        history = self._history(campaign)
        ends = [moment for moment, _ in history[1:]] + [float("inf")]
        return any(
            value == was and began <= until and end >= since for (began, was), end in zip(history, ends, strict=True)
        )

    def waiting(self) -> list[PlatformCall]:
        return [call for call in self.calls if call.ended is None and not call.gate.done()]

    async def send(self, replica: str, campaign: str, leave_by: float, is_alive: Callable[[], bool]) -> Response:
        """One call: it leaves, arrives at some moment before its end, and ends with an answer or a time-out."""
        loop = self._loop
        started = loop.time()
        await asyncio.sleep(0.0 if self.is_prompt else self._random.choice((0.0, 0.001, 0.02, 0.5)))
        if loop.time() > leave_by or not is_alive():
            raise UpstreamError(Problem.UPSTREAM_TIMEOUT, "never left", was_sent=False)
        call = PlatformCall(campaign, replica, started)
        self.calls.append(call)
        left = TIMEOUT - (loop.time() - started)
        # A call may arrive just before its sender gives up.
        loop.call_later(self._random.choice((0.001, 0.001, 0.01, 0.3, left)), self._arrive, call)
        if not self.holds:
            pace = 0.002 if self.is_prompt else self._random.choice((0.002, 0.05, 0.4, 1.2))
            loop.call_later(pace, call.release, "good")
        try:
            async with asyncio.timeout(left):
                outcome = await call.gate
            self._arrive(call)
            # On its way back.
            await asyncio.sleep(self._random.choice((0.0, 0.001, 0.02)))
        except TimeoutError as error:
            self._arrive(call)
            raise UpstreamError(Problem.UPSTREAM_TIMEOUT, "no answer in time") from error
        except asyncio.CancelledError:
            call.is_orphan = not is_alive()
            raise
        finally:
            call.ended = loop.time()
        return self._answer(call, outcome)

    def _history(self, campaign: str) -> list[tuple[float, str | None]]:
        return self._truth.setdefault(campaign, [(float("-inf"), "v0")])

    def _arrive(self, call: PlatformCall) -> None:
        if call.arrived is None:
            call.arrived = self._loop.time()
            call.value = self._history(call.campaign)[-1][1]

    def _answer(self, call: PlatformCall, outcome: str) -> Response:
        match outcome:
            case "error":
                return error_response(500, "Something went wrong")
            case "limited":
                return error_response(429, "You've exceeded the per-minute rate limit.", retry_after="2")
            case "html":
                return Response(200, "text/html", b"<html></html>")
            case "reset":
                raise UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "the connection was closed", may_repeat=True)
            case _:
                call.answered = True
                return NOT_FOUND if call.value is None else campaign_response(call.campaign, name=call.value)


@dataclass
class Read:
    """One read as its caller saw it."""

    replica: str
    campaign: str
    directives: RequestDirectives
    began: float
    ended: float = 0.0
    reply: Reply | None = None


class Replica:
    """One gateway: everything between the exchange and the two networks, wired as in production."""

    def __init__(
        self,
        name: str,
        platform: Any,
        net: RedisNet,
        replicas: int,
        *,
        allowance: Allowance = ALLOWANCE,
        freshness: Freshness = FRESHNESS,
    ) -> None:
        self.name = name
        self.is_alive = True
        self.reads: list[Read] = []
        self._platform = platform
        self._net = net
        self._loop = asyncio.get_running_loop()
        self._watchers, self._fills, self._callers = Tasks(), Tasks(), Tasks()
        self.clock, self.meter = StoreClock(), CountingMeter()
        meter, keys = self.meter, Keys("cg")
        memory = MemoryStore(2**20, self.clock, meter)
        self.clock.on_step = memory.clear
        self.link = open_link(RedisTarget("redis://store.example:6379", 0.25), self.clock, meter)
        net.dress(self.link.client, name)
        self.bus = Bus(self.link, keys)
        shared = RedisStore(self.link, self.bus, keys)
        self.store = LayeredStore(shared, memory, self.bus, UNWATCHED)
        ledgers = RedisLedgers(self.link, keys)
        self.budget = CallBudget(
            lambda _: allowance, ledgers, meter, self._watchers, replicas=replicas, clock=self._loop.time
        )
        self._flights = Flights(self._fills)
        self._fetcher = Fetcher(self, self.budget, self.store, meter)
        self.index = self._make_index(keys)
        patience = Timeouts(allowance.timeout)
        self.writers = Writers(self.clock.now, 0.0)
        self._exchange = Exchange(
            store=self.store,
            index=self.index,
            fetcher=self._fetcher,
            flights=self._flights,
            rules=freshness,
            meter=meter,
            timeouts=patience,
            writers=self.writers,
            is_polled=not isinstance(self.index, LocalIndex),
        )

    def _make_index(self, _keys: Keys) -> CampaignIndex:
        return LocalIndex(self.store.epoch, self.clock.now)

    async def start(self) -> None:
        await self.link.start(self._watchers)
        self.store.start(self._watchers, Handlers(self._flights.forget, self.writers.note, lambda *_: None))
        await self.budget.start([SUPPORT.tenant.account])

    def read(self, campaign: str, directives: RequestDirectives) -> None:
        """Begins a read, whose result is in `reads` when it has ended."""
        read = Read(self.name, campaign, directives, self._loop.time())

        async def reading() -> None:
            read.reply = await self._exchange.read(make_request(campaign, directives=directives))
            read.ended = self._loop.time()
            self.reads.append(read)

        self._callers.spawn(reading(), name="read")

    async def invalidate(self, key: str, by: Cause) -> None:
        """What a purge does, and a write before and after its call."""
        self._flights.forget(key)
        await self.store.invalidate(key, by)
        self._flights.forget(key)

    def write(self, key: str, write: Callable[[], None], seconds: float, note: Callable[[float, float], None]) -> None:
        """Invalidates, lets the platform change within so many seconds, and invalidates again."""

        async def writing() -> None:
            for step in (write, None):
                began = self._loop.time()
                await self.invalidate(key, Cause.WRITE)
                note(began, self._loop.time())
                if step is not None:
                    await asyncio.sleep(seconds)
                    step()
                    await asyncio.sleep(seconds)

        self._callers.spawn(writing(), name="write")

    def invalidate_beside(self, key: str, by: Cause, note: Callable[[float, float], None]) -> None:
        """Invalidates beside everything else."""

        async def invalidating() -> None:
            began = self._loop.time()
            await self.invalidate(key, by)
            note(began, self._loop.time())

        self._callers.spawn(invalidating(), name="invalidate")

    async def crash(self) -> None:
        """Dies at once. What it has sent may still arrive, at Redis and at the platform."""
        self.is_alive = False
        self._net.kill(self.name)
        for tasks in (self._callers, self._fills, self._watchers):
            await tasks.close()
        await self.link.close()

    async def stop(self) -> None:
        """Ends it for the test's sake."""
        for tasks in (self._callers, self._fills, self._watchers):
            await tasks.close()
        with suppress(OSError):
            await self.link.close()

    # Implements `Upstream`.

    async def send(self, _stream: Stream, call: Call, leave_by: float, *, is_anew: bool = False) -> Response:
        campaign = call.target.partition("?")[0].rpartition("/")[2]
        answer: Response = await self._platform.send(self.name, campaign, leave_by, lambda: self.is_alive)
        return answer

    def credential_version(self, _stream: Stream) -> int:
        return 1

    async def renew_credential(self, _stream: Stream, _version: int) -> bool:
        return False
