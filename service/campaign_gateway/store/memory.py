"""Entries in this process: a dictionary bounded in bytes that forgets the least recently used."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from campaign_gateway.policy.entry import Cause, Entry, Swept, settling
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import Found, Lead, Meter, Put
from campaign_gateway.proxy.request import EVERY, group_of
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.fences import GroupFence, invalidated

ENTRY_OVERHEAD_BYTES = 622
"""What an entry takes beside its body: objects, key, table slots (`tests.bench.memory`, CPython 3.11)."""
ABSENCE_OVERHEAD_BYTES = 838
"""What the knowledge that there is no such thing takes beside its message."""

FENCE_SECONDS = 900.0
"""How long an invalidation is remembered: longer than any fill can be under way."""


@dataclass(frozen=True, slots=True)
class _Fence:
    """The last time that a key's fence moved, in seconds, and its last invalidations."""

    number: int = 0
    moved_at: float = 0.0
    invalidated_at: float = 0.0
    written_at: float = 0.0


@dataclass(slots=True)
class _Group:
    fence: GroupFence


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: Entry
    seconds: float
    group: _Group
    number: int
    """That of the last fence when it was put: whatever has a higher one came later."""

    @property
    def cost(self) -> int:
        return _cost(self.entry)


class Kept(NamedTuple):
    """An entry as it is shown at this moment."""

    key: str
    entry: Entry
    seconds: float
    """How long it is kept."""


class Invalidated(NamedTuple):
    """One invalidation."""

    key: str
    """An entry's, or that of all answers to an operation of a stream."""
    by: Cause
    at: float


def _cost(entry: Entry) -> int:
    if entry.absence is None:
        return len(entry.body) + ENTRY_OVERHEAD_BYTES
    return len(entry.absence.message or "") + ABSENCE_OVERHEAD_BYTES


def doubted(entry: Entry, since: float) -> Entry:
    """The entry as one that may have changed: stale since then."""
    return replace(entry, swept=Swept(since, is_changed=True))


