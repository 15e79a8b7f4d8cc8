"""The gateway's inside on virtual time, in front of the simulated platform, with edits and callers at stated rates.

Real: exchange, sweeper, board, budget and its ledger, fetcher, store, and the simulated platform's own campaigns, lists
and rate limit. Left out: sockets, signing and Redis, which `live` has. A change counts as seen from the moment on which
a caller's read is answered with it, which is when the answer that holds it is in the store; each caller checks that.
"""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from typing_extensions import override

from service.contract.answers import Response
from service.contract.operations import GET, Call, Tenant
from service.policy.entry import Entry
from service.policy.freshness import Freshness, StatusRule
from service.policy.ledger import Allowance, Lane
from service.policy.pacing import Supply
from service.proxy.ask import Ask, Stream
from service.proxy.bounds import stated_bounds
from service.proxy.collapse import Flights
from service.proxy.exchange import Exchange, Patience
from service.proxy.fetch import Fetcher
from service.proxy.ports import Budget, Put
from service.proxy.sweep import Sweeper, Terms
from service.proxy.tasks import Tasks
from service.proxy.versions import Versions
from service.sandbox import campaign_calls
from service.sandbox import tenant as platform
from service.sandbox.journal import most_in_window
from service.sandbox.operations import OperationName, match
from service.sandbox.platform import Sandbox, SandboxConfig
from service.store.alone import MemoryBoard, MemoryLedgers
from service.store.clock import StoreClock
from service.store.memory import MemoryStore
from service.upstream.budget import CallBudget
from tests.support.doubles import LIMITED, CountedPermit
from tests.support.meters import CountingMeter
from tests.support.virtual_time import virtual_time

CALLS, WINDOW, RESERVE, SHARE, LAG = 60, 60.0, 5, 0.5, 10.0
"""The budget, and the settings' defaults for the rest."""
TIMEOUT, LEAVE = 10.0, 3.0
LATENCY = (0.05, 0.15)
"""Seconds of one call, evenly spread."""
READ_SECONDS = 5.0
"""Between two reads of the same campaign by its callers."""
SETTLE_SECONDS = 900.0
"""From the moment when every campaign in use has been answered once to the first edit that is measured."""
LIFETIMES = Freshness(status={"Active": StatusRule(max=15.0), "Preparing": StatusRule(max=5.0)})
MINUTE = Freshness(factor=0.0, min=60.0, max=60.0, default=60.0, stale_while_revalidate=0.0)


@dataclass(frozen=True, slots=True)
class Policy:
    """How stored answers are kept true."""

    name: str
    freshness: Freshness
    share: float
    """The part of the budget for rounds of the list."""
    is_limited: bool = True
    """Whether there is a budget, and a platform that insists on it."""


SWEEP = Policy("sweep", LIFETIMES, SHARE)
BY_ID = Policy("lifetimes", LIFETIMES, 0.0)
FIXED = Policy("fixed", MINUTE, 0.0, is_limited=False)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table."""

    campaigns: int
    used: int
    """Campaigns that callers read, every `READ_SECONDS` each."""
    edits: float
    """Edits a second, of any of the campaigns."""
    policy: Policy
    measured: float = 1200.0
    """Seconds in which edits are measured; these are then waited for ..."""
    patience: float = 3600.0
    """... for so many seconds at most."""
    seed: int = 1


@dataclass(slots=True)
class Result:
    """What was seen. Times are seconds of the simulation."""

    warm_up: float = 0.0
    """From the start, with nothing stored, until each campaign in use had been answered once."""
    delays: list[float] = field(default_factory=list)
    """From each measured edit of a campaign in use to the moment on which reads are answered with it."""
    unseen: list[float] = field(default_factory=list)
    """For those that were never seen: how long that was waited for."""
    most: int = 0
    """Calls in the fullest window of the whole run."""
    calls: Mapping[str, float] = field(default_factory=dict)
    """Calls a minute while edits were measured, by purpose."""
    signal: float = 0.0
    """The widest bound that was published meanwhile."""
    reads: Mapping[str, int] = field(default_factory=dict)
    """Callers' reads meanwhile, by what the cache did."""
    elapsed: float = 0.0
    """What the simulation took, in real seconds."""


