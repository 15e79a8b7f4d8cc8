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
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import cached_property, partial
from importlib import resources
from typing import Any, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from campaign_gateway.proxy.ports import Meter
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis.failures import FAILURES, FULL, LEFT, LOST, MEANINGS, REFUSES, kind_of, read_reply
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.replies import convert, nothing, value

_log = logging.getLogger(__name__)
_SCRIPTS = resources.files(__package__ or "") / "scripts"
_T = TypeVar("_T")

CLOCK_NAME = "clock"
"""In a cluster, the node that would hold this key gives the time."""
WATCH_SECONDS = 0.5
"""How often the server is asked for its time, and whether it can be written: sets the clock, and finds a lost server
again."""
LASTING_LOOKS = 4
"""So many looks in a row that find a server full, or not, are a change of its state."""

AT_ONCE = 16
"""Commands under way at a time; the next waits. Well below the pool, so that nothing ever waits for a connection."""

MOST_WORDS = 200
"""Characters of an error that are logged."""
LONGEST_AHEAD = 16
_AHEAD = re.compile(rb"[0-9]{1,9}\.[0-9]{6}")
"""Thirty years at most: more is nobody's clock."""
_DEFAULT_KEYS = Keys("cg")
_RUN_ID = re.compile(rb"run_id:(\w+)")


class StoreDownError(Exception):
    """Redis did not do what it was asked. Its text is the kind of failure, one of a closed set."""


class AnotherServerError(RedisConnectionError):
    """A new connection reaches another server than the others did. That is no failure where nothing was known."""


