"""The records of webhooks in Redis: each is sealed, and changes by compare-and-swap (see swap.lua)."""

import os
from collections.abc import Callable
from functools import partial

import msgspec
from typing_extensions import override

from campaign_gateway.policy.webhooks import Sending
from campaign_gateway.proxy.ports import SendingRecords
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from campaign_gateway.store.seal import NO_SECRET, Refusal, Seal, Seals

ATTEMPTS = 8
"""Each failed one means that another replica succeeded."""
KEEP_MILLISECONDS = 30 * 86_400_000
"""Longer than a log is kept: who comes back later is told that changes are missing."""
_VERSION_BYTES = 16
_NO_VERSION = b"-"
"""Nothing is kept under it, so nothing is replaced."""

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Sending)


class RedisSendingRecords(SendingRecords):
    """Records that all replicas on one Redis share. One trip to read, two for a change."""

    def __init__(self, link: RedisLink, keys: Keys, seals: Seals = NO_SECRET) -> None:
        self._link = link
        self._keys = keys
        self._swap = link.script("swap.lua")
        self._seal = Seal("webhook", seals)

    @override
    async def read(self, name: str) -> Sending | None:
        key = self._keys.webhook(name)
        try:
            return self._open(key, await self._held(key))
        except StoreDownError:
            return None

    @override
    async def change(self, name: str, step: Callable[[Sending | None, float], Sending | None]) -> Sending | None:
        key = self._keys.webhook(name)
        try:
            held = await self._held(key)
            for _ in range(ATTEMPTS):
                new = step(self._open(key, held), self._link.clock.now())
                if new is None:
                    return None
                version = os.urandom(_VERSION_BYTES // 2).hex().encode()
                value = version + self._seal.close(_encode(new), key)
                answer = await self._exchange(key, held[:_VERSION_BYTES], value)
                if answer is None:
                    return new
                held = answer
        except StoreDownError:
            return None
        return None

    async def _held(self, key: str) -> bytes:
        """What is kept there; empty where nothing is, or something that is no value.

        Raises:
            StoreDownError: Redis is lost.
        """
        return await self._exchange(key, _NO_VERSION, b"") or b""

    async def _exchange(self, key: str, version: bytes, value: bytes) -> bytes | None:
        swap = partial(self._swap, keys=[key], args=(version, value, KEEP_MILLISECONDS))
        return await self._link.execute("webhook", swap, replies.value)

    def _open(self, key: str, held: bytes) -> Sending | None:
        payload = self._seal.open(held[_VERSION_BYTES:], key) if held else None
        if payload is None:
            return None
        try:
            return _decoder.decode(payload)
        except (ValueError, RecursionError):
            self._seal.refuse(Refusal.FORM)
            return None
