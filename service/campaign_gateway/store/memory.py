"""Entries in this process: a dictionary bounded in bytes that forgets the least recently used."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from typing_extensions import override

from campaign_gateway.policy.evidence import GOOD, Cause, CopyState, Evidence
from campaign_gateway.policy.stored import Stored, is_from_the_future
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import Copy, Found, Lease, Meter, Put, Store
from campaign_gateway.proxy.request import EVERY, group_of
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.fences import FENCE_SECONDS, GroupFence

ENTRY_OVERHEAD_BYTES = 1_800
"""What an entry takes beside its body: objects, key, table slots (620, `tests.bench.memory`, CPython 3.11), and the hit
that is rendered of it, whether somebody has asked for it or not."""
ABSENCE_OVERHEAD_BYTES = 838
"""What the knowledge that there is no such thing takes beside its message."""
AT_A_TIME = 100
"""Keys that are invalidated before others have their turn."""
MAX_FENCES = 50_000
"""Keys whose last invalidation is remembered, some 20 MB. Beyond them nothing is known of any copy: that is a gap."""


class _Fence(NamedTuple):
    """The last time that a key's fence was raised, in seconds, and its last invalidations."""

    number: int = 0
    raised_at: float = 0.0
    invalidated_at: float = 0.0
    written_at: float = 0.0


@dataclass(slots=True)
class _Group:
    fence: GroupFence


@dataclass(frozen=True, slots=True)
class _LocalCopy:
    stored: Stored
    evidence: Evidence
    """What was known when it was put, and its own key's invalidations since."""
    seconds: float
    group: _Group
    number: int
    """That of the last fence when it was put: whatever has a higher one came later."""

    @property
    def cost(self) -> int:
        return _cost(self.stored)

    def shown(self) -> Evidence:
        """All that is known of it at this moment, but for gaps."""
        fence = self.group.fence
        if fence.number <= self.number:
            return self.evidence
        return fence.evidence(self.stored, self.evidence, self.number)


class LocalEntry(NamedTuple):
    """An entry as it is shown at this moment."""

    key: str
    stored: Stored
    evidence: Evidence
    seconds: float
    """How long it is kept."""


class Invalidated(NamedTuple):
    """One invalidation."""

    key: str
    """An entry's, or that of all answers to an operation of a stream."""
    by: Cause
    at: float


def _cost(stored: Stored) -> int:
    if stored.absence is None:
        return len(stored.body) + ENTRY_OVERHEAD_BYTES
    return len(stored.absence.message or "") + ABSENCE_OVERHEAD_BYTES


