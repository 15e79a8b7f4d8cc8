"""The gateway's inside on virtual time, in front of the simulated platform, with edits and callers at stated rates.

Real: exchange, sweeper, index, budget and its ledger, fetcher, store, and the simulated platform's own campaigns, lists
and rate limit. Left out: sockets, signing and Redis, which `live` has. A change counts as seen from the moment on which
a caller's read is answered with it, which is when the answer that holds it is in the store; each caller checks that.

Two runs of a scenario in processes with the same `PYTHONHASHSEED` see the same: each purpose draws from a source of its
own, and nothing else is left to chance.
"""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from unittest.mock import patch

from typing_extensions import override

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.ledger import Allowance, Lane
from campaign_gateway.policy.pacing import Capacity
from campaign_gateway.proxy.bounds import StatedBounds, stated_bounds
from campaign_gateway.proxy.flights import Flights, Timeouts
from campaign_gateway.proxy.ports import Budget, CampaignIndex
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.sweep import SweepConfig, Sweeper
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.writers import Writers
from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.upstream.budget import CallBudget
from tests.bench.freshness.callers import Callers
from tests.bench.freshness.scenarios import (
    CALLS,
    LEAVE,
    LIFETIMES,
    READ_SECONDS,
    RESERVE,
    SETTLE_SECONDS,
    TIMEOUT,
    WINDOW,
    Phase,
    Result,
    Scenario,
)
from tests.bench.freshness.world import NoBudget, Platform, Truth, WatchedFetcher, WatchedStore
from tests.support.meters import CountingMeter
from tests.support.virtual_time import virtual_time

WARM_UP_SECONDS = 4 * 3600.0
"""For the first answers to all campaigns in use; none takes so long but one that never comes."""
OWN_WRITES = 3
"""Calls of a window that writes can count on, by default."""
OTHERS = "others"
"""The client whose calls bring what is never stored, and their reason."""


@dataclass(frozen=True, slots=True)
class Inside:
    """The gateway's inside, as `campaign_gateway.app` puts it together."""

    exchange: Exchange
    fetcher: WatchedFetcher
    index: CampaignIndex
    sweeper: Sweeper
    stated: Callable[[], StatedBounds]
    """The bounds that are published at this moment."""


def put_together(scenario: Scenario, upstream: Platform, truth: Truth, tasks: Tasks) -> Inside:
    """The one place that knows how the product's parts fit together."""
    policy, stream, meter, clock = scenario.policy, upstream.stream, CountingMeter(), StoreClock()
    account = stream.tenant.account
    store = WatchedStore(clock, meter, truth)
    index = LocalIndex(store.epoch, store.now)
    allowance = Allowance(
        calls=CALLS, window=WINDOW, leave=LEAVE, timeout=TIMEOUT, reserve=RESERVE, lanes={Lane.WRITES: OWN_WRITES}
    )
    loop = asyncio.get_running_loop()
    limited = CallBudget(lambda _: allowance, MemoryLedgers(clock), meter, tasks, clock=loop.time)
    budget: Budget = limited if policy.is_limited else NoBudget()
    fetcher = WatchedFetcher(upstream, budget, store, meter)
    exchange = Exchange(
        store=store,
        index=index,
        fetcher=fetcher,
        flights=Flights(tasks),
        rules=policy.freshness,
        meter=meter,
        timeouts=Timeouts(TIMEOUT),
        writers=Writers(store.now, 0.0),
        is_polled=policy.share > 0,
    )

    def capacity() -> Capacity:
        indexed = limited.outlook(account)
        reserve = RESERVE if indexed.callers or indexed.is_contended else OWN_WRITES
        return Capacity(
            indexed.capacity,
            WINDOW,
            reserve,
            policy.share,
            indexed.callers,
            free=indexed.free,
            falls=indexed.falls,
            is_contended=indexed.is_contended,
        )

    config = SweepConfig(policy.share, None, capacity)
    sweeper = Sweeper(
        stream=stream,
        index=index,
        store=store,
        fetcher=fetcher,
        refresh=exchange.read_again,
        config=config,
        tasks=tasks,
        meter=meter,
    )

    def stated() -> StatedBounds:
        return stated_bounds(index, store, LIFETIMES.max, stream.identity)

    return Inside(exchange, fetcher, index, sweeper, stated)


