"""The feed of changes as HTTP: server-sent events (WHATWG HTML section 9.2), or JSON by long poll; CloudEvents 1.0.

All who listen to a stream read one window (`proxy.change_window`), and an event is rendered once for all of them. What
waits for one who reads slowly is bounded: nothing is taken from the window before what was written has left. A listener
who falls behind what is kept, or whose log has gone, is told to read again what it holds (`reset`).
"""

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.change_events import RESET, rendered, tag_of, write_cursor
from campaign_gateway.proxy.change_window import Entry, Position, Window
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.request import Stream
from campaign_gateway.web.actions import Authorized
from campaign_gateway.web.record import Record
from campaign_gateway.web.rejected import RejectedError, invalid
from campaign_gateway.web.responses import finish

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"
CURSOR = "Campaign-Gateway-Cursor"
"""Carries the cursor to go on from."""
COMMENT_SECONDS = 15.0
"""How often something is sent, so that proxies and listeners know that the connection is alive."""
RETRY_MILLISECONDS = (1_000, 5_000)
"""When a listener comes back: not all of them at once."""
DEFAULT_LIMIT = 100
CHUNK_BYTES = 16_384
"""What is written before it is waited until there is room for more."""
BUSY_SECONDS = 5.0
OLDEST = "0"
"""The cursor before all that is kept."""

_CURSOR = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9]{1,16})-([0-9]{1,16})")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ChangeLimits:
    """Who may listen."""

    subscribers: int
    """At the same time, in this process."""
    client_subscribers: int
    """The same, of one client."""
    max_unsent: int
    """Bytes that may wait for one of them."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    log: str
    position: Position


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which changes are wanted; None for all."""

    types: frozenset[str] | None
    ids: frozenset[str] | None
    statuses: frozenset[str] | None

    @classmethod
    def of(cls, parameters: Any) -> "_Filter":
        given = (parameters.get(name) for name in ("type", "ids", "status"))
        return cls(*(None if words is None else frozenset(words) for words in given))

    def __call__(self, entry: Entry) -> bool:
        change = entry.change
        if self.types is not None and change.type.value not in self.types:
            return False
        if change.campaign is None:
            # What concerns the whole stream concerns each part of it.
            return True
        is_of_ids = self.ids is None or change.campaign in self.ids
        return is_of_ids and (self.statuses is None or change.status in self.statuses)


