"""Entries in Redis, shared by all replicas.

One value per entry: a head with its fence and the latest moment its read can have begun, and the encoded entry (see
put.lua). A look-up is one MGET of it and of its group's fence, joined with others; a store is one script, atomic on the
server.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from campaign_gateway.policy.evidence import GOOD, Cause, CopyState, Evidence, Invalidation
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.ports import Put
from campaign_gateway.proxy.request import EVERY
from campaign_gateway.store.codec import decode, encode
from campaign_gateway.store.fences import FENCE_SECONDS, GroupFence
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.batch_loader import BatchLoader
from campaign_gateway.store.redis.bus import KEYS_APART, Bus
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from campaign_gateway.store.seal import NO_SECRET, Seal, Seals

LEASE_MILLISECONDS = 2_000
"""How long a dead replica's lease lasts."""
RENEW_SECONDS = 0.5
FENCE_MILLISECONDS = int(1000 * FENCE_SECONDS)
TOGETHER = 250
"""Fences raised in one trip: it keeps the server from everybody else for as long as it takes."""

_HEAD_BYTES = 65
_NUMBER_BYTES = 16
_MOST = 2**53 - 1

RedisFence = tuple[int, int, GroupFence]
"""The link's generation at the look-up, the number that stood at the key, and the fence of its group."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What two values of Redis', that of a key and that of its group's fence, say together."""

    value: object
    group: object
    stored: Stored | None
    evidence: Evidence
    """Of its invalidations."""
    number: int
    """The key's fence."""
    fence: GroupFence
    """Its group's."""

    def is_of(self, value: object, group: object) -> bool:
        """Whether it was made of the same values, byte for byte."""
        return value == self.value and group == self.group


