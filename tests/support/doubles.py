"""Stand-ins for the story's ports: they answer from a script, count what they are asked, and wait at gates."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from typing_extensions import override

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.operations import GET, Call, Tenant
from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives
from campaign_gateway.policy.evidence import GOOD, Cause, Evidence
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import Copy, Found, Lease, Put, Refused, Tally, UpstreamError
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.memory import MemoryStore
from tests.support.meters import Counted, CountingMeter

_T = TypeVar("_T")

START = 1_770_000_000.0
"""2026-02-02T02:40:00Z"""
LONG_AGO = "2026-01-01T00:00:00.000Z"

SUPPORT = Stream("support", Tenant("st-1", "acc-1", "app-1"), "main", "identity-1")
SALES = Stream("sales", Tenant("st-2", "acc-2", "app-2"), "main", "identity-2")


class ManualClock(StoreClock):
    """Moves only when a test moves it."""

    def __init__(self, now: float = START) -> None:
        super().__init__()
        self.time = now
        self._stepped = 512.0

    @override
    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        """The machine's other clock."""
        return self.time - self._stepped

    def advance(self, seconds: float) -> None:
        self.time += seconds

    def step(self, seconds: float) -> None:
        """Sets it, and not the machine's other clock."""
        self.time += seconds
        self._stepped += seconds


class Machine:
    """The clocks of a machine, each of which a test may move."""

    def __init__(self) -> None:
        self.wall, self.monotonic, self.boot = START, 5000.0, "run-1"

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


Step = Response | UpstreamError | Exception | Callable[[Stream, Call], Response]


