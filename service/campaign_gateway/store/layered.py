"""Redis, with this process's memory in front of it and to fall back on while it is lost."""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from campaign_gateway.policy.entry import Cause, Entry
from campaign_gateway.proxy.ports import Found, Handlers, Lease, Put, Store
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.memory import MemoryStore, doubted
from campaign_gateway.store.outbox import Outbox
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.link import StoreDownError
from campaign_gateway.store.redis.store import Raw, RedisFence, RedisStore, is_fenced

COPY_SECONDS = 86_400.0
"""How long a copy of an entry may stay; what it may be used for, its age decides."""

WAIT_WITH_COPY_SECONDS = 0.08
"""How long Redis is waited for by a caller whom a local copy could answer."""


@dataclass(frozen=True, slots=True)
class _Fences:
    """What stood in each layer at the look-up; `redis` is None when that layer was lost."""

    redis: RedisFence | None
    local: Hashable


def _found(entry: Entry | None, redis: RedisFence | None, local: Found, raw: Raw | None = None) -> Found:
    return Found(entry, _Fences(redis, local.fence), local.written_at, raw)


class LayeredStore(Store):
    """Copies in this process, in front of Redis and to go on with while it is lost."""

    def __init__(self, redis: RedisStore, local: MemoryStore, bus: Bus, unwatched: float) -> None:
        """A layered store.

        Args:
            redis: what all replicas share.
            local: the copies.
            bus: on which replicas publish what makes a copy out of date.
            unwatched: seconds for which a copy may answer by itself while this replica is not subscribed.
        """
        self._redis = redis
        self._local = local
        self.now, self.epoch = local.now, local.epoch
        self._bus = bus
        self._unwatched = unwatched
        self._handlers = Handlers(lambda _: None, lambda _: None, lambda _stream, _campaigns: None)
        self._outbox = Outbox(self._deliver)

    def start(self, tasks: Tasks, handlers: Handlers) -> None:
        """Keeps listening to the bus, keeps its leases and the outbox going; that runs in `tasks`."""
        self._handlers = handlers
        tasks.spawn(self._bus.listen(self._receive, self._miss, self.epoch.end), name="listen to the bus")
        tasks.spawn(self._redis.keep_leases(), name="keep leases")
        tasks.spawn(self._outbox.keep_flushing(), name="flush invalidations")

    @override
    def peek(self, key: str) -> Entry | None:
        return self._local.peek(key) if self._may_answer() else None

    @override
    def holds(self, key: str) -> bool | None:
        """Another replica may have stored what this one does not know of."""
        return True if self._local.holds(key) else None

    @property
    @override
    def is_subscribed(self) -> bool:
        return self._bus.silent_for() <= 0

    async def close(self) -> None:
        """Ends the look-ups that are under way."""
        await self._redis.close()

    def _may_answer(self) -> bool:
        return self._bus.silent_for() <= self._unwatched

    @override
    async def get(self, key: str, raw: object = None) -> Found:
        """One trip, or none while Redis is lost."""
        local = await self._local.get(key)
        try:
            if local.entry is None:
                now, fence = await self._look_up(key, raw)
            else:
                # Whoever has a copy to serve does not wait a whole time-out to learn that Redis hangs.
                async with asyncio.timeout(WAIT_WITH_COPY_SECONDS):
                    now, fence = await self._look_up(key, raw)
        except TimeoutError:
            self._redis.note_slow()
            return _found(local.entry, None, local)
        except StoreDownError:
            # Looked up again: a fill that Redis could not take may have come in during the time-out.
            local = await self._local.get(key)
            return _found(local.entry, None, local)
        entry = now.entry
        if entry is None and local.entry is not None and not is_fenced(fence, local.entry):
            # Redis has lost it, or let it go for room; nobody has invalidated it that Redis knows of.
            return _found(doubted(local.entry, self.now()), fence, local)
        if entry is None and local.entry is not None:
            # Invalidated, and this replica has not learnt of it: to fall back on, and no more.
            self._local.mark(key, Cause.WRITE)
            local = await self._local.get(key)
            return _found(local.entry, fence, local)
        if entry is not None and (local.entry is not None or self._local.has_room_for(entry)):
            await self._local.put(key, entry, local.fence, COPY_SECONDS)
        return _found(entry, fence, local, now)

    async def _look_up(self, key: str, raw: object) -> tuple[Raw, RedisFence]:
        await self._outbox.flush(key)
        return await self._redis.get(key, raw)

    @override
    async def put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        """A fill that Redis refuses is refused here as well; one that it could not take stays local."""
        if not isinstance(fence, _Fences):
            raise TypeError("the fence is not this store's")
        if fence.redis is None:
            return await self._local.put(key, entry, fence.local, keep)
        try:
            await self._outbox.flush(key)
            outcome = await self._redis.put(key, entry, fence.redis, keep)
        except StoreDownError:
            outcome = Put.FAILED
        if outcome in {Put.STORED, Put.FAILED}:
            await self._local.put(key, entry, fence.local, keep)
        return outcome

    @override
    async def acquire_lease(self, key: str) -> Lease:
        local = await self._local.get(key)
        try:
            await self._outbox.flush(key)
            is_mine, entry, fence = await self._redis.acquire_lease(key)
        except StoreDownError:
            return Lease(is_mine=True, found=_found(local.entry, None, local))
        return Lease(is_mine, _found(entry, fence, local))

    @override
    async def release_lease(self, key: str, fence: Hashable) -> None:
        if not isinstance(fence, _Fences) or fence.redis is None:
            return
        try:
            await self._redis.release_lease(key, fence.redis)
        except StoreDownError:
            return

    @override
    async def wait_for_lease(self, key: str, seconds: float) -> None:
        await self._bus.wait(key, seconds)

    @override
    async def invalidate(self, key: str, by: Cause) -> None:
        await self._local.invalidate(key, by)
        try:
            await self._redis.invalidate(key, by)
        except StoreDownError:
            self._outbox.add(key, by)
        # A look-up that Redis answered just before has brought the old entry here since.
        self._local.mark(key, by)

    @override
    def invalidated_at(self, key: str) -> float:
        """While this replica is not subscribed, that may be at any moment."""
        return self._local.invalidated_at(key) if self._bus.silent_for() <= self._unwatched else self.now()

    @override
    async def publish_write(self, writer: str) -> None:
        """While Redis is lost, nobody learns of it."""
        try:
            await self._redis.publish("wrote", writer)
        except StoreDownError:
            return

    @override
    async def publish_hint(self, stream: str, campaigns: Sequence[str]) -> bool:
        """While Redis is lost, nobody learns of it."""
        try:
            await self._redis.publish("hint", f"{stream}:{','.join(campaigns)}")
        except StoreDownError:
            return False
        return True

    async def _deliver(self, key: str, by: Cause) -> None:
        await self._redis.invalidate(key, by)
        self._local.mark(key, by)

    def _receive(self, kind: str, key: str) -> None:
        # A copy being fetched at this moment is refused too: its look-up saw the fence as it was before.
        match kind:
            case "changed":
                self._local.outdate(key)
            case "write" | "purge":
                self._local.mark(key, Cause(kind))
                self._handlers.on_invalidated(key)
            case "wrote":
                self._handlers.on_written(key)
            case "hint":
                stream, _, campaigns = key.partition(":")
                self._handlers.on_hinted(stream, campaigns.split(","))
            case _:
                pass

    def _miss(self) -> None:
        self._local.doubt()
        self._handlers.on_invalidated(None)
