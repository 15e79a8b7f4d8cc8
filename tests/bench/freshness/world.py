"""What stands around the gateway's inside: the simulated platform without a wire, and what is true in it and known."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from typing_extensions import override

from campaign_gateway.contract.answers import Response, Verdict
from campaign_gateway.contract.operations import GET, Call, Tenant
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.fetch import Fetched, Fetcher
from campaign_gateway.proxy.ports import Put
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.sandbox import campaign_calls
from campaign_gateway.sandbox import tenant as platform
from campaign_gateway.sandbox.operations import OperationName, match
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.memory import MemoryStore
from tests.bench.freshness.scenarios import CALLS, LATENCY, WINDOW, Scenario
from tests.support.doubles import LIMITED, CountedPermit
from tests.support.meters import CountingMeter


class Truth:
    """What the platform's campaigns say, and from when on callers can know."""

    def __init__(self) -> None:
        self.edited: dict[str, list[float]] = {}
        """When each edit of a campaign was made; the n-th one writes the number n."""
        self.seen: dict[str, list[float]] = {}
        """From when on reads are answered with it or something later."""

    def edit(self, campaign: str) -> int:
        """Notes one more edit; its number."""
        edited = self.edited.setdefault(campaign, [])
        edited.append(time.monotonic())
        return len(edited)

    def stored(self, campaign: str, number: int) -> None:
        seen = self.seen.setdefault(campaign, [])
        seen.extend([time.monotonic()] * (number - len(seen)))

    @staticmethod
    @lru_cache(100_000)
    def number_in(body: bytes) -> int:
        """Which edit of its campaign a body shows; 0 before the first."""
        said = json.loads(body)["data"]["description"]
        return int(said.removeprefix("edit ")) if said.startswith("edit ") else 0


class WatchedStore(MemoryStore):
    """The in-process store; the truth learns what can be read from it."""

    def __init__(self, clock: StoreClock, meter: CountingMeter, truth: Truth) -> None:
        super().__init__(2**28, clock, meter)
        self._truth = truth

    @override
    async def put(self, key: str, entry: Stored, fence: Hashable, keep: float) -> Put:
        outcome = await super().put(key, entry, fence, keep)
        if outcome is Put.STORED and entry.absence is None:
            self._truth.stored(key.rpartition(":")[2], Truth.number_in(entry.body))
        return outcome


@dataclass(frozen=True, slots=True)
class Spent:
    """One call that was answered."""

    at: float
    reason: str
    is_vain: bool
    """Whether it read by id what such a read had brought before."""


class WatchedFetcher(Fetcher):
    """Remembers what each call was for, and whether it brought anything."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.spent: list[Spent] = []
        self._brought: dict[str, int] = {}

    @override
    async def fetch(self, request: Request, lane: Lane, reason: str, *rest: Any, **others: Any) -> Fetched | Failure:
        fetched = await super().fetch(request, lane, reason, *rest, **others)
        if isinstance(fetched, Fetched):
            is_vain = False
            if request.operation.name == GET.name and fetched.answer.verdict is Verdict.OK:
                number = Truth.number_in(fetched.answer.response.body)
                is_vain = self._brought.get(request.id, -1) >= number
                self._brought[request.id] = max(number, self._brought.get(request.id, -1))
            self.spent.append(Spent(time.monotonic(), str(reason), is_vain))
        return fetched


class Platform:
    """Implements `Upstream` by the simulated platform's own operations and rate limit, without a wire between."""

    def __init__(self, scenario: Scenario) -> None:
        config = SandboxConfig(campaigns=scenario.campaigns, seed=scenario.seed, calls=CALLS, window_seconds=WINDOW)
        self._sandbox = Sandbox(config, now=time.time, monotonic=time.monotonic)
        self._tenant = self._sandbox.tenants[config.stream_id]
        self._limit = self._sandbox.limits[config.account_id] if scenario.policy.is_limited else None
        self._page_rows = scenario.page_rows
        self._latency = Random(f"latency {scenario.seed}")
        self.campaigns = self._sandbox.campaigns
        self.stream = Stream("support", Tenant(config.stream_id, config.account_id, config.stream_id), "main", "id")
        self.arrivals: list[float] = []
        self.pages: list[float] = []
        """When calls for other pages of a list than the first arrived."""

    async def send(self, _stream: Stream, call: Call, _leave_by: float, *, is_anew: bool = False) -> Response:
        half = self._latency.uniform(*LATENCY) / 2
        await asyncio.sleep(half)
        self.arrivals.append(time.monotonic())
        response = self._answer(call)
        await asyncio.sleep(half)
        return response

    def _answer(self, call: Call) -> Response:
        if self._limit is not None and not self._limit.arrive(time.time()).within:
            return LIMITED
        asked = match(call.method, call.target)
        if call.body is not None and json.loads(call.body).get("skip"):
            self.pages.append(time.monotonic())
        work = {OperationName.GET: campaign_calls.get, OperationName.LIST: campaign_calls.list_}[asked.name]
        answer = work(platform.Call(asked, call.body or b"", page_rows=self._page_rows), self._tenant)
        return Response(answer.status, answer.content_type, answer.body)

    def credential_version(self, _stream: Stream) -> int:
        return 1

    async def renew_credential(self, _stream: Stream, _version: int) -> bool:
        return False


class NoBudget:
    """Implements `Budget` as a general proxy does: there is none."""

    def refusal(self, _account: str, _lane: Lane, _client: str, _key: str, _wait: float) -> Failure | None:
        return None

    prospect = refusal

    @asynccontextmanager
    async def permit(
        self, _account: str, _lane: Lane, _client: str, _wait: float, _key: str = ""
    ) -> AsyncIterator[CountedPermit]:
        yield CountedPermit(float("inf"))

    async def pause(self, _account: str, _seconds: float | None) -> float:
        return 0.0
