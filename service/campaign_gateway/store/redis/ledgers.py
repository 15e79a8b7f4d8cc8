"""Where the accounts' ledgers are kept for all replicas: in Redis.

A change is a pure function of the ledger. It is applied by compare-and-swap: read, compute, swap unless
somebody else did first, and then again on what they left. So every replica runs the arithmetic that is tested without
Redis.
"""

import asyncio
import os
import random
from collections.abc import Collection
from functools import partial
from typing import TypeVar

import msgspec
from typing_extensions import override

from campaign_gateway.policy.ledger import Ledger
from campaign_gateway.proxy.ports import LedgerLostError, Ledgers
from campaign_gateway.store.local.ledgers import Step
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError

_T = TypeVar("_T")

ATTEMPTS = 50
"""Each failed one means that another replica succeeded."""
KEEP_MILLISECONDS = 3_600_000
NOTICE_SECONDS = 3.0
"""How long an account stays noticed: each replica looks once a second."""
_VERSION_BYTES = 16

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Ledger)


class RedisLedgers(Ledgers):
    """The ledgers of all replicas on one Redis. One trip for a change that nobody contends."""

    is_local = False
    reports_ends = False

    def __init__(self, link: RedisLink, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._swap = link.script("swap.lua")
        self._notify = link.script("notify.lua")
        self._last: dict[str, bytes] = {}

    @override
    def now(self) -> float:
        return self._link.clock.now()

    @property
    @override
    def uncertainty(self) -> float:
        return self._link.clock.uncertainty

    @override
    def server(self, account: str) -> str:
        return self._link.run_behind(self._keys.ledger(account))

    @override
    async def change(self, account: str, step: Step[_T]) -> _T:
        name = self._keys.ledger(account)
        held = self._last.get(account, b"")
        for attempt in range(ATTEMPTS):
            ledger, result = step(_decode(held), self.now())
            value = os.urandom(_VERSION_BYTES // 2).hex().encode() + _encode(ledger)
            arguments = (held[:_VERSION_BYTES], value, KEEP_MILLISECONDS)
            swap = partial(self._swap, keys=[name], args=arguments)
            try:
                answer = await self._link.execute("swap", swap, replies.value)
            except StoreDownError as error:
                raise LedgerLostError(str(error)) from error
            if answer is None:
                self._last[account] = value
                self._link.meter.store_operation("redis", "swap", "stored")
                return result
            self._link.meter.store_operation("redis", "swap", "contended")
            held = answer
            if attempt:
                await asyncio.sleep(random.random() * 0.002 * attempt)  # noqa: S311 - spreads the contenders
        raise LedgerLostError("contended")

    @override
    async def notify(self, accounts: Collection[str]) -> frozenset[str]:
        """One trip."""
        arguments = (self.now(), NOTICE_SECONDS, *accounts)
        try:
            notify = partial(self._notify, keys=[self._keys.noticed], args=arguments)
            names = await self._link.execute("notify", notify, replies.names)
        except StoreDownError as error:
            raise LedgerLostError(str(error)) from error
        return frozenset(name.decode("utf-8", "replace") for name in names)


def _decode(value: bytes) -> Ledger | None:
    try:
        return _decoder.decode(value[_VERSION_BYTES:]) if value else None
    except (ValueError, RecursionError):
        # Somebody else's bytes. The swap replaces them; every replica then puts its slots back.
        return None
