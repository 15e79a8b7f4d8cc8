"""The streams' logs of changes in Redis, for all replicas.

A log is a Redis stream. Beside it lies what it has said last: of each campaign, and of the log itself. Both lie with
the index and change by scripts that change nothing if somebody else has added to them meanwhile; what a list shows is
added by the one that publishes the index (see `store.redis.index`). The laws of this module:

1. What is added follows from what was said last, as it was read. Where that has changed, it is read and decided again.
2. Each entry names the one before it. An entry that does not follow the one that was received before shows a gap: the
   window begins anew, and who listens is told so.
3. Entries are sealed for their log, which has a name of its own: those of one that is gone are nothing to the next.
4. One blocking read for all logs of a partition, on a connection of its own; only for streams that somebody listens to.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from typing_extensions import override

from campaign_gateway.policy.changes import (
    Addition,
    Change,
    Finding,
    LogState,
    Told,
    add,
    begun,
    degradations,
    findings_in,
    state_after,
    written,
)
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState
from campaign_gateway.proxy.change_window import KEEP_SECONDS, MAX_CHANGES, START, Entry, Position, Window
from campaign_gateway.proxy.ports import ChangeLog
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.failures import FAILURES, LEFT, LOST, kind_of, read_reply
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from campaign_gateway.store.redis.said import Said
from campaign_gateway.store.seal import NO_SECRET, Refusal, Seal, Seals

LISTEN_SECONDS = 1.0
"""How long a read waits for entries."""
LOOK_SECONDS = 5.0
"""How often it is looked whether a log is still the same, which a Redis that was emptied does not say."""
RETRY_SECONDS = 0.5
FORGET_SECONDS = 120.0
"""After which a log that nobody has asked for is no longer followed."""
AT_A_TIME = 1_000
"""Entries in one reply."""
MAX_TRIES = 8
"""How often it is tried to add something, while others add to the log."""
SHORTEST_KEEP_MILLISECONDS = 3_600_000
"""What was said last is kept for as long as the index at least: nothing that it shows is news then."""
DONE, AGAIN = 1, 2
"""What scripts return; see publish_index.lua."""
_STATE = "#"
"""Where the log's own state is, among campaigns: it is no id."""
_NAME_BYTES = 8
_ID = re.compile(rb"([0-9]{1,16})-([0-9]{1,16})")

_T = TypeVar("_T")
_Read = tuple[Position, Position, Entry | None]

_encode = msgspec.msgpack.Encoder().encode
_states = msgspec.msgpack.Decoder(LogState)
_tolds = msgspec.msgpack.Decoder(Told)
_changes = msgspec.msgpack.Decoder(Change)