class MemoryStore:
    """Implements `Store` for one process. No call ever waits."""

    def __init__(self, max_bytes: int, clock: StoreClock, meter: Meter) -> None:
        self._max_bytes = max_bytes
        self.now = clock.now
        """See `Store`."""
        self._meter = meter
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._fences: dict[str, _Fence] = {}
        self._groups: dict[str, _Group] = {}
        self._last_fence = 0
        self._doubt = 0
        """The number of the last doubt: what was put before it is unverified."""
        self._doubted_at = 0.0
        self.epoch = Epoch()
        """See `Store`."""
        self.changes = 0
        """Rises with each entry that is put, and each invalidation."""
        self.on_invalidated: Callable[[Invalidated], None] | None = None
        """Called with each invalidation, before `invalidate` returns."""

    @property
    def is_told(self) -> bool:
        """See `Store`. There is nobody else."""
        return True

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_used(self) -> int:
        """What the entries take, as counted."""
        return self._bytes

    def peek(self, key: str) -> Entry | None:
        """See `Store`."""
        kept = self._kept.get(key)
        if kept is None or kept.number < self._doubt:
            self._meter.store_operation("memory", "get", "miss")
            return None
        if self.now() - kept.entry.validated_at > kept.seconds:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        self._meter.store_operation("memory", "get", "hit")
        return _shown(kept)

    def holds(self, key: str) -> bool | None:
        """See `Store`. A copy unverified is something."""
        return key in self._kept

    async def get(self, key: str, raw: object = None) -> Found:  # noqa: ARG002 - entries are kept as they are
        """See `Store`. A copy unverified comes as one that has been stale since."""
        kept = self._kept.get(key)
        in_doubt = kept is not None and kept.number < self._doubt
        entry = doubted(_shown(kept), self._doubted_at) if kept is not None and in_doubt else self.peek(key)
        own, group = self._fences.get(key, _NO_FENCE), self._group(key).fence
        return Found(entry, (self._doubt, own.number, group.number), max(own.written_at, group.written_at))

    def has_room_for(self, entry: Entry) -> bool:
        """Whether the entry would be kept, if there were no other."""
        return _cost(entry) <= self._max_bytes

    async def lead(self, key: str) -> Lead:
        """See `Store`. There is nobody else."""
        return Lead(is_mine=True, found=await self.get(key))

    async def leave(self, key: str, fence: Hashable) -> None:
        """See `Store`."""

    async def follow(self, key: str, seconds: float) -> None:
        """See `Store`."""

    async def put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        """See `Store`. An entry larger than the whole room is not kept, which no later `get` can tell from eviction."""
        outcome = self._put(key, entry, fence, keep)
        self._meter.store_operation("memory", "put", outcome.value)
        return outcome

    def _put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        if fence != self._fence(key):
            return Put.FENCED
        last = self._kept.get(key)
        if last is not None and last.number >= self._doubt and not _is_news(entry, _shown(last)):
            return Put.OLDER
        self._drop(key)
        group = self._group(key)
        kept = _Kept(settling(entry, self._written_at(key)), keep, group, self._last_fence)
        if kept.cost > self._max_bytes:
            return Put.STORED
        self._kept[key] = kept
        self.changes += 1
        self.epoch.end()
        self._bytes += kept.cost
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
        return Put.STORED

    async def invalidate(self, key: str, by: Cause) -> None:
        """See `Store`."""
        self.mark(key, by)
        self._meter.store_operation("memory", "invalidate", "stored")

    def mark(self, key: str, by: Cause, at: float | None = None) -> None:
        """Does what `invalidate` says, at once; or what it did at an earlier moment, to what is here already."""
        now = self.now() if at is None else at
        self.changes += 1
        if self.on_invalidated is not None:
            self.on_invalidated(Invalidated(key, by, now))
        if key.endswith(EVERY):
            self._last_fence += 1
            group = self._group(key)
            group.fence = group.fence.moved(self._last_fence, by, now)
            self.epoch.end()
            return
        last = self._move_fence(key)
        written_at = now if by is Cause.WRITE else last.written_at
        self._fences[key] = replace(self._fences[key], invalidated_at=now, written_at=written_at)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept[key] = replace(kept, entry=invalidated(kept.entry, by, now))
            self.epoch.end()

    def kept(self) -> Iterator[Kept]:
        """All entries of this moment, the least recently used first; any thread may take them, one by one."""
        # Two lists, for a pair of each would be thousands of objects, and set off a collection of garbage.
        keys, values = list(self._kept), list(self._kept.values())
        return (Kept(key, _shown(kept), kept.seconds) for key, kept in zip(keys, values, strict=True))

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

    def restore(self, key: str, entry: Entry, seconds: float, unverified_since: float) -> None:
        """Puts an entry that an earlier process has left: stale since then, until something validates it."""
        self._put(key, doubted(entry, unverified_since), self._fence(key), seconds)

    def invalidated_at(self, key: str) -> float:
        """See `Store`."""
        known = max(self._fences.get(key, _NO_FENCE).invalidated_at, self._group(key).fence.at)
        # What was missed may have been an invalidation.
        return max(known, self._doubted_at)

    async def tell_written(self, writer: str) -> None:
        """See `Store`. There is nobody else."""

    async def tell_hinted(self, stream: str, campaigns: Sequence[str]) -> bool:  # noqa: ARG002
        """See `Store`. There is nobody else."""
        return False

    def outdate(self, key: str) -> None:
        """Drops the entry, which another one has replaced, and refuses the fills that looked up before now."""
        self._move_fence(key)
        self._drop(key)

    def _move_fence(self, key: str) -> _Fence:
        """The fence as it was before."""
        self._forget_old_fences()
        self._last_fence += 1
        last = self._fences.pop(key, _NO_FENCE)
        self._fences[key] = replace(last, number=self._last_fence, moved_at=self.now())
        return last

    def doubt(self) -> None:
        """Takes no entry for fresh any longer, and refuses the fills that looked up before now.

        They stay to fall back on: what may have been missed is a change, not the end of the platform.
        """
        self._last_fence += 1
        self._doubt = self._last_fence
        self.epoch.end()
        self._doubted_at = self.now()

    def clear(self) -> None:
        """Forgets all that was told by a clock that was wrong, and refuses the fills that looked up before now."""
        self._last_fence += 1
        self._doubt = self._last_fence
        self.epoch.end()
        self._kept.clear()
        self._bytes = 0
        self._fences.clear()
        self._groups.clear()
        self._doubted_at = self.now()

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.epoch.end()
            self._bytes -= kept.cost

    def _fence(self, key: str) -> tuple[int, int, int]:
        return self._doubt, self._fences.get(key, _NO_FENCE).number, self._group(key).fence.number

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
            if self._fences[oldest].moved_at > horizon:
                break
            del self._fences[oldest]


def _is_news(entry: Entry, last: Entry) -> bool:
    """Whether an entry that passed the fence takes the place of what is kept."""
    if last.is_invalid and not entry.is_invalid:
        # It was looked up after the invalidation, and `last` before.
        return True
    return entry.validated_at > last.validated_at or (
        entry.validated_at == last.validated_at and entry.is_invalid > last.is_invalid
    )


def _shown(kept: _Kept) -> Entry:
    fence = kept.group.fence
    return kept.entry if fence.number <= kept.number else fence.lay_over(kept.entry, kept.number)


_NO_FENCE = _Fence()
