"""Entries in Redis, shared by all replicas.

One value per entry: its fence, the latest moment its read can have begun, and the encoded entry. A look-up is one GET;
a store is one script, atomic on the server.
"""

from service.policy.entry import Entry
from service.proxy.ports import Put
from service.store.codec import decode, encode
from service.store.link import RedisLink

FENCE_MILLISECONDS = 900_000
"""How long an invalidation is remembered: longer than any fill can be under way."""

_HEAD_BYTES = 32
_FENCE_BYTES = 16

SharedFence = tuple[int, int]
"""The link's generation at the look-up, and the number that stood at the key."""


class RedisStore:
    """The shared layer. Its calls raise `StoreDownError`; `store.layers` decides what that means."""

    def __init__(self, link: RedisLink, prefix: str) -> None:
        self._link = link
        self._prefix = prefix
        self._put = link.script("put.lua")
        self._invalidate = link.script("invalidate.lua")

    async def get(self, key: str) -> tuple[Entry | None, SharedFence]:
        """The entry and the fence, in one trip."""
        name = self._name(key)
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
        arguments = (number, f"{earliest:.0f}", f"{latest:016.0f}", int(keep * 1000) + 1, encode(entry))
        if generation != self._link.generation:
            # The server that gave the fence is gone, and with it perhaps a later fence.
            outcome = Put.FENCED
        else:
            name = self._name(key)
            answer = await self._link.ask("put", lambda: self._put(keys=[name], args=arguments))
            outcome = Put(answer.decode() if isinstance(answer, bytes) else answer)
        self._link.meter.store_operation("redis", "put", outcome.value)
        return outcome

    async def invalidate(self, key: str) -> None:
        """Raises the fence, in one trip."""
        name = self._name(key)
        await self._link.ask("invalidate", lambda: self._invalidate(keys=[name], args=[FENCE_MILLISECONDS]))
        self._link.meter.store_operation("redis", "invalidate", "stored")

    def _name(self, key: str) -> str:
        return f"{self._prefix}:e1:{{{key}}}"


def _read(value: object) -> tuple[Entry | None, int]:
    if not isinstance(value, bytes):
        return None, 0
    head = value[:_FENCE_BYTES]
    return decode(value[_HEAD_BYTES:]), int(head) if head.isdigit() else 0
