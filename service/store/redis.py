"""Entries in Redis, shared by all replicas.

One value per entry: its fence, the latest moment its read can have begun, and the encoded entry. A look-up is one GET;
a store is one script, atomic on the server.
"""

import asyncio

from service.policy.entry import Entry
from service.proxy.ports import Put
from service.store.bus import Bus
from service.store.codec import decode, encode
from service.store.keys import Keys
from service.store.link import RedisLink, StoreDownError

LEASE_MILLISECONDS = 2_000
"""How long a dead leader keeps the lead."""
RENEW_SECONDS = 0.5
FENCE_MILLISECONDS = 900_000
"""How long an invalidation is remembered: longer than any fill can be under way."""

_HEAD_BYTES = 32
_FENCE_BYTES = 16

SharedFence = tuple[int, int]
"""The link's generation at the look-up, and the number that stood at the key."""


class RedisStore:
    """The shared layer. Its calls raise `StoreDownError`; `store.layers` decides what that means."""

    def __init__(self, link: RedisLink, bus: Bus, keys: Keys) -> None:
        self._link = link
        self._bus = bus
        self._keys = keys
        self._led: set[str] = set()
        self._put = link.script("put.lua")
        self._invalidate = link.script("invalidate.lua")
        self._lead = link.script("lead.lua")
        self._leave = link.script("leave.lua")
        self._renew = link.script("renew.lua")

    async def get(self, key: str) -> tuple[Entry | None, SharedFence]:
        """The entry and the fence, in one trip."""
        name = self._keys.entry(key)
        generation = self._link.generation
        value = await self._link.ask("get", lambda: self._link.client.get(name))
        entry, fence = _read(value)
        self._link.meter.store_operation("redis", "get", "hit" if entry is not None else "miss")
        return entry, (generation, fence)

    async def put(self, key: str, entry: Entry, fence: SharedFence, keep: float) -> Put:
        """Stores under the fence, in one trip."""
        generation, number = fence
        earliest = (entry.proven_at - self._link.clock.error) * 1e6
        latest = (entry.proven_at + self._link.clock.error) * 1e6
        times = (f"{earliest:.0f}", f"{latest:016.0f}", int(keep * 1000) + 1)
        arguments = (number, *times, encode(entry), self._keys.channel, self._bus.sender, key, FENCE_MILLISECONDS)
        if generation != self._link.generation:
            # The server that gave the fence is gone, and with it perhaps a later fence.
            outcome = Put.FENCED
        else:
            names = [self._keys.entry(key), self._keys.number(key)]
            answer = await self._link.ask("put", lambda: self._put(keys=names, args=arguments))
            outcome = Put(answer.decode() if isinstance(answer, bytes) else answer)
        self._link.meter.store_operation("redis", "put", outcome.value)
        return outcome

    async def invalidate(self, key: str) -> None:
        """Raises the fence, in one trip."""
        names = [self._keys.entry(key), self._keys.number(key)]
        arguments = (FENCE_MILLISECONDS, self._keys.channel, self._bus.sender, key)
        await self._link.ask("invalidate", lambda: self._invalidate(keys=names, args=arguments))
        self._link.meter.store_operation("redis", "invalidate", "stored")

    async def lead(self, key: str) -> tuple[bool, Entry | None, SharedFence]:
        """Whether this replica leads now, the entry and its fence, in one trip."""
        generation = self._link.generation
        names = [self._keys.entry(key), self._keys.lease(key)]
        arguments = (self._bus.sender, LEASE_MILLISECONDS)
        is_mine, value = await self._link.ask("lead", lambda: self._lead(keys=names, args=arguments))
        if is_mine:
            self._led.add(key)
        self._link.meter.store_operation("redis", "lead", "taken" if is_mine else "refused")
        entry, fence = _read(value)
        return bool(is_mine), entry, (generation, fence)

    async def leave(self, key: str) -> None:
        """Gives up the lead, in one trip."""
        self._led.discard(key)
        names = [self._keys.lease(key), self._keys.number(key)]
        arguments = (self._bus.sender, self._keys.channel, key)
        await self._link.ask("leave", lambda: self._leave(keys=names, args=arguments))

    async def keep_leading(self) -> None:
        """Renews all leases that are held, for as long as it runs: a lease that is not renewed is a dead leader's."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for key in list(self._led):
                names, arguments = [self._keys.lease(key)], (self._bus.sender, LEASE_MILLISECONDS)
                try:
                    await self._link.ask("renew", lambda: self._renew(keys=names, args=arguments))  # noqa: B023
                except StoreDownError:
                    break

    def note_slow(self) -> None:
        """Counts an answer that was not waited for; the watcher finds out whether the server hangs."""
        self._link.meter.store_operation("redis", "get", "slow")


def has_fence(fence: SharedFence) -> bool:
    """Whether Redis knows of an invalidation."""
    return fence[1] > 0


def _read(value: object) -> tuple[Entry | None, int]:
    if not isinstance(value, bytes):
        return None, 0
    head = value[:_FENCE_BYTES]
    return decode(value[_HEAD_BYTES:]), int(head) if head.isdigit() else 0