class Changes:
    """Answers requests for the feed."""

    def __init__(self, feed: Feed, limits: ChangeLimits, epoch: Epoch) -> None:
        """The feed, within these limits; whoever listens is looked at anew when the clients' epoch ends."""
        epoch.watchers.append(feed.wake)
        self._feed = feed
        self._limits = limits
        self._of_clients: Counter[str] = Counter()

    async def answer(self, authorized: Authorized, record: Record, may_go_on: Callable[[], bool]) -> web.StreamResponse:
        """The answer, once it has ended.

        Args:
            authorized: the request.
            record: what is written down of it; how long somebody listened is none of the time that it took.
            may_go_on: whether the client may still have it, and this process is to go on.

        Raises:
            RejectedError: there is none.
        """
        http, stream, parameters = authorized.http, authorized.stream, authorized.target.parameters
        is_listener = EVENT_STREAM in http.headers.get(hdrs.ACCEPT, "")
        given = parameters.get("after")
        if is_listener:
            # A browser repeats the URL that it began with.
            given = http.headers.get(LAST_EVENT_ID) or given
        cursor = None if given is None or given == OLDEST else _read_cursor(given, stream)
        window = await self._feed.window(stream.identity)
        if window is None:
            raise _busy(Problem.OVERLOADED, "the changes cannot be read at present: the store is lost")
        wanted = _Filter.of(parameters)
        if http.method == hdrs.METH_HEAD:
            headers = {CURSOR: _cursor_at(stream, window), hdrs.CACHE_CONTROL: "no-store"}
            return finish(web.Response(headers=headers, content_type="application/json"), record.request_id)
        start = cursor if given != OLDEST else _Cursor(window.name, window.floor)
        start = start or _Cursor(window.name, window.last)
        with self._admitted(stream, authorized.client):
            if start.log == window.name and not await self._feed.catch_up(stream.identity, window, start.position):
                raise _busy(Problem.OVERLOADED, "this replica does not have the changes up to the cursor yet")
            if is_listener:
                listener = _Listener(http, stream, window, wanted, self._feed.now, may_go_on, self._limits.max_unsent)
                return await listener.serve(start, record)
            return await self._poll(authorized, window, start, wanted, record, may_go_on)

    @contextmanager
    def _admitted(self, stream: Stream, client: str) -> Iterator[None]:
        if self._feed.all_listeners >= self._limits.subscribers:
            raise _busy(Problem.OVERLOADED, "as many listen to changes as may")
        if self._of_clients[client] >= self._limits.client_subscribers:
            raise _busy(Problem.RATE_LIMITED, "this client listens to changes as often as it may at the same time")
        self._of_clients[client] += 1
        try:
            with self._feed.listening(stream.identity):
                yield
        finally:
            self._of_clients[client] -= 1

    async def _poll(
        self,
        authorized: Authorized,
        window: Window,
        start: _Cursor,
        wanted: _Filter,
        record: Record,
        may_go_on: Callable[[], bool],
    ) -> web.Response:
        """What has changed after the cursor, as soon as there is something, or the wait is over."""
        parameters, stream = authorized.target.parameters, authorized.stream
        limit, until = parameters.get("limit", DEFAULT_LIMIT), time.monotonic() + parameters.get("wait", 0.0)
        # Who goes on from a cursor has been told.
        is_new = parameters.get("after", OLDEST) == OLDEST
        known = [entry for entry in window.degraded(start.position) if wanted(entry)] if is_new else []
        while True:
            entries = window.after(start.position, self._feed.now()) if start.log == window.name else None
            if entries is None:
                raise RejectedError(Problem.CURSOR_EXPIRED, "read again what you hold, then go on without after")
            found = [entry for entry in entries if wanted(entry)][:limit]
            left = until - time.monotonic()
            if found or known or left <= 0 or not may_go_on() or authorized.http.transport is None:
                break
            start = _Cursor(start.log, window.last)
            await window.wait(left)
            record.began = time.perf_counter()
        position = found[-1].position if len(found) == limit else window.last
        cursor = write_cursor(stream, window.name, position)
        changes = b",".join(rendered(entry, stream, window.name) for entry in [*known, *found])
        body = b'{"changes":[%b],"next":%b}' % (changes, _encode(cursor))
        headers = {CURSOR: cursor, hdrs.CACHE_CONTROL: "no-store"}
        response = web.Response(body=body, headers=headers, content_type="application/json")
        return finish(response, record.request_id)


