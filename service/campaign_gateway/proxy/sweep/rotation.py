"""Reads by id of one stream: at once what has moved, in turn whatever callers use."""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy import sweeping
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.pacing import Capacity, Pace
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot
from campaign_gateway.proxy.collapse import Landed
from campaign_gateway.proxy.ports import CampaignIndex, Store
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.sweep.config import CLIENT, lane
from campaign_gateway.proxy.sweep.disagreement import Disagreement
from campaign_gateway.proxy.tasks import Tasks

AGAIN_SECONDS = 1.0
"""How soon a read that got no call is tried again."""
MAX_READS = 8
"""Reads by id under way at once."""
LATE_SECONDS = 3.0
"""A read that has waited for so long stands in line with the callers who wait: some of them wait for it."""
MAX_LATE_READS = 2
"""So many do at once."""
BACKLOG = 16
"""From so many waiting reads on, they are spread evenly, and not made in the order of their changes."""
EVEN = 0.7
"""How far apart they are then, in parts of what is even: bursts of calls come back with every window."""
FAIR_TURN = 4
"""Of so many of them, one is for whoever has waited longest; the others for what callers ask for most."""
RATE_SECONDS = 120.0
"""Over which the rate of turns is averaged."""
EDGE_SECONDS = 2.0
"""After a moment named by a schedule: how long the platform is given to act on it."""
CHANGED_URGENCY = 0.1
"""The part of the rotation after which a campaign that has moved, and was not read since, has its turn."""
URGENCY = {"Preparing": 0.25, "Active": 0.5}
"""Parts of the rotation after which campaigns of these statuses are read again."""
OVERDUE_TURNS = 3.0
"""A turn that is so many turns late stands in line with the callers who wait."""


@dataclass(slots=True)
class _Due:
    at: float
    """From when on it is to be read."""
    since: float
    """When it was seen to have changed."""
    reason: str