class RedisStore:
    """What all replicas share. Its calls raise `StoreDownError`; `store.layered` decides what that means."""

    def __init__(self, link: RedisLink, bus: Bus, keys: Keys, seals: Seals = NO_SECRET) -> None:
        self._link = link
        self._bus = bus
        self._seal = Seal("entry", seals)
        self._keys = keys
        self._leases: set[tuple[str, str]] = set()
        """Those that this replica holds, with their keys."""
        self._loader = BatchLoader(self._fetch)
        self._put = link.script("put.lua")
        self._invalidate = link.script("invalidate.lua")
        self._invalidate_all = link.script("invalidate_all.lua")
        self._publish = link.script("publish.lua")
        self._acquire = link.script("acquire_lease.lua")
        self._release = link.script("release_lease.lua")
        self._renew = link.script("renew_lease.lua")

    async def get(self, key: str, last: object = None) -> tuple[Raw, RedisFence]:
        """The entry and the fence, in one trip, or one more where it joins others.

        Args:
            key: the entry's key.
            last: what an earlier look-up of it brought, if that was a `Raw`: it is brought again while Redis holds the
                same, byte for byte.
        """
        names = (self._keys.entry(key), self._keys.group_fence(key))
        generation = self._link.generation
        value, group = await self._loader.load(self._keys.partition(key), names)
        raw = last if isinstance(last, Raw) and last.is_of(value, group) else self._read(value, group, names[0])
        self._link.meter.store_operation("redis", "get", "hit" if raw.stored is not None else "miss")
        return raw, (generation, raw.number, raw.fence)

    async def close(self) -> None:
        """Ends the look-ups that are under way."""
        await self._loader.close()

    async def _fetch(self, names: list[str]) -> Sequence[bytes | None]:
        def read(reply: object) -> list[bytes | None]:
            values = replies.values(reply)
            if len(values) != len(names):
                raise ValueError("not as many values as were asked for")
            return values

        # Not by redis-py's own `mget`, whose wrappers cost a tenth of a trip.
        return await self._link.execute("get", lambda: self._link.client.execute_command("MGET", *names), read)

    async def put(self, key: str, stored: Stored, fence: RedisFence, keep: float) -> Put:
        """Stores under the fence, in one trip."""
        generation, number, group = fence
        earliest = (stored.validated_at - self._link.clock.uncertainty) * 1e6
        latest = (stored.validated_at + self._link.clock.uncertainty) * 1e6
        times = (f"{earliest:.0f}", f"{latest:016.0f}", int(keep * 1000) + 1)
        message = (self._keys.channel, self._bus.replica_id, key)
        arguments = (
            number,
            *times,
            encode(stored, self._keys.entry(key), self._seal),
            *message,
            FENCE_MILLISECONDS,
            group.number,
            self._moment(),
        )
        if generation != self._link.generation:
            # The server that gave the fence is gone, and with it perhaps a later fence.
            outcome = Put.FENCED
        else:
            names = [self._keys.entry(key), self._keys.sequence(key), self._keys.group_fence(key)]
            outcome = await self._link.execute("put", lambda: self._put(keys=names, args=arguments), replies.put)
        self._link.meter.store_operation("redis", "put", outcome.value)
        return outcome

    async def invalidate(self, keys: Collection[str], by: Cause) -> None:
        """Raises the fences: those of entries with one message for each partition that they lie in.

        It takes a trip for `TOGETHER` entries, and for all answers to an operation one for each partition there is.
        """
        entries: dict[int, list[str]] = {}
        for key in keys:
            if not key.endswith(EVERY):
                entries.setdefault(self._keys.partition(key), []).append(key)
        await asyncio.gather(
            *(self._raise_fences(partition, together, by) for partition, together in entries.items()),
            *(self._raise_group(key, by) for key in keys if key.endswith(EVERY)),
        )

    async def _raise_fences(self, partition: int, keys: Sequence[str], by: Cause) -> None:
        for first in range(0, len(keys), TOGETHER):
            together = keys[first : first + TOGETHER]
            names = [self._keys.sequence_in(partition), *map(self._keys.entry, together)]
            # Published with the last of them: whoever receives it finds all of them raised.
            is_last = first + TOGETHER >= len(keys)
            channel, message = (self._keys.channel, KEYS_APART.join(keys)) if is_last else ("", "")
            arguments = (FENCE_MILLISECONDS, channel, self._bus.replica_id, message, by.value, self._moment())
            raise_fences = partial(self._invalidate, keys=names, args=arguments)
            await self._link.execute("invalidate", raise_fences, replies.nothing)
            self._link.meter.store_operation("redis", "invalidate", "stored")

    async def _raise_group(self, group: str, by: Cause) -> None:
        # The partition that publishes it comes last: whoever receives it finds all of them raised.
        last = self._keys.partition(group)
        for partition in sorted(range(self._keys.partitions), key=lambda partition: partition == last):
            names = [self._keys.group_fence_in(partition, group), self._keys.sequence_in(partition)]
            channel = self._keys.channel if partition == last else ""
            arguments = (channel, self._bus.replica_id, group, by.value, self._moment())
            raise_fence = partial(self._invalidate_all, keys=names, args=arguments)
            await self._link.execute("invalidate", raise_fence, replies.nothing)
        self._link.meter.store_operation("redis", "invalidate", "stored")

    async def publish(self, kind: str, key: str) -> None:
        """Publishes a message about a key to all replicas (see `store.redis.bus`), in one trip."""
        names, arguments = [self._keys.sequence(key)], (self._keys.channel, kind, self._bus.replica_id, key)
        await self._link.execute("publish", lambda: self._publish(keys=names, args=arguments), replies.nothing)

    async def acquire_lease(self, key: str, seen: Raw | None = None) -> tuple[bool, Raw, RedisFence]:
        """Whether this replica holds the lease now, what is stored and its fence, in one trip.

        Args:
            key: the entry's key.
            seen: what the last look-up found: its body is not brought again if nothing has taken its place.
        """
        generation = self._link.generation
        names = [self._keys.entry(key), self._keys.lease(key), self._keys.group_fence(key)]
        head = seen.value[:_HEAD_BYTES] if seen is not None and isinstance(seen.value, bytes) else b""
        arguments = (self._bus.replica_id, LEASE_MILLISECONDS, head, self._moment())
        is_mine, group, value = await self._link.execute(
            "acquire_lease", lambda: self._acquire(keys=names, args=arguments), replies.lease
        )
        if value is not None or seen is None:
            raw = self._read(value, group, names[0])
        else:
            raw = seen if group == seen.group else self._read(seen.value, group, names[0])
        fence = (generation, raw.number, raw.fence)
        if is_mine:
            self._leases.add((key, self._lease(fence)))
        self._link.meter.store_operation("redis", "acquire_lease", "taken" if is_mine else "refused")
        return is_mine, raw, fence

    async def release_lease(self, key: str, fence: RedisFence) -> None:
        """Gives up the lease that was acquired under the fence, in one trip."""
        lease = self._lease(fence)
        self._leases.discard((key, lease))
        names = [self._keys.lease(key), self._keys.sequence(key)]
        arguments = (lease, self._keys.channel, key, self._bus.replica_id)
        await self._link.execute("release_lease", lambda: self._release(keys=names, args=arguments), replies.nothing)

    async def keep_leases(self) -> None:
        """Renews all leases that are held, for as long as it runs: a lease that is not renewed is a dead replica's."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for key, lease in list(self._leases):
                names, arguments = [self._keys.lease(key)], (lease, LEASE_MILLISECONDS)
                renew = partial(self._renew, keys=names, args=arguments)
                try:
                    await self._link.execute("renew_lease", renew, replies.flag)
                except StoreDownError:
                    break

    def _moment(self) -> str:
        """Now, or as much later as is not known of the clock that all share: 16 digits of microseconds."""
        clock = self._link.clock
        return f"{(clock.now() + clock.uncertainty) * 1e6:016.0f}"

    def _lease(self, fence: RedisFence) -> str:
        """What acquire_lease.lua writes."""
        _, number, group = fence
        return f"{self._bus.replica_id}:{number}:{group.number}"

    def _read(self, value: object, group: object, name: str) -> Raw:
        fence = _group_fence(group)
        if not isinstance(value, bytes):
            return Raw(value, group, None, GOOD, 0, fence)
        number, _, stored_at, moment, cause = _head(value)
        # A fence may stand alone.
        stored = decode(value[_HEAD_BYTES:], name, self._seal) if len(value) > _HEAD_BYTES else None
        if stored is None:
            return Raw(value, group, None, GOOD, number, fence)
        if cause in _CAUSES:
            own = Evidence(Invalidation(moment / 1e6, _CAUSES[cause], is_open=True))
        else:
            own = GOOD.settling(stored, moment / 1e6)
        evidence = fence.evidence(stored, own, stored_at)
        if stored_at > fence.number and evidence.state is not CopyState.INVALIDATED:
            # The group's fence was lost, and nobody knows what has moved it.
            evidence = evidence.invalidated(Cause.PURGE, stored_at / 1e6)
        return Raw(value, group, stored, evidence, number, fence)

    def note_slow(self) -> None:
        """Counts an answer that was not waited for; the watcher finds out whether the server hangs."""
        self._link.meter.store_operation("redis", "get", "slow")


def is_fenced(fence: RedisFence, copy: Stored) -> bool:
    """Whether Redis knows of an invalidation that may be later than the copy of an entry that it no longer has."""
    _, number, group = fence
    # A key's own number says nothing of when. What was purged, or lost its fence, is not worse than what Redis lost.
    return number > 0 or group.written_at >= copy.validated_at


def _head(value: bytes) -> tuple[int, int, int, int, bytes]:
    """Fence, latest begin, group's number, moment in microseconds, cause."""
    numbers = [value[start : start + _NUMBER_BYTES] for start in range(0, 4 * _NUMBER_BYTES, _NUMBER_BYTES)]
    # As shared.lua reads them.
    read = (int(number) if number.isdigit() else 0 for number in numbers)
    fence, begun, stored_at, moment = (number if number <= _MOST else 0 for number in read)
    return fence, begun, stored_at, moment, value[4 * _NUMBER_BYTES : _HEAD_BYTES]


def _group_fence(value: object) -> GroupFence:
    if not isinstance(value, bytes) or len(value) != 4 * _NUMBER_BYTES or not value.isdigit():
        return GroupFence()
    write, written_at, purge, purged_at = (
        int(value[start : start + _NUMBER_BYTES]) for start in range(0, len(value), _NUMBER_BYTES)
    )
    return GroupFence(write, written_at / 1e6, purge, purged_at / 1e6)


_CAUSES = {b"w": Cause.WRITE, b"p": Cause.PURGE}
