"""Entries in Redis, shared by all replicas.

One value per entry: a head with its fence and the latest moment its read can have begun, and the encoded entry (see
put.lua). A look-up is one MGET of it and of its group's fence, joined with others; a store is one script, atomic on the
server.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from campaign_gateway.policy.entry import Cause, Entry, Invalidation, settling
from campaign_gateway.proxy.ports import Put
from campaign_gateway.proxy.request import EVERY
from campaign_gateway.store.codec import decode, encode
from campaign_gateway.store.fences import GroupFence, invalidated
from campaign_gateway.store.redis.batch_loader import Lookups
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError

LEASE_MILLISECONDS = 2_000
"""How long a dead leader keeps the lead."""
RENEW_SECONDS = 0.5
FENCE_MILLISECONDS = 900_000
"""How long an invalidation is remembered: longer than any fill can be under way."""

_HEAD_BYTES = 65
_NUMBER_BYTES = 16

SharedFence = tuple[int, int, GroupFence]
"""The link's generation at the look-up, the number that stood at the key, and the fence of its group."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What two values of Redis', that of a key and that of its group's fence, say together."""

    value: object
    group: object
    entry: Entry | None
    """With what is known of its invalidations laid over it."""
    number: int
    """The key's fence."""
    fence: GroupFence
    """Its group's."""

    def is_of(self, value: object, group: object) -> bool:
        """Whether it was made of the same values, byte for byte."""
        return value == self.value and group == self.group


