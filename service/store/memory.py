"""Entries in this process: a dictionary bounded in bytes that forgets the least recently used."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

from service.policy.entry import Entry, Swept
from service.proxy.ports import Found, Lead, Meter, Put
from service.store.clock import StoreClock

ENTRY_OVERHEAD_BYTES = 900
"""What an entry takes beside its body: objects, key, table slots (measured with tracemalloc on CPython 3.11)."""

FENCE_SECONDS = 900.0
"""How long an invalidation is remembered: longer than any fill can be under way."""


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: Entry
    seconds: float
    generation: int

    @property
    def cost(self) -> int:
        said = self.entry.absence.message if self.entry.absence is not None else None
        return len(self.entry.body) + len(said or "") + ENTRY_OVERHEAD_BYTES


def doubted(entry: Entry, since: float) -> Entry:
    """The entry as one that may have changed: stale since then."""
    return replace(entry, swept=Swept(since, is_moved=True))


class MemoryStore:
    """Implements `Store` for one process. No call ever waits."""

    def __init__(self, max_bytes: int, clock: StoreClock, meter: Meter) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._meter = meter
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._fences: dict[str, tuple[int, float]] = {}
        self._last_fence = 0
        self._generation = 0
        self._doubted_at = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_used(self) -> int:
        """What the entries take, as counted."""
        return self._bytes

    def now(self) -> float:
        """See `Store`."""
        return self._clock.now()

    def peek(self, key: str) -> Entry | None:
        """See `Store`."""
        kept = self._kept.get(key)
        if kept is None or kept.generation != self._generation:
            self._meter.store_operation("memory", "get", "miss")
            return None
        if self.now() - kept.entry.proven_at > kept.seconds:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        self._meter.store_operation("memory", "get", "hit")
        return kept.entry

    async def get(self, key: str) -> Found:
        """See `Store`. A copy in doubt comes as one that has been stale since."""
        kept = self._kept.get(key)
        if kept is None or kept.generation == self._generation:
            return Found(self.peek(key), self._fence(key))
        return Found(doubted(kept.entry, self._doubted_at), self._fence(key))

    async def lead(self, key: str) -> Lead:
        """See `Store`. There is nobody else."""
        return Lead(is_mine=True, found=await self.get(key))

    async def leave(self, key: str) -> None:
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
        if last is not None and last.entry.proven_at >= entry.proven_at and last.generation == self._generation:
            return Put.OLDER
        self._drop(key)
        kept = _Kept(entry, keep, self._generation)
        if kept.cost > self._max_bytes:
            return Put.STORED
        self._kept[key] = kept
        self._bytes += kept.cost
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
        return Put.STORED

    async def invalidate(self, key: str) -> None:
        """See `Store`."""
        self.move_fence(key)
        self._meter.store_operation("memory", "invalidate", "stored")

    def move_fence(self, key: str) -> None:
        """Drops the entry, and refuses the fills that looked up before now."""
        self._forget_old_fences()
        self._last_fence += 1
        self._fences.pop(key, None)
        self._fences[key] = (self._last_fence, self.now())
        self._drop(key)

    def forget(self, key: str) -> None:
        """Drops the entry; its fence stays."""
        self._drop(key)

    def doubt(self) -> None:
        """Takes no entry for fresh any more, and refuses the fills that looked up before now.

        They stay to fall back on: what may have been missed is a change, not the end of the platform.
        """
        self._generation += 1
        self._doubted_at = self.now()

    def clear(self) -> None:
        """Forgets all entries, and refuses the fills that looked up before now."""
        self._generation += 1
        self._kept.clear()
        self._bytes = 0

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= kept.cost

    def _fence(self, key: str) -> tuple[int, int]:
        return self._generation, self._fences.get(key, (0, 0.0))[0]

    def _forget_old_fences(self) -> None:
        horizon = self.now() - FENCE_SECONDS
        while self._fences:
            oldest = next(iter(self._fences))
            if self._fences[oldest][1] > horizon:
                break
            del self._fences[oldest]
