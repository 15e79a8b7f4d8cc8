"""Invalidations that Redis could not take, kept until it has taken them.

1. An invalidation stays here until it was delivered: a look-up beside the delivery must not come before it.
2. A later invalidation of a key takes the place of an earlier one; a write's outweighs a purge's.
3. Whoever is about to use what Redis holds of a key flushes the key first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from campaign_gateway.policy.evidence import Cause
from campaign_gateway.proxy.request import group_of
from campaign_gateway.store.redis.link import StoreDownError

FLUSH_SECONDS = 0.25
"""How often a lost Redis is tried again."""
MAX_KEYS = 100_000
"""Beyond them the oldest are forgotten, and what Redis holds of them lives by its age."""


@dataclass(frozen=True, slots=True, eq=False)
class _Undelivered:
    """One invalidation; a later one of the same key is another."""

    by: Cause


class Outbox:
    """The invalidations that are still to be delivered, by key."""

    def __init__(self, deliver: Callable[[str, Cause], Awaitable[None]]) -> None:
        """An empty outbox.

        Args:
            deliver: invalidates a key, or raises `StoreDownError`.
        """
        self._deliver = deliver
        self._by_key: dict[str, _Undelivered] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: str, by: Cause) -> None:
        """Keeps an invalidation of an entry's key, or of all answers to an operation."""
        earlier = self._by_key.pop(key, None)
        self._by_key[key] = _Undelivered(Cause.WRITE if earlier is not None and earlier.by is Cause.WRITE else by)
        if len(self._by_key) > MAX_KEYS:
            del self._by_key[next(iter(self._by_key))]

    async def flush(self, key: str) -> None:
        """Delivers what is kept of the key and of its operation.

        Raises:
            StoreDownError: it stays undelivered.
        """
        if self._by_key:
            await self._send(key)
            await self._send(group_of(key))

    async def keep_flushing(self) -> None:
        """Delivers whatever is kept as soon as Redis takes it, for as long as it runs."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            for key in list(self._by_key):
                try:
                    await self._send(key)
                except StoreDownError:
                    break

    async def _send(self, key: str) -> None:
        undelivered = self._by_key.get(key)
        if undelivered is None:
            return
        await self._deliver(key, undelivered.by)
        if self._by_key.get(key) is undelivered:
            del self._by_key[key]