class Truth:
    """What the platform's campaigns say, and from when on callers can know."""

    def __init__(self) -> None:
        self.edited: dict[str, list[float]] = {}
        """When each edit of a campaign was made; the n-th one writes the number n."""
        self.seen: dict[str, list[float]] = {}
        """From when on reads are answered with it or something later."""

    def stored(self, campaign: str, number: int) -> None:
        seen = self.seen.setdefault(campaign, [])
        seen.extend([time.monotonic()] * (number - len(seen)))

    @staticmethod
    @lru_cache(100_000)
    def number_in(body: bytes) -> int:
        said = json.loads(body)["data"]["description"]
        return int(said.removeprefix("edit ")) if said.startswith("edit ") else 0


class WatchedStore(MemoryStore):
    """The in-process store; the truth hears what can be read from it."""

    def __init__(self, clock: StoreClock, meter: CountingMeter, truth: Truth) -> None:
        super().__init__(2**28, clock, meter)
        self._truth = truth

    @override
    async def put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        outcome = await super().put(key, entry, fence, keep)
        if outcome is Put.STORED and entry.absence is None:
            self._truth.stored(key.rpartition(":")[2], Truth.number_in(entry.body))
        return outcome


class Platform:
    """Implements `Upstream` by the simulated platform's own operations and rate limit, without a wire between."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        config = SandboxConfig(campaigns=scenario.campaigns, seed=scenario.seed, calls=CALLS, window_seconds=WINDOW)
        self._sandbox = Sandbox(config, now=time.time, monotonic=time.monotonic)
        self._tenant = self._sandbox.tenants[config.stream_id]
        self._limit = self._sandbox.limits[config.account_id] if scenario.policy.is_limited else None
        self._random = random
        self.campaigns = self._sandbox.campaigns
        self.stream = Stream("support", Tenant(config.stream_id, config.account_id, config.stream_id), "main", "id")
        self.arrivals: list[float] = []

    async def send(self, _stream: Stream, call: Call, _leave_by: float) -> Response:
        half = self._random.uniform(*LATENCY) / 2
        await asyncio.sleep(half)
        self.arrivals.append(time.monotonic())
        response = self._answer(call)
        await asyncio.sleep(half)
        return response

    def _answer(self, call: Call) -> Response:
        if self._limit is not None and not self._limit.arrive(time.time()).within:
            return LIMITED
        asked = match(call.method, call.target)
        work = {OperationName.GET: campaign_calls.get, OperationName.LIST: campaign_calls.list_}[asked.name]
        answer = work(platform.Call(asked, call.body or b""), self._tenant)
        return Response(answer.status, answer.content_type, answer.body)

    def credential_version(self, _stream: Stream) -> int:
        return 1

    async def renew_credential(self, _stream: Stream, _version: int) -> bool:
        return False


class NoBudget:
    """Implements `Budget` as a general proxy does: there is none."""

    def refusal(self, _account: str, _lane: Lane, _client: str, _key: str, _wait: float) -> None:
        return None

    @asynccontextmanager
    async def permit(
        self, _account: str, _lane: Lane, _client: str, _wait: float, _key: str = ""
    ) -> AsyncIterator[CountedPermit]:
        yield CountedPermit(float("inf"))

    async def pause(self, _account: str, _seconds: float | None) -> float:
        return 0.0


class PurposeMeter(CountingMeter):
    """Remembers what each call was for."""

    def __init__(self) -> None:
        super().__init__()
        self.purposes: list[tuple[float, str]] = []

    @override
    def upstream_call(self, stream: str, operation: str, reason: str, outcome: str, seconds: float) -> None:
        self.purposes.append((time.monotonic(), str(reason)))


class Simulation:
    """One scenario under way."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = random = Random(scenario.seed)
        self._tasks = Tasks()
        self.truth = Truth()
        self.result = Result()
        self._platform = Platform(scenario, random)
        self._meter = meter = PurposeMeter()
        self._store = WatchedStore(StoreClock(), meter, self.truth)
        self._board = MemoryBoard(self._store.epoch)
        self._budget = self._open_budget()
        policy, stream = scenario.policy, self._platform.stream
        fetcher = Fetcher(self._platform, self._budget, self._store, meter)
        self._exchange = Exchange(
            self._store,
            self._board,
            fetcher,
            Flights(self._tasks),
            policy.freshness,
            meter,
            Patience(TIMEOUT),
            Versions(self._store.now, 0.0),
            has_rounds=policy.share > 0,
        )
        terms = Terms(policy.share, LAG, self._supply)
        self.sweeper = Sweeper(
            stream, self._board, self._store, fetcher, self._exchange.read_again, terms, self._tasks, meter
        )
        self._ids = [campaign.id for campaign in self._platform.campaigns.all()]
        self._used = random.sample(self._ids, scenario.used)
        self._unanswered = set(self._used)
        self._is_warm = asyncio.Event()
        self._reads: Counter[str] = Counter()

    def _open_budget(self) -> Budget:
        if not self._scenario.policy.is_limited:
            return NoBudget()
        allowance = Allowance(calls=CALLS, window=WINDOW, leave=LEAVE, timeout=TIMEOUT, reserve=RESERVE)
        loop = asyncio.get_running_loop()
        return CallBudget(lambda _: allowance, MemoryLedgers(StoreClock()), self._meter, self._tasks, clock=loop.time)

    def _supply(self) -> Supply:
        account = self._platform.stream.tenant.account
        assert isinstance(self._budget, CallBudget)
        known = self._budget.outlook(account)
        return Supply(known.capacity, WINDOW, RESERVE, self._scenario.policy.share, known.callers)

    async def run(self) -> Result:
        scenario, result = self._scenario, self.result
        self._tasks.spawn(self.sweeper.run(), name="sweep")
        self._tasks.spawn(self._edit(), name="edit")
        for campaign in self._used:
            self._tasks.spawn(self._call(campaign), name="caller")
        await self._is_warm.wait()
        result.warm_up = time.monotonic()
        await asyncio.sleep(SETTLE_SECONDS)
        began = time.monotonic()
        self._reads.clear()
        self._tasks.spawn(self._watch(), name="watch")
        await asyncio.sleep(scenario.measured)
        ended = time.monotonic()
        result.reads = dict(self._reads)
        signal = result.signal
        while time.monotonic() < ended + scenario.patience and not self._all_seen(began, ended):
            await asyncio.sleep(1.0)
        result.signal = signal
        self._note(began, ended)
        await self._tasks.close()
        return result

    async def _edit(self) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(self._scenario.edits))
            campaign = self._random.choice(self._ids)
            edited = self.truth.edited.setdefault(campaign, [])
            edited.append(time.monotonic())
            self._platform.campaigns.edit(campaign, {"description": f"edit {len(edited)}"})

    async def _call(self, campaign: str) -> None:
        ask = Ask(self._platform.stream, GET, campaign, "callers")
        await asyncio.sleep(self._random.uniform(0, READ_SECONDS))
        while True:
            seen = len(self.truth.seen.get(campaign, ()))
            reply = await self._exchange.read(ask)
            self._reads[reply.outcome.cache] += 1
            wait = READ_SECONDS
            if reply.entry is not None:
                assert Truth.number_in(reply.entry.body) >= seen, "a read was answered with less than was stored"
                self._unanswered.discard(campaign)
                if not self._unanswered:
                    self._is_warm.set()
            elif reply.failure is not None and reply.failure.retry_after is not None:
                wait = max(wait, reply.failure.retry_after)
            await asyncio.sleep(wait)

    async def _watch(self) -> None:
        while True:
            bounds = stated_bounds(self._board, self._store, LAG, LIFETIMES.max, self._platform.stream.identity)
            self.result.signal = max(self.result.signal, bounds.signal)
            await asyncio.sleep(1.0)

    def _all_seen(self, began: float, ended: float) -> bool:
        return all(seen is not None for _, seen in self._measured(began, ended))

    def _measured(self, began: float, ended: float) -> list[tuple[float, float | None]]:
        """Each edit of a campaign in use in that time, and from when on it can be read."""
        rows: list[tuple[float, float | None]] = []
        for campaign in self._used:
            seen = self.truth.seen.get(campaign, [])
            for number, at in enumerate(self.truth.edited.get(campaign, ())):
                if began <= at < ended:
                    rows.append((at, seen[number] if number < len(seen) else None))
        return rows

    def _note(self, began: float, ended: float) -> None:
        result, now = self.result, time.monotonic()
        for at, seen in self._measured(began, ended):
            if seen is None:
                result.unseen.append(now - at)
            else:
                result.delays.append(seen - at)
        result.most = most_in_window(self._platform.arrivals, WINDOW)
        minutes = (ended - began) / 60
        purposes = Counter(reason for at, reason in self._meter.purposes if began <= at < ended)
        result.calls = {reason: count / minutes for reason, count in sorted(purposes.items())}


def simulate(scenario: Scenario, probe: Callable[[Simulation], None] | None = None) -> Result:
    """Runs the scenario to its end."""
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    with virtual_time() as loop:

        async def whole() -> Result:
            simulation = Simulation(scenario)
            result = await simulation.run()
            if probe is not None:
                probe(simulation)
            return result

        result = loop.run_until_complete(whole())
    result.elapsed = time.perf_counter() - began
    return result
