"""Reads by id of one stream: at once what has changed, and in rotation whatever callers use.

What has changed goes out as soon as there is a call, what was hinted at first. Where many wait, they are spread evenly,
and mostly in the order of what callers ask for. One read in rotation at a time fills the rest.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from itertools import chain, islice
from operator import itemgetter

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy import sweeping
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.pacing import Capacity, Pace
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot
from campaign_gateway.proxy.flights import FillResult
from campaign_gateway.proxy.ports import CampaignIndex, Store
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.sweep.config import CLIENT, lane_of
from campaign_gateway.proxy.sweep.disagreement import Disagreement
from campaign_gateway.proxy.tasks import Tasks

RETRY_SECONDS = 1.0
"""How soon a read that got no call is tried again."""
MAX_READS = 8
"""Reads by id under way at once."""
AT_A_TIME = 1_000
"""Campaigns that are looked through before others have their turn."""
LATE_SECONDS = 3.0
"""A read that has waited for so long stands in line with the callers who wait: some of them wait for it."""
MAX_LATE_READS = 2
"""So many do at once."""
BACKLOG = 16
"""From so many waiting reads on, they are spread evenly, and not made in the order of their changes."""
EVEN = 0.7
"""How far apart they are then, in parts of what is even: bursts of calls come back with every window."""
FAIR_SHARE = 4
"""Of so many of them, one is for whoever has waited longest; the others for what callers ask for most."""
RATE_SECONDS = 120.0
"""Over which the rate of the rotation is averaged."""
EDGE_SECONDS = 2.0
"""After a moment named by a schedule: how long the platform is given to act on it."""
CHANGED_URGENCY = 0.1
"""The part of the rotation after which a campaign that has changed, and was not read since, is read again."""
URGENCY = {"Preparing": 0.25, "Active": 0.5}
"""Parts of the rotation after which campaigns of these statuses are read again."""
OVERDUE_INTERVALS = 3.0
"""A read in rotation that is so many intervals late stands in line with the callers who wait."""


@dataclass(slots=True)
class _Due:
    at: float
    """From when on it is to be read."""
    since: float
    """When it was seen to have changed."""
    reason: str


class Rotation:
    """Makes one stream's reads by id while this replica holds the lease."""

    def __init__(
        self,
        stream: Stream,
        index: CampaignIndex,
        store: Store,
        refresh: Callable[[Request, Lane, str], Awaitable[FillResult]],
        disagreement: Disagreement,
        tasks: Tasks,
        wake: Callable[[], None],
    ) -> None:
        """A rotation.

        Args:
            stream: whose campaigns.
            index: where its list is known.
            store: where entries and the clock are.
            refresh: reads one campaign by id, into the store.
            disagreement: receives what reads by id show.
            tasks: where reads run.
            wake: called when a read has ended.
        """
        self._stream = stream
        self._index = index
        self._store = store
        self._refresh = refresh
        self._disagreement = disagreement
        self._tasks = tasks
        self._wake = wake
        self._due: dict[str, _Due] = {}
        self._reading: set[str] = set()
        self._read: dict[str, float] = {}
        """When each campaign in use is known to have been read by id."""
        self._is_rotating = False
        self.rate = 0.0
        """Reads a second of late; reads of what has changed make some of them needless."""
        self._noted_at = 0.0
        self._rotation_due = 0.0
        """When the next read fell due ..."""
        self._rotation_at = 0.0
        """... and when it is tried."""
        self._next_read = 0.0
        self._taken = 0

    def reset(self) -> None:
        """Forgets what was to be read, when this replica has acquired the lease."""
        self._due.clear()
        self._read.clear()

    def enqueue(self, ids: Iterable[str], now: float, reason: str = "moved") -> None:
        """Has these campaigns read as soon as there is a call.

        Args:
            ids: whose.
            now: the time.
            reason: `moved`, or `hint`, which goes before.
        """
        for id_ in ids:
            if (due := self._due.get(id_)) is None or due.at > now:
                self._due[id_] = _Due(now, now, reason)

    async def compare(self, ids: Iterable[str]) -> None:
        """Has those read that the list shows for the first time, and in another state than what is stored of them."""
        for id_ in ids:
            entry, indexed = (await self._store.get(self._request(id_).key)).stored, self._indexed(id_)
            if entry is not None and indexed is not None and sweeping.is_superseded(entry, indexed):
                self.enqueue([id_], self._store.now())

    def waiting(self, now: float) -> int:
        """Reads that wait for a call."""
        return sum(1 for due in self._due.values() if due.at <= now)

    def start(
        self, pace: Pace, capacity: Capacity, used: Mapping[str, float], snapshot: IndexSnapshot, now: float
    ) -> float:
        """Starts the reads that there are calls for; when to look again."""
        for id_ in self._due.keys() - used.keys():
            del self._due[id_]
        ready = [id_ for id_, due in self._due.items() if due.at <= now and id_ not in self._reading]
        is_backlog = len(ready) > BACKLOG
        free = pace.spare(capacity) if is_backlog else capacity.free
        for id_ in self._in_order(ready, is_backlog=is_backlog):
            is_late = now - self._due[id_].since > LATE_SECONDS
            most = MAX_READS if free > 0 else MAX_LATE_READS if is_late and capacity.is_contended else 0
            if len(self._reading) >= most or now < self._next_read:
                break
            lane = lane_of(is_overdue=free <= 0)
            due = self._due.pop(id_)
            free -= 1
            self._taken += 1
            if is_backlog:
                self._next_read = max(now - 1.0, self._next_read) + EVEN * capacity.window / max(1, capacity.calls)
            self._reading.add(id_)
            work = self._look_again(id_, lane, due.reason, due.since)
            self._tasks.spawn(work, name="read by id", on_end=partial(self._ended, id_))
        self._start_next(pace, capacity, used, snapshot, now)
        return self._look_at(pace, capacity, now)

    def _look_at(self, pace: Pace, capacity: Capacity, now: float) -> float:
        """When there may be something to start, if nobody wakes the sweeper before."""
        next_slot = max(self._next_read, now + (capacity.falls or (RETRY_SECONDS,))[0])
        # One that waits for a call is looked at when the next slot falls free.
        moments = [due.at if due.at > now else next_slot for due in self._due.values()]
        if pace.rotation < math.inf and not self._is_rotating:
            moments.append(self._rotation_at)
        return min(moments, default=math.inf)

    def _in_order(self, ready: list[str], *, is_backlog: bool) -> list[str]:
        """Hints first, then who has been out of date for longest; where too many wait, mostly what is asked for."""

        def age(id_: str) -> tuple[bool, float]:
            return self._due[id_].reason != "hint", self._due[id_].since

        if not is_backlog:
            return sorted(ready, key=age)
        interest = self._index.interest(self._stream.identity)
        oldest = nsmallest(MAX_READS, ready, key=age)
        by_interest = nsmallest(MAX_READS, ready, key=lambda id_: (-interest.get(id_, 0.0), age(id_)))
        numbers = range(min(MAX_READS, len(ready)))
        order = [(oldest if (self._taken + number) % FAIR_SHARE == 0 else by_interest)[number] for number in numbers]
        return list(dict.fromkeys(order))

    # In rotation.

    def _start_next(
        self, pace: Pace, capacity: Capacity, used: Mapping[str, float], snapshot: IndexSnapshot, now: float
    ) -> None:
        if self._is_rotating or now < self._rotation_at or len(self._reading) >= MAX_READS or pace.rotation == math.inf:
            return
        between = pace.rotation / max(1, len(used))
        is_late = self._rotation_due > 0 and now - self._rotation_due > OVERDUE_INTERVALS * between
        self._is_rotating = True
        work = self._read_next(pace, used, snapshot, between, lane_of(is_overdue=is_late and capacity.is_contended))
        self._tasks.spawn(work, name="rotation", on_end=self._rotated)

    def _rotated(self) -> None:
        self._is_rotating = False
        self._wake()

    async def _read_next(
        self, pace: Pace, used: Mapping[str, float], snapshot: IndexSnapshot, between: float, lane: Lane
    ) -> None:
        now = self._store.now()
        id_ = await self._most_overdue(pace, used, snapshot, now)
        has_read = True
        self._note_rate(now, between if id_ is not None else math.inf)
        if id_ is not None and id_ not in self._reading:
            self._reading.add(id_)
            try:
                has_read = await self._look_again(id_, lane, "rotation")
            finally:
                self._reading.discard(id_)
        if has_read:
            self._rotation_due = self._rotation_at = now + between
        else:
            # It stays due.
            self._rotation_due, self._rotation_at = self._rotation_due or now, now + RETRY_SECONDS

    def _note_rate(self, now: float, between: float) -> None:
        part = min(1.0, (now - self._noted_at) / RATE_SECONDS)
        self.rate += part * (1 / between - self.rate)
        self._noted_at = now

    async def _most_overdue(
        self, pace: Pace, used: Mapping[str, float], snapshot: IndexSnapshot, now: float
    ) -> str | None:
        """The campaign in use that is the most overdue, and was not read by somebody else meanwhile."""
        self._read = {id_: at for id_, at in self._read.items() if id_ in used}
        first: list[tuple[float, str]] = []
        ids = iter(used)
        while part := list(islice(ids, AT_A_TIME)):
            waiting = [id_ for id_ in part if id_ not in self._reading and id_ not in self._due]
            rows = [(self._due_at(id_, pace, snapshot, now), id_) for id_ in waiting]
            first = nsmallest(MAX_READS, chain(first, rows), key=itemgetter(0))
            if len(part) == AT_A_TIME:
                await asyncio.sleep(0)
        for _, id_ in first:
            # As it is by now: others had their turn.
            if self._due_at(id_, pace, snapshot, now) > now:
                return None
            found = await self._store.get(self._request(id_).key)
            if found.stored is None or found.stored.validated_at <= self._read.get(id_, 0.0):
                return id_
            self._read[id_] = found.stored.validated_at
            if self._due_at(id_, pace, snapshot, now) <= now:
                return id_
        return None

    def _due_at(self, id_: str, pace: Pace, snapshot: IndexSnapshot, now: float) -> float:
        """When the campaign is to be read by id again."""
        read_at = self._read.get(id_, 0.0)
        indexed = snapshot.campaigns.get(id_)
        if indexed is None:
            return read_at + pace.rotation
        has_changed = indexed.has_changed and read_at < indexed.since
        urgency = CHANGED_URGENCY if has_changed else URGENCY.get(indexed.status or "", 1.0)
        edges = (edge + EDGE_SECONDS for edge in indexed.edges if read_at < edge + EDGE_SECONDS <= now)
        return min((read_at + pace.rotation * urgency, *edges))

    # One read.

    def _ended(self, id_: str) -> None:
        self._reading.discard(id_)
        self._wake()

    async def _look_again(self, id_: str, lane: Lane, reason: str, since: float = 0.0) -> bool:
        """Whether the campaign was read by id, by this or by somebody else meanwhile."""
        before = (await self._store.get(self._request(id_).key)).stored
        indexed = self._indexed(id_)
        if (
            reason == "moved"
            and before is not None
            and indexed is not None
            and sweeping.is_listed_reliably(before, indexed)
        ):
            # A caller's read was first.
            self._read[id_] = before.validated_at
            return True
        result = await self._refresh(self._request(id_), lane, reason)
        now = self._store.now()
        if isinstance(result, Failure):
            if reason != "rotation":
                self._due[id_] = _Due(now + _wait_after(result), since, reason)
            return result.was_forwarded
        entry = result.stored
        self._read[id_] = entry.validated_at
        # What polls have shown while it was read counts too.
        indexed = self._indexed(id_)
        if indexed is None:
            return True
        if entry.absence is None and not sweeping.is_listed_reliably(entry, indexed):
            # Begun before the change was seen; or perhaps still the old state: once more, when it has settled.
            settled = indexed.since + sweeping.SETTLE_SECONDS
            self._due[id_] = _Due(now if sweeping.is_superseded(entry, indexed) else settled, now, "moved")
        self._disagreement.note(id_, before, result, indexed)
        return True

    def _indexed(self, id_: str) -> IndexedCampaign | None:
        return self._index.snapshot(self._stream.identity).campaigns.get(id_)

    def _request(self, id_: str) -> Request:
        return Request(self._stream, GET, id_, CLIENT)


def _wait_after(failure: Failure) -> float:
    """Seconds until a read that failed is tried again. No answer: not before the platform said. No call: soon."""
    asked_for = failure.retry_after or 0.0 if failure.was_forwarded else 0.0
    return max(RETRY_SECONDS, min(asked_for, sweeping.SETTLE_SECONDS))