class Complaints(logging.Handler):
    """Whatever is logged as an error: a task of the gateway or of a caller that failed would be missed otherwise."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


class Simulation:
    """One scenario under way."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._tasks = Tasks()
        self._truth = Truth()
        self._platform = Platform(scenario)
        self.inside = put_together(scenario, self._platform, self._truth, self._tasks)
        self._ids = [campaign.id for campaign in self._platform.campaigns.all()]
        self._used = self._source("used").sample(self._ids, scenario.used)
        weights = [(rank + 1) ** -scenario.zipf for rank in range(scenario.used)]
        reads_a_second = scenario.used / READ_SECONDS
        distances = {
            campaign: sum(weights) / weight / reads_a_second
            for campaign, weight in zip(self._used, weights, strict=True)
        }
        stream, truth = self._platform.stream, self._truth
        self._callers = Callers(self.inside.exchange, stream, truth, distances, self._source("callers"), self._tasks)
        self.result = Result()

    def _source(self, purpose: str) -> Random:
        """A source of randomness that nothing else draws from."""
        return Random(f"{purpose} {self._scenario.seed}")

    async def run(self) -> Result:
        """What was seen, when all of it has been."""
        scenario, result = self._scenario, self.result
        self._tasks.supervise(self.inside.sweeper.run, name="sweep")
        self._tasks.spawn(self._edit(), name="edits")
        self._tasks.spawn(self._callers.run(), name="callers")
        self._tasks.spawn(self._watch_for_proof(), name="watch")
        if scenario.others:
            self._tasks.spawn(self._spend(), name=OTHERS)
        async with asyncio.timeout(WARM_UP_SECONDS):
            await self._callers.are_warm.wait()
        warm = result.warm_up = time.monotonic()
        result.most_pages = most_in_window(self._platform.pages, WINDOW)
        await self._measure(result.cold)
        await asyncio.sleep(max(0.0, warm + SETTLE_SECONDS - time.monotonic()))
        began = time.monotonic()
        await self._measure(result.steady)
        ended = time.monotonic()
        while time.monotonic() < ended + scenario.patience and not self._all_seen(began, ended):
            await asyncio.sleep(1.0)
        for phase, since in ((result.cold, warm), (result.steady, began)):
            self._note(phase, since, since + scenario.measured)
        result.most = most_in_window(self._platform.arrivals, WINDOW)
        await self._tasks.close()
        return result

    async def _edit(self) -> None:
        random = self._source("edits")
        while True:
            await asyncio.sleep(random.expovariate(self._scenario.edits))
            campaign = random.choice(self._ids)
            number = self._truth.edit(campaign)
            self._platform.campaigns.edit(campaign, {"description": f"edit {number}"})

    async def _spend(self) -> None:
        """Calls of other callers, for answers that nobody stores."""
        random, stream = self._source(OTHERS), self._platform.stream
        while True:
            await asyncio.sleep(random.expovariate(self._scenario.others / 60))
            ask = Request(stream, GET, random.choice(self._ids), OTHERS)
            self._tasks.spawn(self._spend_one(ask), name=OTHERS)

    async def _spend_one(self, ask: Request) -> None:
        await self.inside.fetcher.fetch(ask, Lane.INTERACTIVE, OTHERS, TIMEOUT / 2)

    async def _watch_for_proof(self) -> None:
        everything, identity = len(self._ids), self._platform.stream.identity
        while not (
            self.inside.stated().is_validating and len(self.inside.index.snapshot(identity).campaigns) >= everything
        ):
            await asyncio.sleep(1.0)
        self.result.validated = time.monotonic()

    async def _measure(self, phase: Phase) -> None:
        """Watches for as long as edits are measured: the bounds, each second, and callers' answers."""
        callers = self._callers
        reads, answers, outdated = Counter(callers.reads), callers.answers, callers.outdated
        end, proving, looks = time.monotonic() + self._scenario.measured, 0, 0
        while time.monotonic() < end:
            bounds = self.inside.stated()
            phase.bound = max(phase.bound, bounds.signal)
            proving += bounds.is_validating
            looks += 1
            await asyncio.sleep(1.0)
        phase.proving = proving / looks
        phase.reads = dict(callers.reads - reads)
        phase.outdated = (callers.outdated - outdated) / max(1, callers.answers - answers)

    def _all_seen(self, began: float, ended: float) -> bool:
        return all(seen is not None for _, seen in self._measured(began, ended))

    def _measured(self, began: float, ended: float) -> Sequence[tuple[float, float | None]]:
        """Each edit of a campaign in use in that time, and from when on it can be read."""
        rows: list[tuple[float, float | None]] = []
        for campaign in self._used:
            seen = self._truth.seen.get(campaign, [])
            for number, at in enumerate(self._truth.edited.get(campaign, ())):
                if began <= at < ended:
                    rows.append((at, seen[number] if number < len(seen) else None))
        return rows

    def _note(self, phase: Phase, began: float, ended: float) -> None:
        now, minutes = time.monotonic(), (ended - began) / 60
        for at, seen in self._measured(began, ended):
            if seen is None:
                phase.unseen.append(now - at)
            else:
                phase.delays.append(seen - at)
        spent = [call for call in self.inside.fetcher.spent if began <= call.at < ended]
        reasons = Counter(call.reason for call in spent)
        phase.calls = {reason: count / minutes for reason, count in sorted(reasons.items())}
        phase.in_vain = sum(call.is_vain and call.reason not in {"rotation", OTHERS} for call in spent) / minutes


def simulate(scenario: Scenario, probe: Callable[[Simulation], None] | None = None) -> Result:
    """Runs the scenario to its end.

    Raises:
        RuntimeError: something in it was logged as an error.
        TimeoutError: after `WARM_UP_SECONDS`, some campaign had still not been answered.
    """
    logging.disable(logging.WARNING)
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    began = time.process_time()
    names = Random(f"names {scenario.seed}")
    with virtual_time() as loop, patch("uuid.uuid4", lambda: uuid.UUID(int=names.getrandbits(128))):

        async def whole() -> Result:
            simulation = Simulation(scenario)
            result = await simulation.run()
            if probe is not None:
                probe(simulation)
            return result

        try:
            result = loop.run_until_complete(whole())
        finally:
            logging.getLogger().removeHandler(complaints)
            logging.disable(logging.NOTSET)
    if complaints.texts:
        raise RuntimeError(f"{len(complaints.texts)} errors were logged, the first one: {complaints.texts[0]}")
    result.elapsed = time.process_time() - began
    return result
