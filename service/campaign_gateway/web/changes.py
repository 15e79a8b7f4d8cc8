"""The feed of changes as HTTP: server-sent events (`web.event_stream`), or JSON by long poll; CloudEvents 1.0.

All who listen to a stream read one window (`proxy.change_window`), and an event is rendered once for all of them.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from aiohttp import hdrs, web

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.change_events import rendered, tag_of, write_cursor
from campaign_gateway.proxy.change_window import Position, Window
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.request import Stream
from campaign_gateway.web.actions import Authorized
from campaign_gateway.web.event_stream import EVENT_STREAM, EventStream, Filter
from campaign_gateway.web.record import Record
from campaign_gateway.web.rejected import RejectedError, invalid
from campaign_gateway.web.responses import finish
from campaign_gateway.web.server import when_lost

LAST_EVENT_ID = "Last-Event-ID"
CURSOR = "Campaign-Gateway-Cursor"
"""Carries the cursor to go on from."""
DEFAULT_LIMIT = 100
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
        wanted = Filter.of(parameters)
        if http.method == hdrs.METH_HEAD:
            headers = {CURSOR: _cursor_at(stream, window), hdrs.CACHE_CONTROL: "no-store"}
            return finish(web.Response(headers=headers, content_type="application/json"), record.request_id)
        start = cursor if given != OLDEST else _Cursor(window.name, window.floor)
        start = start or _Cursor(window.name, window.last)
        with self._admitted(stream, authorized.client):
            if start.log == window.name and not await self._feed.catch_up(stream.identity, window, start.position):
                raise _busy(Problem.OVERLOADED, "this replica does not have the changes up to the cursor yet")
            if is_listener:
                events = EventStream(http, stream, window, wanted, self._feed.now, may_go_on, self._limits.max_unsent)
                return await events.serve(start.log, start.position, record)
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
        wanted: Filter,
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
            has_gone = asyncio.Event()
            with when_lost(authorized.http, has_gone.set):
                await window.wait(left, has_gone)
            record.began = time.perf_counter()
        position = found[-1].position if len(found) == limit else window.last
        cursor = write_cursor(stream, window.name, position)
        changes = b",".join(rendered(entry, stream, window.name) for entry in [*known, *found])
        body = b'{"changes":[%b],"next":%b}' % (changes, _encode(cursor))
        headers = {CURSOR: cursor, hdrs.CACHE_CONTROL: "no-store"}
        response = web.Response(body=body, headers=headers, content_type="application/json")
        return finish(response, record.request_id)


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