class RedisLink:
    """One client and what is known of its server."""

    def __init__(
        self, client: Any, clock: StoreClock, meter: Meter, keys: Keys = _DEFAULT_KEYS, address: str = ""
    ) -> None:
        """A link.

        Args:
            client: one of redis-py (`redis.asyncio`, or one that behaves like it).
            clock: set by the server's, and by what replicas keep under `keys.clock`.
            meter: where operations are counted.
            keys: the names that the link is for.
            address: of the server, for log lines.
        """
        self.client = client
        self.keys = keys
        self.sentinels: Sequence[Any] = ()
        """The clients that know where the server is; the other one leaves them open."""
        self._ahead = 0.0
        self.clock = clock
        self.meter = meter
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.address = address
        """Where the server is, for people."""
        self.is_up = False
        self.state = "unknown"
        """`ok`, or the kind of the last failure; while the link is up, that of what the server does not do."""
        self.departures = 0
        """How often all connections were left, those that only listen among them."""
        self.on_departure: Callable[[], None] = lambda: None
        """Called when they are."""
        self._full_looks = 0
        """How many looks in a row have found the server other than the state says: full, or not."""
        self.generation = 0
        """Rises whenever another server answers than before: what that one held may be lost, fences among it."""
        self._runs: dict[str, str] = {}
        """Each server's own name for its run, by the server's name in a cluster."""

    @property
    def fault(self) -> str | None:
        """What is wrong with the server, for people; None while it does all that is asked of it."""
        if self.state == "ok":
            return None
        return f"{self.state} at {self.address}: {MEANINGS.get(self.state, REFUSES)}"

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
        """Closes the connections, those to sentinels too."""
        for client in (self.client, *self.sentinels):
            await client.aclose()

    def script(self, name: str) -> Any:
        """A Lua script of this room, to be called with `keys` and `args`; loaded again where the server forgot it."""
        texts = (_SCRIPTS.joinpath(part).read_text("utf-8") for part in ("shared.lua", name))
        return self.client.register_script("".join(texts))

    @cached_property
    def _probe(self) -> Any:
        return self.script("probe.lua")

    async def execute(
        self, operation: str, command: Callable[[], Awaitable[object]], read: Callable[[object], _T]
    ) -> _T:
        """The command's reply, as `read` (see `store.redis.replies`) makes it out.

        Raises:
            StoreDownError: it failed, or the server is known to be lost and was not asked.
        """
        # Those that wait when the server is lost get the error of the first command that finds out.
        async with self._slots:
            if not self.is_up:
                raise StoreDownError(self.state)
            departures = self.departures
            try:
                try:
                    return await read_reply(command, read)
                except NoScriptError:
                    # Forgotten between its loading and its call: nothing was done.
                    return await read_reply(command, read)
            except FAILURES as error:
                kind = kind_of(error)
                self.meter.store_operation("redis", operation, kind)
                # What an old connection says is no news of those made since.
                if kind in LOST or (kind in LEFT and departures == self.departures):
                    await self._leave(kind, str(error))
                raise StoreDownError(kind) from error

    async def look(self) -> None:
        """Asks the server for its time, sets the clock by it, and finds out whether it can be written.

        One that refuses, for any reason but that it is full, is lost.
        """
        try:
            clock = await self._find_clock()
            # Before the time: nobody writes down a step of the server's clock before it is to be seen there.
            ahead = await self._read_ahead()
            sent_at = time.monotonic()
            seconds, microseconds = await read_reply(lambda: self.client.time(**clock), _time)
            received_at = time.monotonic()
            is_full = await self._is_full()
        except FAILURES as error:
            kind = kind_of(error)
            self.meter.store_operation("redis", "look", kind)
            if self.is_up or not isinstance(error, AnotherServerError):
                await self._leave(kind, str(error))
            return
        shared = seconds + microseconds / 1e6 + ahead
        if behind := self.clock.behind(shared, sent_at, received_at):
            shared += await self._make_up(ahead, behind)
        self.clock.set(shared, sent_at, received_at)
        self.clock.ahead = self._ahead
        if not self.is_up:
            _log.info("redis is connected", extra={"fields": {"redis": self.address}})
            self.is_up, self.state = True, "ok"
            if not self._runs:
                # A server that does not name its run may be another one than the one that was lost.
                self.generation += 1
            await self._warn_of_eviction()
        await self._note_full(is_full=is_full)

    async def _is_full(self) -> bool:
        """Whether the server takes nothing new for want of memory; in a cluster, whether any primary does.

        Raises:
            RedisError: it takes nothing at all, as one does that is no primary any longer and still answers questions.
        """
        is_full = False
        for name in self._probes():
            try:
                await read_reply(lambda: self._probe(keys=[name]), nothing)  # noqa: B023
            except FAILURES as error:
                if kind_of(error) != FULL:
                    raise
                is_full = True
                self.meter.store_operation("redis", "look", FULL)
        return is_full

    def _probes(self) -> Collection[str]:
        """A key on each server that a key of ours can lie on."""
        names = [self.keys.probe_in(partition) for partition in range(self.keys.partitions)]
        if not isinstance(self.client, RedisCluster):
            return names
        return {getattr(self.client.get_node_from_key(name), "name", None): name for name in names}.values()

    async def _note_full(self, *, is_full: bool) -> None:
        was_full = self.state == FULL
        self._full_looks = self._full_looks + 1 if is_full != was_full else 0
        if self._full_looks < LASTING_LOOKS:
            return
        self._full_looks = 0
        if was_full:
            _log.info("redis takes new answers again", extra={"fields": {"redis": self.address}})
            self.state = "ok"
        else:
            _log.warning("redis is full (%s): %s", FULL, MEANINGS[FULL], extra={"fields": {"redis": self.address}})
            self.state = FULL
            await self.depart()

    async def _find_clock(self) -> dict[str, Any]:
        """Whom to ask for the time: in a cluster one node, the same for all replicas, once all nodes have answered."""
        if not isinstance(self.client, RedisCluster):
            return {}
        await self.client.ping(target_nodes=RedisCluster.PRIMARIES)
        return {"target_nodes": self.client.get_node_from_key(CLOCK_NAME)}

    async def _read_ahead(self) -> float:
        try:
            ahead = await read_reply(partial(self.client.get, self.keys.clock), value)
        except FAILURES as error:
            if kind_of(error) in LOST | LEFT:
                raise
            # A user without the right to it.
            return self._ahead
        self._ahead = float(ahead) if ahead is not None and _AHEAD.fullmatch(ahead) else 0.0
        return self._ahead

    async def _make_up(self, ahead: float, behind: float) -> float:
        """Has all replicas add to the server's time what it is behind. Returns that, or 0 where it cannot be done."""
        if len(text := f"{ahead + behind:.6f}") > LONGEST_AHEAD:
            return 0.0
        try:
            await self.client.set(self.keys.clock, text)
        except FAILURES:
            return 0.0
        _log.warning("redis' clock went back by %.1f s: all replicas go on by the time before it", behind)
        self._ahead = ahead + behind
        return behind

    async def _warn_of_eviction(self) -> None:
        try:
            policy = await read_reply(
                lambda: self.client.config_get("maxmemory-policy"),
                lambda reply: dict(convert(reply, dict[str | bytes, object])).get("maxmemory-policy", "noeviction"),
            )
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
            AnotherServerError: it does not, for the first one that notices: the command that wanted the connection was
                prepared with what another server said.
            redis.exceptions.InvalidResponse: what answers is no Redis.
        """
        await read_reply(connection.on_connect, lambda _: None)
        await connection.send_command("INFO", "server")
        try:
            match = await read_reply(partial(connection.read_response, disable_decoding=True), _find_run_id)
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
                raise AnotherServerError("another server answers")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.look()

    def _lose(self, kind: str, words: str = "") -> None:
        if self.is_up or self.state != kind:
            text, meaning = "redis is unavailable (%s): %s; continuing without it", MEANINGS.get(kind, REFUSES)
            fields = {"redis": self.address, "error": words[:MOST_WORDS]}
            _log.warning(text, kind, meaning, extra={"fields": fields})
        self.is_up = False
        self.state = kind
        self._full_looks = 0

    async def _leave(self, kind: str, words: str = "") -> None:
        self._lose(kind, words)
        if kind in LEFT:
            await self.depart()

    async def depart(self) -> None:
        """Leaves all connections, each after the command that it is used for: the next commands go out on new ones."""
        self.departures += 1
        self.on_departure()
        if isinstance(self.client, RedisCluster):
            for node in self.client.get_nodes():
                node.update_active_connections_for_reconnect()
                await node.disconnect_free_connections()
            return
        pool = self.client.connection_pool
        await pool.update_active_connections_for_reconnect()
        await pool.disconnect(inuse_connections=False)


def _find_run_id(reply: object) -> re.Match[bytes] | None:
    return _RUN_ID.search(convert(reply, bytes))


def _time(reply: object) -> tuple[int, int]:
    return convert(reply, tuple[int, int])
