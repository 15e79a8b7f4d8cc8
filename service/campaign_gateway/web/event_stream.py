"""One who listens to changes by server-sent events (WHATWG HTML section 9.2).

An event is made, framed, and looked at once for all whose filter and place are the same, and goes to each connection
without its task: that one only waits for room, for the next comment, or for the end. The laws of this module:

1. Nothing is taken from the window while there is no room for it. So what waits for one who reads slowly is bounded.
2. The place moves with what was written, and with what is nobody's; a comment says where it is.
3. Where what follows is not kept, or another log has begun, the listener is told to read again what it holds (`reset`).
"""

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from aiohttp import hdrs, web
from aiohttp.http_writer import StreamWriter

from campaign_gateway.proxy.change_events import RESET, rendered, write_cursor
from campaign_gateway.proxy.change_window import Entry, Position, Window
from campaign_gateway.proxy.request import Stream
from campaign_gateway.web.record import Record
from campaign_gateway.web.responses import finish
from campaign_gateway.web.server import when_lost

EVENT_STREAM = "text/event-stream"
COMMENT_SECONDS = 15.0
"""How often something is sent, so that proxies and listeners know that the connection is alive."""
TICK_SECONDS = 0.1
"""Who is due within it is sent its comment at its end."""
RETRY_MILLISECONDS = (1_000, 5_000)
"""When a listener comes back: not all of them at once."""
CHUNK_BYTES = 16_384
"""What is written at a time."""
FRAMES_AT_A_TIME = 4
"""What is written in one turn of the loop: who comes back after a day has megabytes to get."""
MOST_FRAMES = 64
"""How many are kept for those who come next; those who are together need one."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Filter:
    """Which changes are wanted; None for all."""

    types: frozenset[str] | None
    ids: frozenset[str] | None
    statuses: frozenset[str] | None

    @classmethod
    def of(cls, parameters: Any) -> "Filter":
        """What the query asks for."""
        given = (parameters.get(name) for name in ("type", "ids", "status"))
        return cls(*(None if words is None else frozenset(words) for words in given))

    def __call__(self, entry: Entry) -> bool:
        """Whether it is wanted."""
        change = entry.change
        if self.types is not None and change.type.value not in self.types:
            return False
        if change.campaign is None:
            # What concerns the whole stream concerns each part of it.
            return True
        is_of_ids = self.ids is None or change.campaign in self.ids
        return is_of_ids and (self.statuses is None or change.status in self.statuses)


class EventStream:
    """The answer to one who listens."""

    def __init__(
        self,
        http: web.BaseRequest,
        stream: Stream,
        window: Window,
        wanted: Filter,
        now: Callable[[], float],
        may_go_on: Callable[[], bool],
        max_unsent: int,
    ) -> None:
        """An answer to this request; see `Changes`."""
        self._http = http
        self._stream = stream
        self._window = window
        self._wanted = wanted
        self._now = now
        self._may_go_on = may_go_on
        self._max_unsent = max_unsent
        self._position = window.last
        self._generation: int | None = None
        """The window's, in which the position means something; None where it means nothing."""
        self._is_chunked = True
        self._woken = asyncio.Event()

    async def serve(self, log: str, position: Position, record: Record) -> web.StreamResponse:
        """The answer, when nobody listens any longer.

        Args:
            log: the one of that name ...
            position: ... is known up to there.
            record: what is written down of it; how long somebody listened is none of the time that it took.
        """
        # Proxies in front keep nothing back.
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no", hdrs.CACHE_CONTROL: "no-store"})
        response.content_type = EVENT_STREAM
        finish(response, record.request_id)
        if self._http.transport is not None:
            self._http.transport.set_write_buffer_limits(high=max(self._max_unsent - CHUNK_BYTES, 0))
        try:
            writer = cast("StreamWriter", await response.prepare(self._http))
            self._is_chunked = writer.chunked
            if log == self._window.name and self._window.after(position, self._now()) is not None:
                self._position, self._generation = position, self._window.generation
                opening = b"retry: %d\n%b\n" % (RETRY_MILLISECONDS[0], self._id_line())
                await response.write(opening + self._degraded())
            else:
                await response.write(self._reset())
            with self._window.watching(self._go_on), when_lost(self._http, self._woken.set):
                await self._stay(response, writer)
            await response.write(b"retry: %d\n\n" % random.randint(*RETRY_MILLISECONDS))  # noqa: S311 - to spread them
        except ConnectionError:
            # Gone, or cut off since it did not read.
            pass
        record.began = time.perf_counter()
        response.force_close()
        return response

    async def _stay(self, response: web.StreamResponse, writer: StreamWriter) -> None:
        """Waits for the end. What comes is written by `_go_on`, unless there is no room."""
        clock = asyncio.get_running_loop().time
        # Not all in one turn of the loop, nor each in one of its own.
        first = clock() + random.uniform(0.0, COMMENT_SECONDS - TICK_SECONDS)  # noqa: S311 - to spread them
        comment_at = math.ceil(first / TICK_SECONDS) * TICK_SECONDS
        self._go_on()
        while self._may_go_on() and self._http.transport is not None:
            if self._woken.is_set():
                self._woken.clear()
                # Others have their turns, also while the kernel takes all that there is.
                await asyncio.sleep(0)
                await writer.drain()
                self._go_on()
                continue
            try:
                async with asyncio.timeout_at(comment_at):
                    await self._woken.wait()
            except TimeoutError:
                # After a while without room, one and not all that were due meanwhile.
                comment_at += COMMENT_SECONDS * (1 + (clock() - comment_at) // COMMENT_SECONDS)
                await response.write(b":\n%b\n" % self._id_line())

    def _go_on(self) -> None:
        """Writes some of what has come, as far as there is room, and wakes the task if there may be more to do."""
        window, transport = self._window, self._http.transport
        if not self._may_go_on() or transport is None or transport.is_closing():
            self._woken.set()
            return
        for _ in range(FRAMES_AT_A_TIME):
            if self._position == window.last and self._generation == window.generation:
                return
            if self._http.protocol.writing_paused:
                break
            if frame := self._next():
                transport.write(frame)
        self._woken.set()

    # What is written.

    def _next(self) -> bytes:
        """What comes next, of which the place is the end from now on; empty where it is nobody's."""
        window = self._window
        made = self._made() if self._generation == window.generation else None
        if made is None:
            return self._framed(self._reset())
        frame, self._position = made
        return frame

    def _made(self) -> tuple[bytes, Position] | None:
        """A part of what comes after the place, and its end; None where some of it is not kept."""
        window, made_for = self._window, (self._stream.alias, self._wanted, self._position, self._is_chunked)
        if (made := window.made.get(made_for)) is not None:
            return made
        if (entries := window.after(self._position, self._now())) is None:
            return None
        # Behind the last entry there may be some that are nobody's.
        events, end = b"", window.last
        for entry in entries:
            if self._wanted(entry):
                events += self._event(entry)
                if len(events) >= CHUNK_BYTES:
                    end = entry.position
                    break
        made = self._framed(events), end
        if len(window.made) < MOST_FRAMES:
            window.made[made_for] = made
        return made

    def _framed(self, text: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(text), text) if text and self._is_chunked else text

    def _id_line(self) -> bytes:
        return self._id_line_of(self._position)

    def _id_line_of(self, position: Position) -> bytes:
        return b"id: %b\n" % write_cursor(self._stream, self._window.name, position).encode()

    def _event(self, entry: Entry) -> bytes:
        return self._id_line_of(entry.position) + self._body(entry)

    def _body(self, entry: Entry) -> bytes:
        data = rendered(entry, self._stream, self._window.name)
        return b"event: %b\ndata: %b\n\n" % (entry.change.type.value.encode(), data)

    def _degraded(self) -> bytes:
        """What is still so, without the line that would set the cursor back."""
        known = self._window.degraded(self._position)
        return b"".join(self._body(entry) for entry in known if self._wanted(entry))

    def _reset(self) -> bytes:
        """Begins anew from here."""
        self._position, self._generation = self._window.last, self._window.generation
        text = _encode({"next": write_cursor(self._stream, self._window.name, self._position), "detail": RESET})
        return b"%bevent: reset\ndata: %b\n\n%b" % (self._id_line(), text, self._degraded())
