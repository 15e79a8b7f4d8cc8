"""Redis, with this process's memory in front of it and to fall back on while it is lost."""

import asyncio
import time
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from typing_extensions import override

from campaign_gateway.policy.evidence import Cause, Evidence
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.ports import Copy, Found, Handlers, Lease, Put, Store
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.outbox import Outbox
from campaign_gateway.store.redis.bus import UNPROVEN_SECONDS, Bus
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


def _found(raw: Raw, redis: RedisFence, copy: Copy) -> Found:
    """What Redis holds."""
    return Found(raw.stored, raw.evidence, _Fences(redis, copy.fence), copy.written_at, raw)


def _copied(copy: Copy, evidence: Evidence, redis: RedisFence | None = None) -> Found:
    """What this process holds, where Redis holds nothing, or cannot be asked."""
    return Found(copy.stored, evidence, _Fences(redis, copy.fence), copy.written_at)


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
        self.now, self.epoch, self.local_hits = local.now, local.epoch, local.local_hits
        self._bus = bus
        self._unwatched = unwatched
        self._handlers = Handlers(lambda _: None, lambda _: None, lambda _stream, _campaigns: None)
        self._outbox = Outbox(self._deliver)

    def start(self, tasks: Tasks, handlers: Handlers) -> None:
        """Keeps listening to the bus, keeps its leases and the outbox going; that runs in `tasks`."""
        self._handlers = handlers
        self._bus.on_heard = self._note_heard
        tasks.supervise(partial(self._bus.listen, self._receive, self._miss, self.epoch.end), name="listen to the bus")
        tasks.supervise(self._redis.keep_leases, name="keep leases")
        tasks.supervise(self._outbox.keep_flushing, name="flush invalidations")

    def _note_heard(self, moment: float) -> None:
        """What this process holds may be relied on for a while from this monotonic moment on, and no longer."""
        self.epoch.until = self.now() - (time.monotonic() - moment) + UNPROVEN_SECONDS

    @override
    def peek(self, key: str) -> Copy:
        copy = self._local.peek(key)
        return copy if self._may_answer() else copy._replace(may_answer=False)

    @override
    def shows(self, key: str, stored: Stored, evidence: Evidence) -> bool:
        return self._local.shows(key, stored, evidence) and self._may_answer()

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
    async def get(self, key: str, copy: Copy | None = None, raw: object = None) -> Found:
        """One trip, or none while Redis is lost."""
        copy = self._local.look(key, copy)
        try:
            if copy.stored is None:
                now, fence = await self._look_up(key, raw)
            else:
                # Whoever has a copy to serve does not wait a whole time-out to learn that Redis hangs.
                async with asyncio.timeout(WAIT_WITH_COPY_SECONDS):
                    now, fence = await self._look_up(key, raw)
        except TimeoutError:
            self._redis.note_slow()
            return _copied(copy, copy.evidence)
        except StoreDownError:
            # Looked at again: a fill that Redis could not take may have come in during the time-out.
            copy = self._local.peek(key)
            return _copied(copy, copy.evidence)
        if now.stored is not None:
            if copy.stored is not None or self._local.has_room_for(now.stored):
                self._local.keep(key, now.stored, now.evidence, copy.fence, COPY_SECONDS)
            return _found(now, fence, copy)
        if copy.stored is None:
            return _found(now, fence, copy)
        if is_fenced(fence, copy.stored):
            # Invalidated, and this replica has not received it: to fall back on, and no more.
            self._local.invalidate_here(key, Cause.WRITE)
            copy = self._local.peek(key)
            return _copied(copy, copy.evidence, fence)
        # Redis has lost it, or let it go for room; nobody has invalidated it that Redis knows of.
        return _copied(copy, copy.evidence.unverified(self.now()), fence)

    async def _look_up(self, key: str, raw: object) -> tuple[Raw, RedisFence]:
        await self._outbox.flush(key)
        return await self._redis.get(key, raw)

    @override
    async def put(self, key: str, stored: Stored, fence: Hashable, keep: float) -> Put:
        """A fill that Redis refuses is refused here as well; one that it could not take stays local."""
        if not isinstance(fence, _Fences):
            raise TypeError("the fence is not this store's")
        if fence.redis is None:
            return await self._local.put(key, stored, fence.local, keep)
        try:
            await self._outbox.flush(key)
            outcome = await self._redis.put(key, stored, fence.redis, keep)
        except StoreDownError:
            outcome = Put.FAILED
        if outcome in {Put.STORED, Put.FAILED}:
            await self._local.put(key, stored, fence.local, keep)
        return outcome

    @override
    async def acquire_lease(self, key: str, found: Found | None = None) -> Lease:
        copy = self._local.peek(key)
        seen = found.raw if found is not None and isinstance(found.raw, Raw) else None
        try:
            await self._outbox.flush(key)
            is_mine, now, fence = await self._redis.acquire_lease(key, seen)
        except StoreDownError:
            return Lease(is_mine=True, found=_copied(copy, copy.evidence))
        return Lease(is_mine, _found(now, fence, copy))

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
    async def invalidate_many(self, keys: Collection[str], by: Cause) -> bool:
        await self._local.invalidate_many(keys, by)
        try:
            await self._redis.invalidate(keys, by)
            is_published = True
        except StoreDownError:
            is_published = False
            for key in keys:
                self._outbox.add(key, by)
        # A look-up that Redis answered just before has brought an old entry here since.
        await self._local.invalidate_many(keys, by)
        return is_published

    @override
    def invalidated_at(self, key: str) -> float:
        """While this replica is not subscribed, that may be at any moment."""
        return self._local.invalidated_at(key) if self._bus.silent_for() <= self._unwatched else self.now()

    @override
    async def publish_write(self, writer: str) -> bool:
        """While Redis is lost, nobody learns of it."""
        try:
            await self._redis.publish("wrote", writer)
        except StoreDownError:
            return False
        return True

    @override
    async def publish_hint(self, stream: str, campaigns: Sequence[str]) -> bool:
        """While Redis is lost, nobody learns of it."""
        try:
            await self._redis.publish("hint", f"{stream}:{','.join(campaigns)}")
        except StoreDownError:
            return False
        return True

    async def _deliver(self, key: str, by: Cause) -> None:
        await self._redis.invalidate((key,), by)
        self._local.invalidate_here(key, by)

    def _receive(self, kind: str, key: str) -> None:
        # A copy being fetched at this moment is refused too: its look-up saw the fence as it was before.
        match kind:
            case "changed":
                self._local.supersede(key)
            case "write" | "purge":
                self._local.invalidate_here(key, Cause(kind))
                self._handlers.on_invalidated(key)
            case "wrote":
                self._handlers.on_written(key)
            case "hint":
                stream, _, campaigns = key.partition(":")
                self._handlers.on_hinted(stream, campaigns.split(","))
            case _:
                pass

    def _miss(self) -> None:
        self._local.lose_track()
        self._handlers.on_invalidated(None)