class ScriptedUpstream:
    """Implements `Upstream`: one step of the script for each call, the last one for all that follow.

    While `hold` is in force calls are counted, and then wait for `release`.
    """

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.calls: list[tuple[Stream, Call]] = []
        self.leave_bys: list[float] = []
        self.secret_version = 1
        self.newer_secrets = 0
        """How many times `renew_credential` finds another secret."""
        self.renewals: list[int] = []
        self._open = asyncio.Event()
        self._open.set()
        self._arrivals = asyncio.Condition()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def arrived(self, count: int = 1) -> None:
        """Returns once so many calls have come in all."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self.calls) >= count)

    async def send(self, stream: Stream, call: Call, leave_by: float, *, is_anew: bool = False) -> Response:
        step = self.script[min(len(self.calls), len(self.script) - 1)]
        self.calls.append((stream, call))
        self.leave_bys.append(leave_by)
        async with self._arrivals:
            self._arrivals.notify_all()
        await self._open.wait()
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Response) else step(stream, call)

    def credential_version(self, _stream: Stream) -> int:
        return self.secret_version

    async def renew_credential(self, _stream: Stream, version: int) -> bool:
        self.renewals.append(version)
        if self.newer_secrets:
            self.newer_secrets -= 1
            self.secret_version += 1
        return self.secret_version != version


class CountedPermit:
    def __init__(self, leave_by: float) -> None:
        self.leave_by = leave_by
        self.is_void = False

    def void(self) -> None:
        self.is_void = True


class ScriptedBudget:
    """Implements `Budget`: gives every permit, or refuses with the next of `refusals` until there are none left."""

    def __init__(self) -> None:
        self.refusals: list[Failure | None] = []
        self.refuse_all: Failure | None = None
        self.known_refusal: Failure | None = None
        """What is known before a permit is asked for."""
        self.asked: list[tuple[str, Lane, str, float]] = []
        """Account, lane, client, and seconds to wait."""
        self.permits: list[CountedPermit] = []
        self.open_permits = 0
        self.longest_pause = 300.0
        self.pauses: list[tuple[str, float | None, int]] = []
        """Account, seconds as the platform says, and how many permits were still held."""

    def refusal(self, _account: str, _lane: Lane, _client: str, _key: str, _wait: float) -> Failure | None:
        return self.known_refusal

    prospect = refusal

    @asynccontextmanager
    async def permit(
        self, account: str, lane: Lane, client: str, wait: float, _key: str = ""
    ) -> AsyncIterator[CountedPermit]:
        self.asked.append((account, lane, client, wait))
        refusal = self.refusals.pop(0) if self.refusals else self.refuse_all
        if refusal is not None:
            raise Refused(refusal)
        permit = CountedPermit(1000.0 + len(self.permits))
        self.permits.append(permit)
        self.open_permits += 1
        try:
            yield permit
        finally:
            self.open_permits -= 1

    async def pause(self, account: str, seconds: float | None) -> float:
        self.pauses.append((account, seconds, self.open_permits))
        return 60.0 if seconds is None else min(seconds, self.longest_pause)


class GatedStore(MemoryStore):
    """The real in-process store, whose `put` can be held; it remembers what became of each."""

    def __init__(self, clock: StoreClock, meter: CountingMeter) -> None:
        super().__init__(2**24, clock, meter)
        self.puts: list[Put] = []
        self.waiting_puts = 0
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    @override
    async def put(self, key: str, entry: Stored, fence: Hashable, keep: float) -> Put:
        self.waiting_puts += 1
        await self._open.wait()
        self.waiting_puts -= 1
        outcome = await super().put(key, entry, fence, keep)
        self.puts.append(outcome)
        return outcome


class FleetStore(GatedStore):
    """The store of a replica among others, which do what the test says.

    What stands in the memory is what all share; `copies` are this replica's own. Nobody tells it when they are out of
    date.
    """

    def __init__(self, clock: StoreClock, meter: CountingMeter) -> None:
        super().__init__(clock, meter)
        self.copies: dict[str, Stored] = {}
        self.is_leased_elsewhere = False
        self.trips: list[str] = []
        """What the other replicas would notice, in order."""
        self.followed: list[float] = []
        self._said = asyncio.Event()

    async def others_store(self, key: str, entry: Stored) -> None:
        """Another replica's fill is stored, and its leader still there."""
        found = self._look(key)
        assert await MemoryStore.put(self, key, entry, found.fence, 3600) is Put.STORED

    def others_release(self) -> None:
        """The other leader is gone: it left, or it died and its lease ended."""
        self.is_leased_elsewhere = False
        self.wake()

    def wake(self) -> None:
        """Something was said about the key that is followed."""
        self._said.set()

    @override
    def peek(self, key: str) -> Copy:
        return Copy(self.copies.get(key), GOOD, None, 0.0, may_answer=True)

    @override
    def shows(self, key: str, stored: Stored, evidence: Evidence) -> bool:
        return self.copies.get(key) is stored and evidence is GOOD

    @override
    async def get(self, key: str, copy: Copy | None = None, raw: object = None) -> Found:
        self.trips.append("get")
        found = self._look(key)
        self._copy(key, found.stored)
        return found

    @override
    async def acquire_lease(self, key: str, found: Found | None = None) -> Lease:
        self.trips.append("acquire")
        return Lease(not self.is_leased_elsewhere, self._look(key))

    @override
    async def put(self, key: str, entry: Stored, fence: Hashable, keep: float) -> Put:
        outcome = await super().put(key, entry, fence, keep)
        if outcome is Put.STORED:
            self._copy(key, entry)
        self.trips.append("put")
        return outcome

    @override
    async def invalidate_many(self, keys: Collection[str], by: Cause) -> bool:
        for key in keys:
            self._copy(key, None)
        return await super().invalidate_many(keys, by)

    @override
    async def release_lease(self, key: str, fence: Hashable) -> None:
        self.trips.append("release")

    @override
    async def wait_for_lease(self, key: str, seconds: float) -> None:
        self.trips.append("wait")
        self.followed.append(seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._said.wait()
        except TimeoutError:
            return
        self._said.clear()

    def _look(self, key: str) -> Found:
        shared = MemoryStore.peek(self, key)
        return Found(shared.stored, shared.evidence, shared.fence, shared.written_at)

    def _copy(self, key: str, entry: Stored | None) -> None:
        self.epoch.end()
        if entry is None:
            self.copies.pop(key, None)
        else:
            self.copies[key] = entry


class LostStore:
    """Implements `Store` as one that cannot be reached: it holds nothing and keeps nothing."""

    def __init__(self, clock: StoreClock) -> None:
        self.epoch = Epoch()
        self.is_subscribed = False
        self.local_hits: Tally = Counted(Counter())
        self.now = clock.now

    def peek(self, _key: str) -> Copy:
        return Copy(None, GOOD, None, 0.0, may_answer=False)

    def shows(self, _key: str, stored: Stored, evidence: Evidence) -> bool:
        return False

    def holds(self, _key: str) -> bool | None:
        return None

    async def get(self, _key: str, copy: Copy | None = None, raw: object = None) -> Found:
        return Found(None, GOOD, None)

    async def acquire_lease(self, key: str, _found: Found | None = None) -> Lease:
        return Lease(is_mine=True, found=await self.get(key))

    async def release_lease(self, _key: str, _fence: Hashable) -> None:
        return

    async def wait_for_lease(self, _key: str, _seconds: float) -> None:
        return

    async def put(self, _key: str, _entry: Stored, _fence: Hashable, _keep: float) -> Put:
        return Put.FAILED

    async def invalidate(self, _key: str, _by: Cause) -> bool:
        return True

    async def invalidate_many(self, _keys: Collection[str], _by: Cause) -> bool:
        return True

    def invalidated_at(self, _key: str) -> float:
        return 0.0

    async def publish_write(self, _writer: str) -> bool:
        return True

    async def publish_hint(self, _stream: str, _campaigns: Sequence[str]) -> bool:
        return False


def make_request(
    campaign: str = "c-1", *, stream: Stream = SUPPORT, directives: RequestDirectives = NO_DIRECTIVES
) -> Request:
    return Request(stream, GET, campaign, "tests", directives)


def json_response(document: Any, status: int = 200, **fields: Any) -> Response:
    return Response(status, "application/json; charset=utf-8", json.dumps(document).encode(), **fields)


def campaign_response(campaign: str = "c-1", **fields: Any) -> Response:
    """A good answer about a campaign, changed long enough ago to be fresh for the longest time."""
    data = {"_id": campaign, "name": "Tide", "status": "Ready", "updatedAt": LONG_AGO, **fields}
    return json_response({"status": "success", "data": data})


def name_in(body: bytes) -> str:
    """The name that such an answer shows."""
    return body.decode().partition('"name": "')[2].partition('"')[0]


def error_response(status: int, message: str, **fields: Any) -> Response:
    return json_response({"errors": [{"msg": message, "code": status}]}, status, **fields)


NOT_FOUND = error_response(400, "Campaign not found")
UNAUTHORIZED = error_response(401, "error verifying the jwt: jwt expired")
LIMITED = error_response(429, "You've exceeded the per-minute rate limit.")


def begun(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """The work, going on beside the test."""
    return asyncio.create_task(work)  # noqa: TID251


async def finished(tasks: Tasks) -> None:
    """Returns once no background task runs."""
    while tasks._running:
        await asyncio.wait(tasks._running)


async def turns(count: int = 20) -> None:
    """Lets everything that can go on without time passing go on."""
    for _ in range(count):
        await asyncio.sleep(0)