class Rotation:
    """Makes one stream's reads by id while this replica leads."""

    def __init__(
        self,
        stream: Stream,
        index: CampaignIndex,
        store: Store,
        refresh: Callable[[Request, Lane, str], Awaitable[Landed]],
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
            disagreement: is told of what reads by id show.
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
        self._is_turning = False
        self.rate = 0.0
        """Turns a second of late; reads of what has moved make some of them needless."""
        self._noted_at = 0.0
        self._turn_due = 0.0
        """When the next turn fell due ..."""
        self._turn_at = 0.0
        """... and when it is tried."""
        self._next_read = 0.0
        self._taken = 0

    def reset(self) -> None:
        """Forgets what was to be read, when this replica has come to lead."""
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
            entry, indexed = (await self._store.get(self._ask(id_).key)).entry, self._indexed(id_)
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
            most = MAX_READS if free > 0 else MAX_LATE_READS if is_late and capacity.is_wanted else 0
            if len(self._reading) >= most or now < self._next_read:
                break
            paid_by = lane(is_overdue=free <= 0)
            due = self._due.pop(id_)
            free -= 1
            self._taken += 1
            if is_backlog:
                self._next_read = max(now - 1.0, self._next_read) + EVEN * capacity.window / max(1, capacity.calls)
            self._reading.add(id_)
            work = self._look_again(id_, paid_by, due.reason, due.since)
            self._tasks.spawn(work, name="read by id", on_end=partial(self._ended, id_))
        self._start_turn(pace, capacity, used, snapshot, now)
        return self._look_at(pace, capacity, now)

    def _look_at(self, pace: Pace, capacity: Capacity, now: float) -> float:
        """When there may be something to start, if nobody wakes the sweeper before."""
        next_place = max(self._next_read, now + (capacity.falls or (AGAIN_SECONDS,))[0])
        # One that waits for a call is looked at when the next place falls free.
        moments = [due.at if due.at > now else next_place for due in self._due.values()]
        if pace.rotation < math.inf and not self._is_turning:
            moments.append(self._turn_at)
        return min(moments, default=math.inf)

    def _in_order(self, ready: list[str], *, is_backlog: bool) -> list[str]:
        """Hints first, then who has been out of date for longest; where too many wait, mostly what is asked for."""
        oldest = sorted(ready, key=lambda id_: (self._due[id_].reason != "hint", self._due[id_].since))
        if not is_backlog:
            return oldest
        interest = self._index.interest(self._stream.identity)
        wanted = sorted(oldest, key=lambda id_: -interest.get(id_, 0.0))
        turns = range(min(MAX_READS, len(ready)))
        order = [(oldest if (self._taken + turn) % FAIR_TURN == 0 else wanted)[turn] for turn in turns]
        return list(dict.fromkeys(order))

    # Turns.

    def _start_turn(
        self, pace: Pace, capacity: Capacity, used: Mapping[str, float], snapshot: IndexSnapshot, now: float
    ) -> None:
        if self._is_turning or now < self._turn_at or len(self._reading) >= MAX_READS or pace.rotation == math.inf:
            return
        between = pace.rotation / max(1, len(used))
        is_overdue = capacity.is_wanted and self._turn_due > 0 and now - self._turn_due > OVERDUE_TURNS * between
        self._is_turning = True
        work = self._take_turn(pace, used, snapshot, between, lane(is_overdue=is_overdue))
        self._tasks.spawn(work, name="turn", on_end=self._turned)

    def _turned(self) -> None:
        self._is_turning = False
        self._wake()

    async def _take_turn(
        self, pace: Pace, used: Mapping[str, float], snapshot: IndexSnapshot, between: float, paid_by: Lane
    ) -> None:
        now = self._store.now()
        id_ = await self._whose_turn(pace, used, snapshot, now)
        has_read = True
        self._note_turn(now, between if id_ is not None else math.inf)
        if id_ is not None and id_ not in self._reading:
            self._reading.add(id_)
            try:
                has_read = await self._look_again(id_, paid_by, "rotation")
            finally:
                self._reading.discard(id_)
        if has_read:
            self._turn_due = self._turn_at = now + between
        else:
            # It stays due.
            self._turn_due, self._turn_at = self._turn_due or now, now + AGAIN_SECONDS

    def _note_turn(self, now: float, between: float) -> None:
        part = min(1.0, (now - self._noted_at) / RATE_SECONDS)
        self.rate += part * (1 / between - self.rate)
        self._noted_at = now

    async def _whose_turn(
        self, pace: Pace, used: Mapping[str, float], snapshot: IndexSnapshot, now: float
    ) -> str | None:
        """The campaign in use whose read by id is the most overdue, and was not made by somebody else meanwhile."""
        self._read = {id_: at for id_, at in self._read.items() if id_ in used}
        waiting = [id_ for id_ in used if id_ not in self._reading and id_ not in self._due]
        for id_ in sorted(waiting, key=lambda id_: self._turn(id_, pace, snapshot, now))[:MAX_READS]:
            if self._turn(id_, pace, snapshot, now) > now:
                return None
            found = await self._store.get(self._ask(id_).key)
            if found.entry is None or found.entry.validated_at <= self._read.get(id_, 0.0):
                return id_
            self._read[id_] = found.entry.validated_at
            if self._turn(id_, pace, snapshot, now) <= now:
                return id_
        return None

    def _turn(self, id_: str, pace: Pace, snapshot: IndexSnapshot, now: float) -> float:
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

    async def _look_again(self, id_: str, paid_by: Lane, reason: str, since: float = 0.0) -> bool:
        """Whether the campaign was read by id, by this or by somebody else meanwhile."""
        before = (await self._store.get(self._ask(id_).key)).entry
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
        landed = await self._refresh(self._ask(id_), paid_by, reason)
        now = self._store.now()
        if isinstance(landed, Failure):
            # No answer: not before the platform said. No call: soon again.
            told = min(landed.retry_after or 0.0, sweeping.SETTLE_SECONDS) if landed.was_forwarded else 0.0
            if reason != "rotation":
                self._due[id_] = _Due(now + max(AGAIN_SECONDS, told), since, reason)
            return landed.was_forwarded
        entry = landed.entry
        self._read[id_] = entry.validated_at
        # What polls have shown while it was read counts too.
        indexed = self._indexed(id_)
        if indexed is None:
            return True
        if entry.absence is None and not sweeping.is_listed_reliably(entry, indexed):
            # Begun before the change was seen; or perhaps still the old state: once more, when it has settled.
            settled = indexed.since + sweeping.SETTLE_SECONDS
            self._due[id_] = _Due(now if sweeping.is_superseded(entry, indexed) else settled, now, "moved")
        self._disagreement.note(id_, before, landed, indexed)
        return True

    def _indexed(self, id_: str) -> IndexedCampaign | None:
        return self._index.snapshot(self._stream.identity).campaigns.get(id_)

    def _ask(self, id_: str) -> Request:
        return Request(self._stream, GET, id_, CLIENT)
