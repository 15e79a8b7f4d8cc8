"""The connection to Redis: time-outs, a breaker, and one log line per change of state.

Every command has a time-out and nothing is retried. After a failure the server is left alone until a watcher finds it
again, so a lost Redis costs a request at most one time-out and then nothing. A cluster counts as one server that is
there when all its primaries are, since the keys of any request may lie on any of them.

Its clock gives the time to all replicas. It may be set back, or another server's that is behind may take its place. The
first replica to notice writes down for all what the shared clock is ahead of the server's from now on, so that it goes
on as monotonic clocks do. A clock that was set forward is followed: nobody can tell that from having slept, and
nothing is taken for younger than it is.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from campaign_gateway.proxy.ports import Meter
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock

_log = logging.getLogger(__name__)
_SCRIPTS = resources.files(__package__ or "") / "scripts"
_T = TypeVar("_T")

CLOCK_NAME = "clock"
"""In a cluster, the node that would hold this key gives the time."""
WATCH_SECONDS = 0.5
"""How often the server is asked for its time: sets the clock, and finds a lost server again."""

AT_ONCE = 16
"""Commands under way at a time; the next waits. Well below the pool, so that nothing ever waits for a connection."""

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    # Subclasses first: a refused password and a loading server are ConnectionErrors to redis-py.
    (AuthenticationError, "auth"),
    (NoPermissionError, "noperm"),
    (BusyLoadingError, "loading"),
    (RedisTimeoutError, "timeout"),
    (RedisConnectionError, "connection"),
    (MasterDownError, "masterdown"),
    (ClusterDownError, "cluster"),
    (RedisClusterException, "cluster"),
    (ReadOnlyError, "readonly"),
    (OutOfMemoryError, "oom"),
    (MovedError, "moved"),
    (NoScriptError, "noscript"),
    (OSError, "connection"),
)
_LOST = frozenset({"auth", "loading", "masterdown", "busy", "timeout", "connection", "cluster"})
"""Kinds after which the server is of no use at all; the others concern writes, or one command."""
FAILURES = (RedisError, RedisClusterException, OSError)
"""What redis-py raises when a command does not do what it was sent for."""
LONGEST_AHEAD = 16
_AHEAD = re.compile(rb"[0-9]{1,9}\.[0-9]{6}")
"""Thirty years at most: more is nobody's clock."""
_RUN_ID = re.compile(rb"run_id:(\w+)")


class StoreDownError(Exception):
    """Redis did not do what it was asked. Its text is the kind of failure, one of a closed set."""


