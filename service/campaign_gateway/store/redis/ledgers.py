"""Where the accounts' ledgers are kept for all replicas: in Redis.

A change is a pure function of the ledger. It is applied by compare-and-swap: read, compute, swap unless
somebody else did first, and then again on what they left. So every replica runs the arithmetic that is tested without
Redis.

A ledger is sealed, and numbered by its changes. One that was put back from before changes which this replica has seen
is a lost ledger: each replica puts its own calls back before anybody makes another. So it is where another key, another
release or somebody else has written it, and then there are others, though nobody here knows them.
"""

import asyncio
import os
import random
from collections.abc import Collection
from functools import partial
from typing import TypeVar

import msgspec
from typing_extensions import override

from campaign_gateway.policy.ledger import UNREADABLE, Ledger
from campaign_gateway.proxy.ports import LedgerLostError, Ledgers
from campaign_gateway.store.local.ledgers import Step
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from campaign_gateway.store.seal import NO_SECRET, Refusal, Seal, Seals

_T = TypeVar("_T")

ATTEMPTS = 50
"""Each failed one means that another replica succeeded."""
KEEP_MILLISECONDS = 3_600_000
NOTICE_SECONDS = 3.0
"""How long an account stays noticed: each replica looks once a second."""
_VERSION_BYTES = 16

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(tuple[int, Ledger])


class RedisLedgers(Ledgers):
    """The ledgers of all replicas on one Redis. One trip for a change that nobody contends."""

    is_local = False
    reports_ends = False

    def __init__(self, link: RedisLink, keys: Keys, seals: Seals = NO_SECRET) -> None:
        self._link = link
        self._keys = keys
        self._swap = link.script("swap.lua")
        self._notify = link.script("notify.lua")
        self._last: dict[str, bytes] = {}
        self._seal = Seal("ledger", seals)
        self._numbers: dict[str, int] = {}
        """Of the latest change of each ledger that this replica has seen."""

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
            ledger, result = step(self._read(account, held), self.now())
            number = self._numbers.get(account, 0) + 1
            value = os.urandom(_VERSION_BYTES // 2).hex().encode() + self._seal.close(_encode((number, ledger)), name)
            arguments = (held[:_VERSION_BYTES], value, KEEP_MILLISECONDS)
            swap = partial(self._swap, keys=[name], args=arguments)
            try:
                answer = await self._link.execute("swap", swap, replies.value)
            except StoreDownError as error:
                raise LedgerLostError(str(error)) from error
            if answer is None:
                self._last[account], self._numbers[account] = value, number
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

    async def is_foreign(self, account: str) -> bool:
        """Whether a ledger is there that another key, another release or somebody else has written. One trip.

        Raises:
            LedgerLostError: that cannot be known.
        """
        get = partial(self._link.client.mget, [self._keys.ledger(account)])
        try:
            (value,) = await self._link.execute("get", get, replies.values)
        except StoreDownError as error:
            raise LedgerLostError(str(error)) from error
        return self._read(account, value or b"") is UNREADABLE

    def _read(self, account: str, value: bytes) -> Ledger | None:
        """The ledger; None where it was lost, `UNREADABLE` where no replica with our key has written it."""
        if not value:
            return None
        payload = self._seal.open(value[_VERSION_BYTES:], self._keys.ledger(account))
        if payload is None:
            return UNREADABLE
        try:
            number, ledger = _decoder.decode(payload)
        except (ValueError, RecursionError):
            # Another version's. The swap replaces it; every replica then puts its slots back.
            self._seal.refuse(Refusal.FORM)
            return UNREADABLE
        seen = self._numbers.get(account, 0)
        self._numbers[account] = max(seen, number)
        # A server that was restarted from what it had saved shows by its name, and `policy.reports` has rules for it.
        is_restarted = "" not in {ledger.server, self.server(account)} and ledger.server != self.server(account)
        return None if number < seen and not is_restarted else ledger