class RedisStore:
    """The shared layer. Its calls raise `StoreDownError`; `store.layers` decides what that means."""

    def __init__(self, link: RedisLink, bus: Bus, keys: Keys) -> None:
        self._link = link
        self._bus = bus
        self._keys = keys
        self._led: set[tuple[str, str]] = set()
        """Keys and their leases."""
        self._lookups = Lookups(self._fetch)
        self._put = link.script("put.lua")
        self._invalidate = link.script("invalidate.lua")
        self._invalidate_all = link.script("invalidate_all.lua")
        self._tell = link.script("publish.lua")
        self._lead = link.script("acquire_lease.lua")
        self._leave = link.script("release_lease.lua")
        self._renew = link.script("renew_lease.lua")

    async def get(self, key: str, last: object = None) -> tuple[Raw, SharedFence]:
        """The entry and the fence, in one trip, or one more where it joins others.

        Args:
            key: the entry's key.
            last: what an earlier look-up of it brought, if that was a `Raw`: it is brought again while Redis holds the
                same, byte for byte.
        """
        names = (self._keys.entry(key), self._keys.group(key))
        generation = self._link.generation
        value, group = await self._lookups.get(self._keys.part(key), names)
        raw = last if isinstance(last, Raw) and last.is_of(value, group) else _read(value, group)
        self._link.meter.store_operation("redis", "get", "hit" if raw.entry is not None else "miss")
        return raw, (generation, raw.number, raw.fence)

    async def _fetch(self, names: list[str]) -> Sequence[object]:
        # Not by redis-py's own `mget`, whose wrappers cost a tenth of a trip.
        return await self._link.execute("get", lambda: self._link.client.execute_command("MGET", *names))

    async def put(self, key: str, entry: Entry, fence: SharedFence, keep: float) -> Put:
        """Stores under the fence, in one trip."""
        generation, number, group = fence
        earliest = (entry.validated_at - self._link.clock.uncertainty) * 1e6
        latest = (entry.validated_at + self._link.clock.uncertainty) * 1e6
        times = (f"{earliest:.0f}", f"{latest:016.0f}", int(keep * 1000) + 1)
        told = (self._keys.channel, self._bus.sender, key)
        arguments = (number, *times, encode(entry), *told, FENCE_MILLISECONDS, group.number)
        if generation != self._link.generation:
            # The server that gave the fence is gone, and with it perhaps a later fence.
            outcome = Put.FENCED
        else:
            names = [self._keys.entry(key), self._keys.number(key), self._keys.group(key)]
            answer = await self._link.execute("put", lambda: self._put(keys=names, args=arguments))
            outcome = Put(answer.decode() if isinstance(answer, bytes) else answer)
        self._link.meter.store_operation("redis", "put", outcome.value)
        return outcome

    async def invalidate(self, key: str, by: Cause) -> None:
        """Raises the fence, in one trip; that of all answers to an operation in one for each part."""
        if key.endswith(EVERY):
            await self._raise_group(key, by)
        else:
            names = [self._keys.entry(key), self._keys.number(key)]
            arguments = (FENCE_MILLISECONDS, self._keys.channel, self._bus.sender, key, by.value)
            await self._link.execute("invalidate", lambda: self._invalidate(keys=names, args=arguments))
        self._link.meter.store_operation("redis", "invalidate", "stored")

    async def _raise_group(self, group: str, by: Cause) -> None:
        # The part that replicas are told of comes last: whoever has heard it finds all of them raised.
        told = self._keys.part(group)
        for part in sorted(range(self._keys.parts), key=lambda part: part == told):
            names = [self._keys.group_in(part, group), self._keys.number_in(part)]
            channel = self._keys.channel if part == told else ""
            arguments = (channel, self._bus.sender, group, by.value)
            await self._link.execute("invalidate", lambda: self._invalidate_all(keys=names, args=arguments))  # noqa: B023

    async def tell(self, word: str, key: str) -> None:
        """Tells all replicas something about a key (see `store.bus`), in one trip."""
        names, arguments = [self._keys.number(key)], (self._keys.channel, word, self._bus.sender, key)
        await self._link.execute("tell", lambda: self._tell(keys=names, args=arguments))

    async def lead(self, key: str) -> tuple[bool, Entry | None, SharedFence]:
        """Whether this replica leads now, the entry and its fence, in one trip."""
        generation = self._link.generation
        names = [self._keys.entry(key), self._keys.lease(key), self._keys.group(key)]
        arguments = (self._bus.sender, LEASE_MILLISECONDS)
        is_mine, value, group = await self._link.execute("lead", lambda: self._lead(keys=names, args=arguments))
        raw = _read(value, group)
        fence = (generation, raw.number, raw.fence)
        if is_mine:
            self._led.add((key, self._lease(fence)))
        self._link.meter.store_operation("redis", "lead", "taken" if is_mine else "refused")
        return bool(is_mine), raw.entry, fence

    async def leave(self, key: str, fence: SharedFence) -> None:
        """Gives up the lead that was taken under the fence, in one trip."""
        lease = self._lease(fence)
        self._led.discard((key, lease))
        names = [self._keys.lease(key), self._keys.number(key)]
        arguments = (lease, self._keys.channel, key, self._bus.sender)
        await self._link.execute("leave", lambda: self._leave(keys=names, args=arguments))

    async def keep_leading(self) -> None:
        """Renews all leases that are held, for as long as it runs: a lease that is not renewed is a dead leader's."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for key, lease in list(self._led):
                names, arguments = [self._keys.lease(key)], (lease, LEASE_MILLISECONDS)
                try:
                    await self._link.execute("renew", lambda: self._renew(keys=names, args=arguments))  # noqa: B023
                except StoreDownError:
                    break

    def _lease(self, fence: SharedFence) -> str:
        """What acquire_lease.lua writes."""
        _, number, group = fence
        return f"{self._bus.sender}:{number}:{group.number}"

    def note_slow(self) -> None:
        """Counts an answer that was not waited for; the watcher finds out whether the server hangs."""
        self._link.meter.store_operation("redis", "get", "slow")


def is_fenced(fence: SharedFence, copy: Entry) -> bool:
    """Whether Redis knows of an invalidation that may be later than the copy of an entry that it has no more."""
    _, number, group = fence
    # A key's own number says nothing of when. What was purged, or lost its fence, is not worse than what Redis lost.
    return number > 0 or group.written_at >= copy.validated_at


def _read(value: object, group: object) -> Raw:
    fence = _group_fence(group)
    if not isinstance(value, bytes):
        return Raw(value, group, None, 0, fence)
    number, _, stored_at, moment, cause = _head(value)
    entry = decode(value[_HEAD_BYTES:])
    if entry is not None:
        if cause in _CAUSES:
            entry = replace(entry, invalidation=Invalidation(moment / 1e6, _CAUSES[cause], is_open=True))
        else:
            entry = settling(entry, moment / 1e6)
        entry = fence.lay_over(entry, stored_at)
        if stored_at > fence.number and not entry.is_invalid:
            # The group's fence was lost, and nobody knows what has moved it.
            entry = invalidated(entry, Cause.PURGE, stored_at / 1e6)
    return Raw(value, group, entry, number, fence)


def _head(value: bytes) -> tuple[int, int, int, int, bytes]:
    """Fence, latest begin, group's number, moment in microseconds, cause."""
    numbers = [value[start : start + _NUMBER_BYTES] for start in range(0, 4 * _NUMBER_BYTES, _NUMBER_BYTES)]
    fence, begun, stored_at, moment = (int(number) if number.isdigit() else 0 for number in numbers)
    return fence, begun, stored_at, moment, value[4 * _NUMBER_BYTES : _HEAD_BYTES]


def _group_fence(value: object) -> GroupFence:
    if not isinstance(value, bytes) or len(value) != 4 * _NUMBER_BYTES or not value.isdigit():
        return GroupFence()
    write, written_at, purge, purged_at = (
        int(value[start : start + _NUMBER_BYTES]) for start in range(0, len(value), _NUMBER_BYTES)
    )
    return GroupFence(write, written_at / 1e6, purge, purged_at / 1e6)


_CAUSES = {b"w": Cause.WRITE, b"p": Cause.PURGE}