class _Listener:
    """One who listens by server-sent events."""

    def __init__(
        self,
        http: web.BaseRequest,
        stream: Stream,
        window: Window,
        wanted: _Filter,
        now: Callable[[], float],
        may_go_on: Callable[[], bool],
        max_unsent: int,
    ) -> None:
        self._http = http
        self._stream = stream
        self._window = window
        self._wanted = wanted
        self._now = now
        self._may_go_on = may_go_on
        self._max_unsent = max_unsent
        self._writer: AbstractStreamWriter | None = None

    async def serve(self, start: _Cursor, record: Record) -> web.StreamResponse:
        """The answer, when nobody listens any longer."""
        # Proxies in front keep nothing back.
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no", hdrs.CACHE_CONTROL: "no-store"})
        response.content_type = EVENT_STREAM
        finish(response, record.request_id)
        if self._http.transport is not None:
            self._http.transport.set_write_buffer_limits(high=self._max_unsent)
        try:
            self._writer = await response.prepare(self._http)
            await self._write_all(response, start)
            await response.write(b"retry: %d\n\n" % random.randint(*RETRY_MILLISECONDS))  # noqa: S311 - to spread them
        except ConnectionError:
            # Gone, or cut off since it did not read.
            pass
        record.began = time.perf_counter()
        response.force_close()
        return response

    async def _write_all(self, response: web.StreamResponse, start: _Cursor) -> None:
        window, position = self._window, start.position
        is_lost = start.log != window.name or window.after(position, self._now()) is None
        log, generation = window.name, window.generation
        if not is_lost:
            opening = b"retry: %d\n%b\n" % (RETRY_MILLISECONDS[0], self._id_line(position))
            await response.write(opening + self._degraded(position, log))
        while self._may_go_on() and self._http.transport is not None:
            entries = None if is_lost or window.generation != generation else window.after(position, self._now())
            if entries is None:
                is_lost, log, generation, position = False, window.name, window.generation, window.last
                await response.write(self._reset(position) + self._degraded(position, log))
                continue
            # Behind the last entry there may be some that are nobody's.
            end, waiting = window.last, b""
            for entry in entries:
                waiting += self._event(entry, log) if self._wanted(entry) else b""
                if len(waiting) >= CHUNK_BYTES:
                    await self._send(response, waiting)
                    position, waiting = entry.position, b""
                    if window.generation != generation or not self._may_go_on():
                        break
            else:
                await self._send(response, waiting)
                position = end
                if window.last == position:
                    await self._wait(response, position)

    async def _send(self, response: web.StreamResponse, events: bytes) -> None:
        """Writes events, and waits until there is room for more."""
        if events and self._writer is not None:
            await response.write(events)
            # By itself that is done only now and then.
            await self._writer.drain()

    async def _wait(self, response: web.StreamResponse, position: Position) -> None:
        """Waits for entries; where none come for a while, says that the connection is alive, and where it stands."""
        window, generation = self._window, self._window.generation
        await window.wait(COMMENT_SECONDS)
        if window.last == position and window.generation == generation and self._may_go_on():
            await response.write(b":\n%b\n" % self._id_line(position))

    def _id_line(self, position: Position, log: str | None = None) -> bytes:
        return b"id: %b\n" % write_cursor(self._stream, log or self._window.name, position).encode()

    def _degraded(self, position: Position, log: str) -> bytes:
        """What is still so, without the line that would set the cursor back."""
        known = self._window.degraded(position)
        return b"".join(self._event(entry, log, id_line=b"") for entry in known if self._wanted(entry))

    def _event(self, entry: Entry, log: str, id_line: bytes | None = None) -> bytes:
        data, type_ = rendered(entry, self._stream, log), entry.change.type.value.encode()
        id_line = self._id_line(entry.position, log) if id_line is None else id_line
        return b"%bevent: %b\ndata: %b\n\n" % (id_line, type_, data)

    def _reset(self, position: Position) -> bytes:
        text = _encode({"next": write_cursor(self._stream, self._window.name, position), "detail": RESET})
        return b"%bevent: reset\ndata: %b\n\n" % (self._id_line(position), text)


def _cursor_at(stream: Stream, window: Window) -> str:
    return write_cursor(stream, window.name, window.last)


def _read_cursor(text: str, stream: Stream) -> _Cursor:
    """The cursor.

    Raises:
        RejectedError: it is none, or one of another stream.
    """
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise invalid("after, or Last-Event-ID, is no cursor of this feed", "changes")
    if match[1] != tag_of(stream):
        raise invalid("the cursor is of another stream's feed", "changes")
    return _Cursor(match[2], (int(match[3]), int(match[4])))


def _busy(problem: Problem, detail: str) -> RejectedError:
    error = RejectedError(problem, detail, operation="changes")
    error.failure = Failure(problem, detail, retry_after=BUSY_SECONDS)
    return error