class MemoryStore(Store):
    """The entries of one process. No call ever waits for anything; one of many keys lets others have their turn."""

    def __init__(self, max_bytes: int, clock: StoreClock, meter: Meter) -> None:
        self._max_bytes = max_bytes
        self.now = clock.now
        self._meter = meter
        self.local_hits = meter.store_operations("memory", "get", "hit")
        self._evicted = meter.store_operations("memory", "evict", "ok")
        self._copies: OrderedDict[str, _LocalCopy] = OrderedDict()
        self._bytes = 0
        self._fences: dict[str, _Fence] = {}
        self._groups: dict[str, _Group] = {}
        self._last_fence = 0
        self._gap = 0
        """The number of the last gap: what was put before it is unverified."""
        self._gap_at = 0.0
        self.epoch = Epoch()
        self.changes = 0
        """Rises with each entry that is put, and each invalidation."""
        self.on_invalidated: Callable[[Invalidated], None] | None = None
        """Called with each invalidation, before `invalidate` returns."""
        self.on_dropped: Callable[[str | None], None] = lambda _: None
        """Called with the key of each entry that is no longer kept, None for all: what was made of it goes with it."""

    @property
    @override
    def is_subscribed(self) -> bool:
        """There is nobody else."""
        return True

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def bytes_used(self) -> int:
        """What the entries take, as counted."""
        return self._bytes

    @override
    def peek(self, key: str) -> Copy:
        copy = self._copies.get(key)
        own = self._fences.get(key, _NO_FENCE)
        if copy is not None and self.now() - copy.stored.validated_at > copy.seconds:
            self._drop(key)
            copy = None
        group = self._group(key) if copy is None else copy.group
        fence = self._gap, own.number, group.fence.number
        written_at = max(own.written_at, group.fence.written_at)
        if copy is None:
            return Copy(None, GOOD, fence, written_at, may_answer=True)
        self._copies.move_to_end(key)
        if copy.number < self._gap:
            return Copy(copy.stored, copy.shown().unverified(self._gap_at), fence, written_at, may_answer=False)
        return Copy(copy.stored, copy.shown(), fence, written_at, may_answer=True)

    @override
    def shows(self, key: str, stored: Stored, evidence: Evidence) -> bool:
        copy = self._copies.get(key)
        if copy is None or copy.stored is not stored or copy.number < self._gap or copy.shown() is not evidence:
            return False
        if self.now() - stored.validated_at > copy.seconds:
            return False
        self._copies.move_to_end(key)
        return True

    @override
    def holds(self, key: str) -> bool | None:
        """An unverified copy is something."""
        return key in self._copies

    @override
    async def get(self, key: str, copy: Copy | None = None, raw: object = None) -> Found:
        """An unverified copy comes as what it is."""
        near = self.look(key, copy)
        return Found(near.stored, near.evidence, near.fence, near.written_at)

    def look(self, key: str, copy: Copy | None = None) -> Copy:
        """What `peek` shows, which is not asked twice; counted as one look-up."""
        near = copy or self.peek(key)
        self._meter.store_operation("memory", "get", "miss" if near.stored is None else "hit")
        return near

    def has_room_for(self, stored: Stored) -> bool:
        """Whether the answer would be kept, if there were no other."""
        return _cost(stored) <= self._max_bytes

    @override
    async def acquire_lease(self, key: str, found: Found | None = None) -> Lease:
        """There is nobody else."""
        copy = self.peek(key)
        return Lease(is_mine=True, found=Found(copy.stored, copy.evidence, copy.fence, copy.written_at))

    @override
    async def release_lease(self, key: str, fence: Hashable) -> None:
        """Nobody waits for it."""

    @override
    async def wait_for_lease(self, key: str, seconds: float) -> None:
        """There is never another leader."""

    @override
    async def put(self, key: str, stored: Stored, fence: Hashable, keep: float) -> Put:
        """An entry larger than the whole room is not kept, which no later `get` can tell from eviction."""
        return self.keep(key, stored, GOOD, fence, keep)

    def keep(self, key: str, stored: Stored, evidence: Evidence, fence: Hashable, seconds: float) -> Put:
        """As `put`, of an answer of which something is known already."""
        outcome = self._put(key, stored, evidence, fence, seconds)
        self._meter.store_operation("memory", "put", outcome.value)
        return outcome

    def _put(self, key: str, stored: Stored, evidence: Evidence, fence: Hashable, keep: float) -> Put:
        if fence != self._fence(key):
            return Put.FENCED
        last = self._copies.get(key)
        is_believed = last is not None and not is_from_the_future(last.stored.validated_at, self.now())
        if last is not None and is_believed and last.number >= self._gap and not _is_newer(stored, evidence, last):
            return Put.OLDER
        self._drop(key)
        group = self._group(key)
        evidence = evidence.settling(stored, self._written_at(key))
        copy = _LocalCopy(stored, evidence, keep, group, self._last_fence)
        if copy.cost > self._max_bytes:
            return Put.STORED
        self._copies[key] = copy
        self.changes += 1
        self.epoch.end()
        self._bytes += copy.cost
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._copies)))
            self._evicted.value += 1
        return Put.STORED

    @override
    async def invalidate_many(self, keys: Collection[str], by: Cause) -> bool:
        for count, key in enumerate(keys, 1):
            self.invalidate_here(key, by)
            self._meter.store_operation("memory", "invalidate", "stored")
            if count % AT_A_TIME == 0:
                await asyncio.sleep(0)
        return True

    def invalidate_here(self, key: str, by: Cause, at: float | None = None) -> None:
        """Does what `invalidate` says, at once; or what it did at an earlier moment, to what is here already."""
        now = self.now() if at is None else at
        self.changes += 1
        if self.on_invalidated is not None:
            self.on_invalidated(Invalidated(key, by, now))
        if key.endswith(EVERY):
            self._last_fence += 1
            group = self._group(key)
            group.fence = group.fence.raised(self._last_fence, by, now)
            self.epoch.end()
            return
        written_at = now if by is Cause.WRITE else self._fences.get(key, _NO_FENCE).written_at
        self._raise_fence(key, now, written_at)
        copy = self._copies.get(key)
        if copy is not None:
            self._copies[key] = replace(copy, evidence=copy.evidence.invalidated(by, now))
            self.epoch.end()

    def keys(self) -> list[str]:
        """The keys of all entries of this moment."""
        return list(self._copies)

    def entries(self) -> Iterator[LocalEntry]:
        """All entries of this moment, the least recently used first; any thread may take them, one by one."""
        # Two lists, for a pair of each would be thousands of objects, and set off a collection of garbage.
        keys, values = list(self._copies), list(self._copies.values())
        pairs = zip(keys, values, strict=True)
        return (LocalEntry(key, copy.stored, copy.shown(), copy.seconds) for key, copy in pairs)

    def invalidations(self) -> list[Invalidated]:
        """The last ones of each key that are remembered."""
        found = []
        for key, fence in self._fences.items():
            if fence.written_at:
                found.append(Invalidated(key, Cause.WRITE, fence.written_at))
            if fence.invalidated_at > fence.written_at:
                found.append(Invalidated(key, Cause.PURGE, fence.invalidated_at))
        for key, group in self._groups.items():
            if group.fence.written_at:
                found.append(Invalidated(key, Cause.WRITE, group.fence.written_at))
            if group.fence.purged_at:
                found.append(Invalidated(key, Cause.PURGE, group.fence.purged_at))
        return found

    def restore(self, key: str, stored: Stored, seconds: float, unverified_since: float) -> None:
        """Puts an entry that an earlier process has left: stale since then, until something validates it."""
        self._put(key, stored, GOOD.unverified(unverified_since), self._fence(key), seconds)

    @override
    def invalidated_at(self, key: str) -> float:
        known = max(self._fences.get(key, _NO_FENCE).invalidated_at, self._group(key).fence.at)
        # What was missed may have been an invalidation.
        return max(known, self._gap_at)

    @override
    async def publish_write(self, writer: str) -> bool:
        """There is nobody else."""
        return True

    @override
    async def publish_hint(self, stream: str, campaigns: Sequence[str]) -> bool:
        """There is nobody else."""
        return False

    def supersede(self, key: str) -> None:
        """Drops the entry, which another one has replaced, and refuses the fills that looked up before now."""
        last = self._fences.get(key, _NO_FENCE)
        self._raise_fence(key, last.invalidated_at, last.written_at)
        self._drop(key)

    def _raise_fence(self, key: str, invalidated_at: float, written_at: float) -> None:
        self._forget_old_fences()
        self._last_fence += 1
        self._fences.pop(key, None)
        self._fences[key] = _Fence(self._last_fence, self.now(), invalidated_at, written_at)
        if len(self._fences) > MAX_FENCES:
            self._fences = {key: self._fences[key]}
            self.lose_track()

    def lose_track(self) -> None:
        """Takes no entry for fresh any longer, and refuses the fills that looked up before now.

        They stay to fall back on: what may have been missed is a change, not the end of the platform.
        """
        self._last_fence += 1
        self._gap = self._last_fence
        self.epoch.end()
        self._gap_at = self.now()

    def clear(self) -> None:
        """Forgets all that was dated by a clock that was wrong, and refuses the fills that looked up before now."""
        self._last_fence += 1
        self._gap = self._last_fence
        self.epoch.end()
        self._copies.clear()
        self.on_dropped(None)
        self._bytes = 0
        self._fences.clear()
        self._groups.clear()
        self._gap_at = self.now()

    def _drop(self, key: str) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            self.epoch.end()
            self._bytes -= copy.cost
            self.on_dropped(key)

    def _fence(self, key: str) -> tuple[int, int, int]:
        return self._gap, self._fences.get(key, _NO_FENCE).number, self._group(key).fence.number

    def _written_at(self, key: str) -> float:
        return max(self._fences.get(key, _NO_FENCE).written_at, self._group(key).fence.written_at)

    def _group(self, key: str) -> _Group:
        name = group_of(key)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(GroupFence())
        return group

    def _forget_old_fences(self) -> None:
        horizon = self.now() - FENCE_SECONDS
        while self._fences:
            oldest = next(iter(self._fences))
            if self._fences[oldest].raised_at > horizon:
                break
            del self._fences[oldest]


def _is_newer(stored: Stored, evidence: Evidence, last: _LocalCopy) -> bool:
    """Whether an answer that passed the fence takes the place of what is kept."""
    is_invalid, was_invalid = (each.state is CopyState.INVALIDATED for each in (evidence, last.shown()))
    if was_invalid and not is_invalid:
        # It was looked up after the invalidation, and the last one before.
        return True
    before = last.stored.validated_at
    return stored.validated_at > before or (stored.validated_at == before and is_invalid > was_invalid)


_NO_FENCE = _Fence()
