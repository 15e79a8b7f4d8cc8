"""The shared store, with this process's memory to fall back on while it is lost."""

from collections.abc import Hashable
from dataclasses import dataclass

from service.policy.entry import Entry
from service.proxy.ports import Found, Put
from service.store.clock import StoreClock
from service.store.link import StoreDownError
from service.store.memory import MemoryStore
from service.store.redis import RedisStore, SharedFence

COPY_SECONDS = 86_400.0
"""How long a copy of a shared entry may stay; what it may be used for, its age decides."""


@dataclass(frozen=True, slots=True)
class _Fences:
    """What stood in each layer at the look-up; `shared` is None when that layer was lost."""

    shared: SharedFence | None
    local: Hashable


class LayeredStore:
    """Implements `Store`: Redis while it answers, else the copies kept along the way."""

    def __init__(self, shared: RedisStore, local: MemoryStore, clock: StoreClock) -> None:
        self._shared = shared
        self._local = local
        clock.on_step = local.clear

    def now(self) -> float:
        """See `Store`."""
        return self._local.now()

    async def get(self, key: str) -> Found:
        """See `Store`. One trip, or none while Redis is lost."""
        local = await self._local.get(key)
        try:
            entry, fence = await self._shared.get(key)
        except StoreDownError:
            # Looked up again: a fill that Redis could not take may have come in during the time-out.
            local = await self._local.get(key)
            return Found(local.entry, _Fences(None, local.fence))
        if entry is None:
            self._local.forget(key)
        else:
            await self._local.put(key, entry, local.fence, COPY_SECONDS)
        return Found(entry, _Fences(fence, local.fence))

    async def put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        """See `Store`. A fill that Redis refuses is refused here as well; one that it could not take stays local."""
        if not isinstance(fence, _Fences):
            raise TypeError("the fence is not this store's")
        if fence.shared is not None:
            try:
                outcome = await self._shared.put(key, entry, fence.shared, keep)
            except StoreDownError:
                outcome = Put.FAILED
            if outcome not in {Put.STORED, Put.FAILED}:
                return outcome
        return await self._local.put(key, entry, fence.local, keep)

    async def invalidate(self, key: str) -> None:
        """See `Store`."""
        await self._local.invalidate(key)
        try:
            await self._shared.invalidate(key)
        except StoreDownError:
            return
