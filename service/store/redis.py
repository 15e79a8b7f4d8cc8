"""Entries in Redis, shared by all replicas.

One value per entry: its fence, the latest moment its read can have begun, and the encoded entry. A look-up is one GET;
a store is one script, atomic on the server. Every command has a time-out, nothing is retried, and after a failure the
server is left alone until a watcher finds it again, so a lost Redis costs a request at most one time-out and then
nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.policy.entry import Entry
from service.proxy.ports import Meter, Put
from service.proxy.tasks import Tasks
from service.store.clock import StoreClock
from service.store.codec import decode, encode

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

WATCH_SECONDS = 0.5
"""How often the server is asked for its time: sets the clock, and finds a lost server again."""
POOL_SIZE = 64
POOL_WAIT_SECONDS = 0.1
FENCE_MILLISECONDS = 900_000
"""How long an invalidation is remembered: longer than any fill can be under way."""

_HEAD_BYTES = 32
_FENCE_BYTES = 16

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    # Subclasses first: a refused password and a loading server are ConnectionErrors to redis-py.
    (AuthenticationError, "auth"),
    (NoPermissionError, "auth"),
    (BusyLoadingError, "loading"),
    (RedisTimeoutError, "timeout"),
    (RedisConnectionError, "connection"),
    (ReadOnlyError, "readonly"),
    (OutOfMemoryError, "oom"),
    (OSError, "connection"),
)
_LOST = frozenset({"auth", "loading", "timeout", "connection"})
"""Kinds after which the server is of no use at all; the others concern writes, or one command."""


class StoreDownError(Exception):
    """Redis did not do what it was asked."""


def connect(url: str, timeout: float) -> redis.asyncio.Redis:
    """A client whose commands end within about `timeout` seconds, with redis-py's own retries off."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        timeout=POOL_WAIT_SECONDS,
        max_connections=POOL_SIZE,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return redis.asyncio.Redis.from_pool(pool)


def _script(name: str) -> str:
    return resources.files("service.store").joinpath(name).read_text("utf-8")


class RedisStore:
    """The shared layer. Its calls raise `StoreDownError`; `store.layers` decides what that means."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str, clock: StoreClock, meter: Meter) -> None:
        self._client = client
        self._prefix = prefix
        self._clock = clock
        self._meter = meter
        self._put = client.register_script(_script("put.lua"))
        self._invalidate = client.register_script(_script("invalidate.lua"))
        self.is_up = False
        self.state = "not asked yet"
        """`ok`, or the kind of the last failure."""

    async def start(self, tasks: Tasks) -> None:
        """Asks the server once, and goes on watching it in the background."""
        await self.look()
        tasks.spawn(self._watch(), name="watch redis")

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, key: str) -> tuple[Entry | None, int]:
        """The entry and the fence, in one trip."""
        value = await self._ask("get", lambda: self._client.get(self._name(key)))
        if not isinstance(value, bytes):
            self._meter.store_operation("redis", "get", "miss")
            return None, 0
        head = value[:_FENCE_BYTES]
        fence = int(head) if head.isdigit() else 0
        entry = decode(value[_HEAD_BYTES:])
        self._meter.store_operation("redis", "get", "hit" if entry is not None else "miss")
        return entry, fence

    async def put(self, key: str, entry: Entry, fence: int, keep: float) -> Put:
        """Stores under the fence, in one trip."""
        earliest = (entry.proven_at - self._clock.error) * 1e6
        latest = (entry.proven_at + self._clock.error) * 1e6
        arguments = (fence, f"{earliest:.0f}", f"{latest:016.0f}", int(keep * 1000) + 1, encode(entry))
        answer = await self._ask("put", lambda: self._put(keys=[self._name(key)], args=arguments))
        outcome = Put(answer.decode() if isinstance(answer, bytes) else answer)
        self._meter.store_operation("redis", "put", outcome.value)
        return outcome

    async def invalidate(self, key: str) -> None:
        """Raises the fence, in one trip."""
        name = self._name(key)
        await self._ask("invalidate", lambda: self._invalidate(keys=[name], args=[FENCE_MILLISECONDS]))
        self._meter.store_operation("redis", "invalidate", "stored")

    async def look(self) -> None:
        """Asks the server for its time, and sets the clock by it."""
        asked = time.monotonic()
        try:
            seconds, microseconds = await self._client.time()
        except (RedisError, OSError) as error:
            self._note(error)
            return
        self._clock.set(seconds + microseconds / 1e6, asked, time.monotonic())
        if not self.is_up:
            _log.info("redis is there")
        self.is_up = True
        self.state = "ok"

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.look()

    async def _ask(self, operation: str, command: Callable[[], Awaitable[_T]]) -> _T:
        if not self.is_up:
            raise StoreDownError(self.state)
        try:
            return await command()
        except (RedisError, OSError) as error:
            kind = self._note(error)
            self._meter.store_operation("redis", operation, kind)
            raise StoreDownError(kind) from error

    def _note(self, error: Exception) -> str:
        kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), "other")
        if kind in _LOST:
            if self.is_up or self.state != kind:
                _log.warning("redis is lost (%s): going on without it", kind)
            self.is_up = False
            self.state = kind
        return kind

    def _name(self, key: str) -> str:
        return f"{self._prefix}:e1:{key}"
