"""The shared store, with this process's memory to fall back on while it is lost."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from campaign_gateway.policy.entry import Cause, Entry
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import Found, Lead, Put
from campaign_gateway.proxy.request import group_of
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.memory import MemoryStore, doubted
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.link import StoreDownError
from campaign_gateway.store.redis.store import Raw, RedisStore, SharedFence, is_fenced

COPY_SECONDS = 86_400.0
"""How long a copy of a shared entry may stay; what it may be used for, its age decides."""

PAY_SECONDS = 0.25
"""How often a Redis that was lost when a key was invalidated is tried again."""
MAX_OWED = 100_000
"""Invalidations kept for a lost Redis; beyond them the oldest are forgotten, and what it holds lives by its age."""

WAIT_WITH_COPY_SECONDS = 0.08
"""How long Redis is waited for by a caller whom a local copy could answer."""


@dataclass(frozen=True, slots=True)
class _Fences:
    """What stood in each layer at the look-up; `shared` is None when that layer was lost."""

    shared: SharedFence | None
    local: Hashable


def _found(entry: Entry | None, shared: SharedFence | None, local: Found, raw: Raw | None = None) -> Found:
    return Found(entry, _Fences(shared, local.fence), local.written_at, raw)


@dataclass(frozen=True, slots=True, eq=False)
class _Debt:
    """An invalidation that Redis has still to be told of; a later one of the same key is another."""

    by: Cause


class LayeredStore:
    """Implements `Store`: copies in this process in front of Redis, and to go on with while it is lost."""

    def __init__(self, shared: RedisStore, local: MemoryStore, bus: Bus, unwatched: float) -> None:
        """A layered store.

        Args:
            shared: Redis.
            local: the copies.
            bus: tells when a copy is out of date.
            unwatched: seconds for which a copy may answer by itself while nothing can be heard.
        """
        self._shared = shared
        self._local = local
        self.now = local.now
        """See `Store`."""
        self._bus = bus
        self._unwatched = unwatched
        self._on_invalidated: Callable[[str | None], None] = lambda _: None
        self._on_written: Callable[[str], object] = lambda _: None
        self._on_hinted: Callable[[str, Sequence[str]], object] = lambda _stream, _campaigns: None
        self._owed: dict[str, _Debt] = {}
        """Keys invalidated while Redis was lost: what it holds of them is not used before it has been told."""

    def start(
        self,
        tasks: Tasks,
        on_invalidated: Callable[[str | None], None],
        on_written: Callable[[str], object],
        on_hinted: Callable[[str, Sequence[str]], object] | None = None,
    ) -> None:
        """Keeps listening to the bus, and keeps the leads that are held.

        Args:
            tasks: where that runs.
            on_invalidated: called with each key that another replica invalidated; with None when it may be any.
            on_written: called with each writer of whom another replica tells.
            on_hinted: called with a stream and campaigns of it that another replica was told to have read first.
        """
        self._on_invalidated = on_invalidated
        self._on_written = on_written
        self._on_hinted = on_hinted or self._on_hinted
        tasks.spawn(self._bus.listen(self._heard, self._missed, self.epoch.end), name="listen to the bus")
        tasks.spawn(self._shared.keep_leading(), name="keep leading")
        tasks.spawn(self._keep_paying(), name="tell redis what it missed")

    def peek(self, key: str) -> Entry | None:
        """See `Store`."""
        return self._local.peek(key) if self._may_answer() else None

    def holds(self, key: str) -> bool | None:
        """See `Store`. Another replica may have stored what this one does not know of."""
        return True if self._local.holds(key) else None

    @property
    def epoch(self) -> Epoch:
        """See `Store`."""
        return self._local.epoch

    @property
    def is_told(self) -> bool:
        """See `Store`."""
        return self._bus.silent_for() <= 0

    def _may_answer(self) -> bool:
        return self._bus.silent_for() <= self._unwatched

    async def get(self, key: str, raw: object = None) -> Found:
        """See `Store`. One trip, or none while Redis is lost."""
        local = await self._local.get(key)
        try:
            if local.entry is None:
                now, fence = await self._look_up(key, raw)
            else:
                # Whoever has a copy to serve does not wait a whole time-out to learn that Redis hangs.
                async with asyncio.timeout(WAIT_WITH_COPY_SECONDS):
                    now, fence = await self._look_up(key, raw)
        except TimeoutError:
            self._shared.note_slow()
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
            # Invalidated, and this replica has not heard of it: to fall back on, and no more.
            self._local.mark(key, Cause.WRITE)
            local = await self._local.get(key)
            return _found(local.entry, fence, local)
        if entry is not None and (local.entry is not None or self._local.has_room_for(entry)):
            await self._local.put(key, entry, local.fence, COPY_SECONDS)
        return _found(entry, fence, local, now)

    async def _look_up(self, key: str, raw: object) -> tuple[Raw, SharedFence]:
        if self._owed:
            await self._pay(key)
        return await self._shared.get(key, raw)

    async def put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        """See `Store`. A fill that Redis refuses is refused here as well; one that it could not take stays local."""
        if not isinstance(fence, _Fences):
            raise TypeError("the fence is not this store's")
        if fence.shared is None:
            return await self._local.put(key, entry, fence.local, keep)
        try:
            await self._pay(key)
            outcome = await self._shared.put(key, entry, fence.shared, keep)
        except StoreDownError:
            outcome = Put.FAILED
        if outcome in {Put.STORED, Put.FAILED}:
            await self._local.put(key, entry, fence.local, keep)
        return outcome

    async def lead(self, key: str) -> Lead:
        """See `Store`."""
        local = await self._local.get(key)
        try:
            await self._pay(key)
            is_mine, entry, fence = await self._shared.lead(key)
        except StoreDownError:
            return Lead(is_mine=True, found=_found(local.entry, None, local))
        return Lead(is_mine, _found(entry, fence, local))

    async def leave(self, key: str, fence: Hashable) -> None:
        """See `Store`."""
        if not isinstance(fence, _Fences) or fence.shared is None:
            return
        try:
            await self._shared.leave(key, fence.shared)
        except StoreDownError:
            return

    async def follow(self, key: str, seconds: float) -> None:
        """See `Store`."""
        await self._bus.wait(key, seconds)

    async def invalidate(self, key: str, by: Cause) -> None:
        """See `Store`."""
        await self._local.invalidate(key, by)
        try:
            await self._shared.invalidate(key, by)
        except StoreDownError:
            self._owe(key, by)
        # A look-up that Redis answered just before has brought the old entry here since.
        self._local.mark(key, by)

    def invalidated_at(self, key: str) -> float:
        """See `Store`. While nothing is heard, it may be at any moment."""
        return self._local.invalidated_at(key) if self._bus.silent_for() <= self._unwatched else self.now()

    async def tell_written(self, writer: str) -> None:
        """See `Store`. While Redis is lost, nobody can be told."""
        try:
            await self._shared.tell("wrote", writer)
        except StoreDownError:
            return

    async def tell_hinted(self, stream: str, campaigns: Sequence[str]) -> bool:
        """See `Store`. While Redis is lost, nobody can be told."""
        try:
            await self._shared.tell("hint", f"{stream}:{','.join(campaigns)}")
        except StoreDownError:
            return False
        return True

    def _owe(self, key: str, by: Cause) -> None:
        owed = self._owed.pop(key, None)
        self._owed[key] = _Debt(Cause.WRITE if owed is not None and owed.by is Cause.WRITE else by)
        if len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]

    async def _pay(self, key: str) -> None:
        """Invalidates the key in Redis, and all of its operation, as far as that is still to be done."""
        if self._owed:
            for owed in (key, group_of(key)):
                if owed in self._owed:
                    await self._pay_one(owed)

    async def _pay_one(self, key: str) -> None:
        # It stays owed until it is paid: a look-up beside this one must not come before it.
        debt = self._owed[key]
        await self._shared.invalidate(key, debt.by)
        if self._owed.get(key) is debt:
            del self._owed[key]
        self._local.mark(key, debt.by)

    async def _keep_paying(self) -> None:
        while True:
            await asyncio.sleep(PAY_SECONDS)
            for key in list(self._owed):
                try:
                    if key in self._owed:
                        await self._pay_one(key)
                except StoreDownError:
                    break

    def _heard(self, word: str, key: str) -> None:
        # A copy being fetched at this moment is refused too: its look-up saw the fence as it was before.
        match word:
            case "changed":
                self._local.outdate(key)
            case "write" | "purge":
                self._local.mark(key, Cause(word))
                self._on_invalidated(key)
            case "wrote":
                self._on_written(key)
            case "hint":
                stream, _, campaigns = key.partition(":")
                self._on_hinted(stream, campaigns.split(","))
            case _:
                pass

    def _missed(self) -> None:
        self._local.doubt()
        self._on_invalidated(None)