class RedisChanges(ChangeLog):
    """Logs that all replicas on one Redis share."""

    def __init__(
        self,
        link: RedisLink,
        keys: Keys,
        seals: Seals = NO_SECRET,
        most: int = MAX_CHANGES,
        keep: float = KEEP_SECONDS,
        listener: RedisLink | None = None,
    ) -> None:
        """Logs.

        Args:
            link: to Redis.
            keys: the names there.
            seals: how what is kept there is sealed.
            most: entries that a log is kept for ...
            keep: ... and seconds.
            listener: a link whose commands may wait for `LISTEN_SECONDS`; None for one that never times out.
        """
        self._link = link
        self._listener = listener or link
        self._keys = keys
        self._most = most
        self._keep = keep
        self._entries, self._told = Seal("changes", seals), Seal("told", seals)
        self._read_told = link.script("told.lua")
        self._append = link.script("append_changes.lua")
        self._states: dict[str, LogState] = {}
        """As they were seen last."""
        self._windows: dict[str, Window] = {}
        self._asked: dict[str, float] = {}
        """When each window was asked for last, on the monotonic clock."""
        self._looked: dict[str, float] = {}
        self._departures = 0
        """The link's, when the listener last left its connections too."""
        self._is_asked: dict[int, asyncio.Event] = {}
        self.on_added: Callable[[str, Sequence[Change]], None] = lambda _stream, _changes: None

    def start(self, tasks: Tasks) -> None:
        """Follows logs that are asked for."""
        for partition in range(self._keys.partitions):
            tasks.supervise(partial(self._follow_all, partition), name="follow changes")

    # Adding to a log.

    def names(self, stream: str) -> list[str]:
        """The keys of the stream's log and of what it has said last."""
        return [self._keys.index(stream, "changes"), self._keys.index(stream, "told")]

    async def _said(self, stream: str, campaigns: Iterable[str]) -> Said:
        """What the stream's log has said last of these campaigns, in one trip.

        Raises:
            StoreDownError: Redis is lost.
        """
        _, name = self.names(stream)
        fields = [_STATE, *campaigns]
        read = partial(self._read_told, keys=[name], args=fields)
        values = await self._link.execute("told", read, replies.names)
        raw = dict(zip(fields, values, strict=False))
        state = _opened(self._told, raw.get(_STATE, b""), f"{name}:{_STATE}", _states)
        told = {
            id_: one
            for id_ in fields[1:]
            if (one := _opened(self._told, raw.get(id_, b""), f"{name}:{id_}", _tolds)) is not None
        }
        if is_new := state is None:
            state = begun(uuid.uuid4().hex[:_NAME_BYTES], self._link.clock.now(), self._states.get(stream))
        self._states[stream] = state
        return Said(state, {} if is_new else told, raw, is_new)

    async def add_all(
        self,
        stream: str,
        before: IndexSnapshot,
        state: IndexState,
        updates: Mapping[str, IndexedCampaign],
        now: float,
        publish: Callable[[Sequence[bytes | str | int]], Awaitable[int]],
    ) -> bool:
        """Whether an index is published, together with what that adds to the log.

        Args:
            stream: whose.
            before: the index as it was.
            state: its state from now on.
            updates: campaigns that are new in it, or have changed.
            now: the time.
            publish: does it, with the arguments for what is added; returns as publish_index.lua does.

        Raises:
            StoreDownError: Redis is lost.
        """
        findings, known = findings_in(before, updates, now), self._states.get(stream)
        if not findings and known is not None and state_after(known, state, now) == known:
            return await publish(self._arguments(stream, None, Addition())) == DONE
        for _ in range(MAX_TRIES):
            said = await self._said(stream, findings)
            addition = said.with_beginning(
                add(said.state, said.told, findings, state_after(said.state, state, now), now)
            )
            done = await publish(self._arguments(stream, said, addition))
            if done == DONE:
                self._note_added(stream, said, addition)
            if done != AGAIN:
                return done == DONE
        return False

    def _arguments(self, stream: str, said: Said | None, addition: Addition) -> list[bytes | str | int]:
        """What the scripts take to add to the stream's log; see `append` in shared.lua."""
        keep = max(int(self._keep * 1000), SHORTEST_KEEP_MILLISECONDS)
        if said is None:
            return [keep, self._most, 0, 0]
        log, name = self.names(stream)
        new = {id_: _encode(told) for id_, told in addition.told.items()}
        if said.is_new or addition.state is not None:
            new[_STATE] = _encode(addition.state or said.state)
        values: list[bytes | str | int] = []
        for id_, value in new.items():
            values += [id_, said.raw.get(id_, b""), self._told.close(value, f"{name}:{id_}")]
        entries = [self._entries.close(_encode(change), f"{log}:{said.state.name}") for change in addition.changes]
        return [keep, self._most, len(new), *values, len(entries), *entries]

    def _note_added(self, stream: str, said: Said, addition: Addition) -> None:
        self._states[stream] = addition.state or said.state
        if addition.changes:
            self.on_added(stream, addition.changes)

    @override
    async def note(self, stream: str, campaign: str, finding: Finding) -> None:
        def decide(said: Said) -> Addition:
            return add(said.state, said.told, {campaign: finding}, said.state, self._link.clock.now())

        await self._add(stream, [campaign], decide)

    @override
    async def note_written(self, stream: str, campaigns: Collection[str], at: float, *, is_creation: bool) -> None:
        def decide(said: Said) -> Addition:
            return Addition(told=written(said.told, campaigns, at, is_creation=is_creation))

        await self._add(stream, campaigns, decide)

    async def _add(self, stream: str, campaigns: Collection[str], decide: Callable[[Said], Addition]) -> Said | None:
        """What the log had said before it was added to; None where Redis is lost, or others are always faster."""
        log, name = self.names(stream)
        try:
            for _ in range(MAX_TRIES):
                said = await self._said(stream, campaigns)
                addition = said.with_beginning(decide(said))
                if not said.is_new and addition == Addition():
                    return said
                append = partial(self._append, keys=[name, log], args=self._arguments(stream, said, addition))
                if await self._link.execute("append_changes", append, replies.addition) == DONE:
                    self._note_added(stream, said, addition)
                    return said
        except StoreDownError:
            return None
        return None

    # Following logs.

    @override
    async def follow(self, stream: str) -> Window | None:
        """One trip and more for the first who asks, none for the others."""
        self._asked[stream] = time.monotonic()
        window = self._windows.get(stream)
        if window is None:
            window = Window(self._most, self._keep)
            if not await self._load(stream, window):
                return None
            window = self._windows.setdefault(stream, window)
        self._event(self._keys.partition(stream)).set()
        return window

    @override
    async def end(self, stream: str) -> Position | None:
        log, _ = self.names(stream)
        read = partial(self._link.client.execute_command, "XREVRANGE", log, "+", "-", "COUNT", 1)
        try:
            found = await self._link.execute("changes", read, replies.entries)
            return _position(found[0][0]) if found else START
        except (StoreDownError, ValueError):
            return None

    def _event(self, partition: int) -> asyncio.Event:
        return self._is_asked.setdefault(partition, asyncio.Event())

    async def _load(self, stream: str, window: Window) -> bool:
        """Whether the window holds all there is of the stream's log."""
        log, _ = self.names(stream)
        if (said := await self._add(stream, (), lambda _: Addition())) is None:
            return False
        self._looked[stream] = time.monotonic()
        floor: Position | None = None
        last, entries = START, list[Entry]()
        try:
            while True:
                # Redis before 6.2 knows no open interval.
                begin = f"{last[0]}-{last[1] + 1}"
                read = partial(self._link.client.execute_command, "XRANGE", log, begin, "+", "COUNT", AT_A_TIME)
                found = await self._link.execute("changes", read, replies.entries)
                for id_, fields in found:
                    last, before, entry = self._entry(log, said.state.name, id_, fields)
                    floor = before if floor is None else floor
                    entries += [entry] if entry is not None else []
                if len(found) < AT_A_TIME:
                    break
        except (StoreDownError, ValueError):
            return False
        # These may have left the log while they hold.
        degraded = [Entry((int(change.at * 1000), 0), change) for change in degradations(said.state)]
        window.load(said.state.name, floor or START, entries, last, degraded)
        return True

    def _entry(self, log: str, name: str, id_: bytes, fields: Mapping[bytes, bytes]) -> _Read:
        """Where an entry stands, where the one before it does, and itself, if it is one of the log of this name."""
        position, before = _position(id_), _position(fields.get(b"before", b"0-0"))
        change = _opened(self._entries, fields.get(b"change", b""), f"{log}:{name}", _changes)
        return position, before, None if change is None else Entry(position, change)

    async def _follow_all(self, partition: int) -> None:
        """Follows the logs of a partition for as long as somebody asks for them."""
        is_asked = self._event(partition)
        while True:
            if not (streams := self._wanted(partition)):
                await is_asked.wait()
            is_asked.clear()
            try:
                if streams:
                    await self._follow(streams)
            except (StoreDownError, *FAILURES) as error:
                if not isinstance(error, StoreDownError) and kind_of(error) not in LOST | LEFT:
                    # Nothing that passes: the user lacks a right, say. That is told as that of any other task.
                    raise
                # Those who listen stay, and have what is missing once Redis is back, or are told to begin anew.
                for stream in streams:
                    self._looked.pop(stream, None)
                await asyncio.sleep(RETRY_SECONDS)

    def _wanted(self, partition: int) -> list[str]:
        """The streams whose logs are followed. The windows of the others are forgotten."""
        now = time.monotonic()
        for stream in [stream for stream, at in self._asked.items() if at < now - FORGET_SECONDS]:
            self._windows.pop(stream, None)
            del self._asked[stream]
        return [stream for stream in self._windows if self._keys.partition(stream) == partition]

    async def _follow(self, streams: Sequence[str]) -> None:
        """Waits for entries of these logs once."""
        now = time.monotonic()
        for stream in streams:
            if now - self._looked.get(stream, -LOOK_SECONDS) >= LOOK_SECONDS:
                self._looked[stream] = now
                said, window = await self._said(stream, ()), self._windows[stream]
                if (said.is_new or said.state.name != window.name) and not await self._load(stream, window):
                    raise StoreDownError("changes")
        if not self._link.is_up:
            raise StoreDownError(self._link.state)
        if self._departures != self._link.departures:
            # The server that the link has left may go on to answer, and never have an entry.
            self._departures = self._link.departures
            await self._listener.depart()
        by_log = {self.names(stream)[0].encode(): stream for stream in streams}
        after = {log: "{}-{}".format(*self._windows[stream].last) for log, stream in by_log.items()}
        wait = int(LISTEN_SECONDS * 1000)
        read = partial(self._listener.client.xread, after, count=AT_A_TIME, block=wait)
        for log, found in await read_reply(read, replies.logs):
            if log in by_log:
                await self._receive(by_log[log], log.decode(), found)

    async def _receive(self, stream: str, log: str, found: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        window = self._windows[stream]
        entries = []
        last = window.last
        for id_, fields in found:
            position, before, entry = self._entry(log, window.name, id_, fields)
            if before != last or entry is None:
                # Some are missing, or this is another log.
                if not await self._load(stream, window):
                    raise StoreDownError("changes")
                return
            entries.append(entry)
            last = position
        window.extend(entries, last)


def _position(id_: bytes) -> Position:
    """Where an entry of this id stands.

    Raises:
        ValueError: there is no such id.
    """
    if (match := _ID.fullmatch(id_)) is None:
        raise ValueError("no entry's id")
    return int(match[1]), int(match[2])


def _opened(seal: Seal, sealed: bytes, name: str, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    payload = seal.open(sealed, name) if sealed else None
    if payload is None:
        return None
    try:
        return decoder.decode(payload)
    except (ValueError, RecursionError):
        seal.refuse(Refusal.FORM)
        return None