class RedisLink:
    """One client and what is known of its server."""

    def __init__(self, client: Any, clock: StoreClock, meter: Meter, clock_key: str = "") -> None:
        """A link.

        Args:
            client: one of redis-py (`redis.asyncio`, or one that behaves like it).
            clock: set by the server's.
            meter: where operations are counted.
            clock_key: where replicas keep what the clock that they share is ahead of the server's; empty for nowhere.
        """
        self.client = client
        self._clock_key = clock_key
        self._ahead = 0.0
        self.clock = clock
        self.meter = meter
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.is_up = False
        self.state = "not asked yet"
        """`ok`, or the kind of the last failure."""
        self.generation = 0
        """Rises whenever another server answers than before: what that one held may be lost, fences among it."""
        self._runs: dict[str, str] = {}
        """Each server's own name for its run, by the server's name in a cluster."""

    def run_behind(self, name: str) -> str:
        """What the server that holds the key `name` calls its run; empty while unknown."""
        if not isinstance(self.client, RedisCluster):
            return self._runs.get("", "")
        node = self.client.get_node_from_key(name)
        return self._runs.get(node.name, "") if node is not None else ""

    async def start(self, tasks: Tasks) -> None:
        """Asks the server once, and goes on watching it in the background."""
        await self.look()
        tasks.supervise(self._watch, name="watch redis")

    async def close(self) -> None:
        """Closes the connections."""
        await self.client.aclose()

    def script(self, name: str) -> Any:
        """A Lua script of this room, to be called with `keys` and `args`; loaded again where the server forgot it."""
        texts = (_SCRIPTS.joinpath(part).read_text("utf-8") for part in ("shared.lua", name))
        return self.client.register_script("".join(texts))

    async def execute(self, operation: str, command: Callable[[], Awaitable[_T]]) -> _T:
        """The command's answer.

        Raises:
            StoreDownError: it failed, or the server is known to be lost and was not asked.
        """
        # Those that wait when the server is lost get the error of the first command that finds out.
        async with self._slots:
            if not self.is_up:
                raise StoreDownError(self.state)
            try:
                try:
                    return await command()
                except NoScriptError:
                    # Forgotten between its loading and its call: nothing was done.
                    return await command()
            except FAILURES as error:
                kind = _kind(error)
                self.meter.store_operation("redis", operation, kind)
                if kind in _LOST:
                    self._lose(kind)
                raise StoreDownError(kind) from error

    async def look(self) -> None:
        """Asks the server for its time, and sets the clock by it; one that refuses, for any reason, is lost."""
        try:
            clock = await self._find_clock()
            # Before the time: nobody writes down a step of the server's clock before it is to be seen there.
            ahead = await self._read_ahead()
            sent_at = time.monotonic()
            seconds, microseconds = await self.client.time(**clock)
            received_at = time.monotonic()
            if not self.is_up:
                # One that is loading, or a copy without its master, gives its time and nothing else.
                await self.client.ping()
        except FAILURES as error:
            kind = _kind(error)
            self.meter.store_operation("redis", "look", kind)
            self._lose(kind)
            return
        shared = seconds + microseconds / 1e6 + ahead
        if behind := self.clock.behind(shared, sent_at, received_at):
            shared += await self._make_up(ahead, behind)
        self.clock.set(shared, sent_at, received_at)
        if not self.is_up:
            _log.info("redis is connected")
            self.is_up = True
            if not self._runs:
                # A server that does not name its run may be another one than the one that was lost.
                self.generation += 1
            await self._warn_of_eviction()
        self.state = "ok"

    async def _find_clock(self) -> dict[str, Any]:
        """Whom to ask for the time: in a cluster one node, the same for all replicas, once all nodes have answered."""
        if not isinstance(self.client, RedisCluster):
            return {}
        await self.client.ping(target_nodes=RedisCluster.PRIMARIES)
        return {"target_nodes": self.client.get_node_from_key(CLOCK_NAME)}

    async def _read_ahead(self) -> float:
        if not self._clock_key:
            return 0.0
        try:
            value = await self.client.get(self._clock_key)
        except FAILURES as error:
            if _kind(error) in _LOST:
                raise
            # A user without the right to it.
            return self._ahead
        self._ahead = float(value) if isinstance(value, bytes) and _AHEAD.fullmatch(value) else 0.0
        return self._ahead

    async def _make_up(self, ahead: float, behind: float) -> float:
        """Has all replicas add to the server's time what it is behind. Returns that, or 0 where it cannot be done."""
        if not self._clock_key or len(text := f"{ahead + behind:.6f}") > LONGEST_AHEAD:
            return 0.0
        try:
            await self.client.set(self._clock_key, text)
        except FAILURES:
            return 0.0
        _log.warning("redis' clock went back by %.1f s: all replicas go on by the time before it", behind)
        self._ahead = ahead + behind
        return behind

    async def _warn_of_eviction(self) -> None:
        try:
            policy = (await self.client.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
        except FAILURES:
            # Managed servers refuse the question.
            return
        if policy not in {"noeviction", b"noeviction"}:
            _log.warning(
                "redis evicts keys (maxmemory-policy %s): without the ledger, no call is made until all replicas"
                " have reported theirs; set noeviction",
                policy,
            )

    async def greet(self, connection: Any) -> None:
        """Called on each new connection: finds out whether it reaches the same server as the others.

        Raises:
            redis.exceptions.ConnectionError: it does not, for the first one that notices: the command that wanted the
                connection was prepared with what another server said.
        """
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            match = _RUN_ID.search(await connection.read_response(disable_decoding=True))
        except ResponseError:
            # A user without the right to ask. Nothing is known of restarts then but lost connections.
            return
        run_id = match[1].decode() if match else ""
        name = f"{connection.host}:{connection.port}" if isinstance(self.client, RedisCluster) else ""
        if run_id != self._runs.get(name):
            # A cluster's servers are met one after the other until all have been.
            is_new = self.is_up if isinstance(self.client, RedisCluster) else name in self._runs
            self._runs[name] = run_id
            self.generation += 1
            if is_new:
                raise RedisConnectionError("another server answers")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.look()

    def _lose(self, kind: str) -> None:
        if self.is_up or self.state != kind:
            _log.warning("redis is unavailable (%s): continuing without it", kind)
        self.is_up = False
        self.state = kind


def _kind(error: Exception) -> str:
    if isinstance(error, ResponseError) and str(error).startswith("BUSY "):
        # A script has run for too long; redis-py has no class for it.
        return "busy"
    return next((kind for type_, kind in _KINDS if isinstance(error, type_)), "other")
