"""The story with everything around it scripted: a gateway's inside, from the exchange to the edge of the wire."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.flights import Flights, Timeouts
from campaign_gateway.proxy.forward import Forwarder
from campaign_gateway.proxy.invalidate import Invalidator
from campaign_gateway.proxy.ports import NO_TRACES, Budget, Found, Store, Traces
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.writers import Writers
from campaign_gateway.store.local.index import LocalIndex
from tests.support.doubles import (
    GatedStore,
    ManualClock,
    ScriptedBudget,
    ScriptedUpstream,
    Step,
    begun,
    finished,
    make_request,
)
from tests.support.meters import CountingMeter

_T = TypeVar("_T")

LIFETIME = 60.0
WINDOW = 30.0
HARD_BOUND = 3600.0
MISSING = 10.0
READ_YOUR_WRITES = 5.0
FRESHNESS = Freshness(
    factor=0.1, min=5.0, max=LIFETIME, missing=MISSING, stale_while_revalidate=WINDOW, stale_if_error=HARD_BOUND
)


class Story:
    """An exchange on a clock that stands still, asked for one campaign unless a test says otherwise."""

    def __init__(
        self,
        *script: Step,
        patience: float = 5.0,
        budget: Budget | None = None,
        store: Store | None = None,
        store_kind: type[GatedStore] = GatedStore,
        is_polled: bool = False,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.clock, self.meter, self.tasks = ManualClock(), CountingMeter(), Tasks()
        self.upstream = ScriptedUpstream(*script)
        self.budget = ScriptedBudget()
        self.memory = store_kind(self.clock, self.meter)
        self.store = store or self.memory
        self.flights = Flights(self.tasks)
        self.fetcher = Fetcher(self.upstream, budget or self.budget, self.store, self.meter, traces=traces)
        self.index = LocalIndex(self.store.epoch, self.clock.now)
        self.writers = Writers(self.clock.now, READ_YOUR_WRITES)
        self.exchange = Exchange(
            store=self.store,
            index=self.index,
            fetcher=self.fetcher,
            flights=self.flights,
            rules=FRESHNESS,
            meter=self.meter,
            timeouts=Timeouts(patience),
            writers=self.writers,
            traces=traces,
            is_polled=is_polled,
        )
        self.invalidator = Invalidator(self.store, self.flights, self.exchange, self.meter, self.tasks)
        self.forwarder = Forwarder(
            exchange=self.exchange,
            fetcher=self.fetcher,
            invalidator=self.invalidator,
            index=self.index,
            store=self.store,
            writers=self.writers,
            timeouts=Timeouts(patience),
            tasks=self.tasks,
        )

    @property
    def calls(self) -> int:
        return len(self.upstream.calls)

    async def read(self, campaign: str = "c-1", directives: RequestDirectives = NO_DIRECTIVES) -> Reply:
        """One read, and the end of what it left running."""
        reply = await self.exchange.read(make_request(campaign, directives=directives))
        await finished(self.tasks)
        return reply

    async def age(self, seconds: float) -> None:
        """One read, and so many seconds."""
        await self.read()
        self.clock.advance(seconds)

    async def held(self, work: Coroutine[Any, Any, _T], calls: int = 1) -> asyncio.Task[_T]:
        """The work, once so many calls have come in all; they wait for `upstream.release`."""
        self.upstream.hold()
        task = begun(work)
        await self.upstream.arrived(calls)
        return task

    async def found(self, campaign: str = "c-1") -> Found:
        return await self.store.get(make_request(campaign).key)

    async def stored(self, campaign: str = "c-1") -> Stored | None:
        return (await self.found(campaign)).stored

    async def invalidate(self, campaign: str = "c-1") -> None:
        """What a write does."""
        await self.invalidator.invalidate([make_request(campaign).key], Cause.WRITE)

    async def close(self) -> None:
        await self.tasks.close()
