"""The fast road: a hit, or a refusal, for a head that just had one, without parsing the request.

Below aiohttp, where bytes come in. The laws of this module:

1. Nothing of HTTP is read here. A read is answered only if it is a head that aiohttp has parsed, that was authorised,
   and that was answered with a plain hit, or refused for want of calls: byte for byte, but for what a pattern leaves
   open (see `web.patterns`), which differs only in characters that mean nothing to a parser. Everything else goes to
   aiohttp untouched: another field, one field twice, another order. Which connection it comes on means nothing, but
   for clients with limits of their own: theirs are counted first.
2. Only when no request is in flight, or answers would change their order. That is an exact count: of requests parsed,
   and of answers written.
3. Only when aiohttp's parser stands between two requests: the last read that it saw ended with the head of a request
   without a body. By its bytes alone, a request inside another one's body could not be told from a request.
4. Only while nothing has changed that the grant came from. Whatever could, ends the *epoch*.
5. What may be answered, and how old it may be, is the reader's to say: each time, but for what its `HitValidity` says.
6. Nobody is waited for: not when the caller reads slowly, not when the connection is closing.
7. Except for the store: a hit that was had from it is looked up there again, and so is what would be refused if nobody
   has stored it. Until that is back, the request is in flight: what comes behind it waits, a close waits, and what
   turns out to be neither goes to aiohttp as it came.

Laws 2, 3, 6 and 7 are the states of a connection and their table. So the whole road decides all, and this one repeats
it. A test drives both with the same bytes.
"""

import asyncio
import logging
from collections.abc import Mapping
from enum import Enum, auto

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD
from typing_extensions import override

from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.web.patterns import HeadPattern, HeadPatterns, Lookup
from campaign_gateway.web.server import Connection, Refuse
from campaign_gateway.web.written import Written

MEMBERS = (
    *("_buffer_paused", "_keepalive_timeout", "_loop", "_messages", "_next_keepalive_close_time", "_paused"),
    *("_reading_paused", "_request_count", "_resume_transport_reading", "_upgraded", "finish_response", "force_close"),
)
"""What is used of aiohttp's connection without being promised by it."""

_END = b"\r\n\r\n"
_log = logging.getLogger(__name__)


class State(Enum):
    """Where a connection stands."""

    IDLE = auto()
    """No request is in flight, and the parser stands between two: the only state in which one is answered here."""
    ONE = auto()
    """aiohttp answers a request which came in a read of its own while the connection was idle: it may be learned."""
    SEVERAL = auto()
    """aiohttp answers requests, and the last read was the head of one without a body."""
    INSIDE = auto()
    """The last read was anything else: the parser may stand inside a request, whatever is in flight."""
    LOOKING_UP = auto()
    """One request is in flight here, for the store; aiohttp does not know of it."""
    LAST_LOOK_UP = auto()
    """The same, and the connection ends after it."""
    CLOSED = auto()
    """Nothing is answered here any longer; aiohttp finishes what it has."""


_IDLE = State.IDLE
"""Looking a member up takes as long as the rest of the look at the state."""


class Event(Enum):
    """What happens to a connection."""

    HEAD = auto()
    """aiohttp has taken a read that was the head of one request without a body, and nothing else."""
    BYTES = auto()
    """aiohttp has taken any other read."""
    ALL_ANSWERED = auto()
    """aiohttp has written as many answers as it has parsed requests."""
    LOOK_UP = auto()
    LOOKED_UP = auto()
    CLOSE = auto()
    """No further request is to be taken."""
    LOST = auto()
    """The connection is gone, or ends at once."""


_ENDS = {Event.CLOSE: State.CLOSED, Event.LOST: State.CLOSED}
TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.IDLE: {
        Event.HEAD: State.ONE,
        Event.BYTES: State.INSIDE,
        Event.LOOK_UP: State.LOOKING_UP,
        **_ENDS,
    },
    State.ONE: {
        Event.HEAD: State.SEVERAL,
        Event.BYTES: State.INSIDE,
        Event.ALL_ANSWERED: State.IDLE,
        **_ENDS,
    },
    State.SEVERAL: {
        Event.HEAD: State.SEVERAL,
        Event.BYTES: State.INSIDE,
        Event.ALL_ANSWERED: State.IDLE,
        **_ENDS,
    },
    State.INSIDE: {
        Event.HEAD: State.SEVERAL,
        Event.BYTES: State.INSIDE,
        # Only after a whole head is it known where the parser stands.
        Event.ALL_ANSWERED: State.INSIDE,
        **_ENDS,
    },
    State.LOOKING_UP: {
        Event.LOOKED_UP: State.IDLE,
        Event.CLOSE: State.LAST_LOOK_UP,
        Event.LOST: State.CLOSED,
    },
    State.LAST_LOOK_UP: {
        Event.LOOKED_UP: State.CLOSED,
        Event.CLOSE: State.LAST_LOOK_UP,
        Event.LOST: State.CLOSED,
    },
    State.CLOSED: dict.fromkeys(set(Event) - {Event.LOOK_UP}, State.CLOSED),
}


class FastRoad:
    """What the connections of one server share."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        """Ends when grants do."""
        self.taken = 0
        """Requests that were answered here."""
        self.tasks = Tasks()
        self.patterns = HeadPatterns()

    def connect(
        self, manager: web.Server, refuse: Refuse, max_age: float | None = None, **options: object
    ) -> "FastConnection":
        """A new connection."""
        return FastConnection(self, manager, refuse, max_age, **options)

    async def close(self) -> None:
        """Ends the look-ups that are under way."""
        await self.tasks.close()


def is_supported() -> bool:
    """Whether this aiohttp has all that is used of its connection; where not, that is logged."""
    missing = [name for name in MEMBERS if not hasattr(web.RequestHandler, name)]
    if missing:
        _log.warning("aiohttp has no %s: the fast connection is off, every request is parsed", ", ".join(missing))
    return not missing


class FastConnection(Connection):
    """A connection that answers known heads by itself."""

    __slots__ = ("_answered", "_behind", "_candidate", "_looked_up", "_pattern", "_road", "_state")

    def __init__(
        self, road: FastRoad, manager: web.Server, refuse: Refuse, max_age: float | None = None, **options: object
    ) -> None:
        super().__init__(manager, refuse, max_age, **options)
        self._road = road
        self._state = State.IDLE
        self._pattern: HeadPattern | None = None
        self._answered = 0
        self._candidate = b""
        """In the state `ONE`: the read that the request came in."""
        self._behind = b""
        """What came during a look-up."""
        self._looked_up: asyncio.Future[None] | None = None
        """Done when the look-up is, for whoever waits for that."""

    def _note(self, event: Event) -> None:
        self._state = TRANSITIONS[self._state][event]

    @override
    def data_received(self, data: bytes) -> None:
        state, pattern, transport = self._state, self._pattern, self.transport
        if pattern is None and state is _IDLE and not self._is_old:
            pattern = self._pattern = self._road.patterns.find(data)
        if (
            state is _IDLE
            and pattern is not None
            and pattern.epoch == self._road.epoch.number
            and not self._paused
            and transport is not None
            and (answer := pattern.answer(data)) is not None
        ):
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if isinstance(answer, bytes):
                self._road.taken += 1
                transport.write(answer)
            else:
                self._note(Event.LOOK_UP)
                self._road.tasks.spawn(self._look_up(data, answer), name="answer from the store")
        elif state in _LOOKS_UP and transport is not None:
            self._behind += data
            transport.pause_reading()
        else:
            self._hand_on(data)

    async def _look_up(self, data: bytes, lookup: Lookup) -> None:
        """Answers what is not local, or hands it on; then what came behind it."""
        answer = None
        try:
            answer = await lookup
        finally:
            is_last = self._state is State.LAST_LOOK_UP
            self._note(Event.LOOKED_UP)
            if answer is None:
                self._hand_on(data)
            else:
                self._road.taken += 1
                if self.transport is not None:
                    self.transport.write(answer)
            if is_last:
                super().close()
            if self._looked_up is not None:
                self._looked_up.set_result(None)
            if self._behind:
                behind, self._behind = self._behind, b""
                self.data_received(behind)
                if not (self._reading_paused or self._buffer_paused):
                    self._resume_transport_reading()

    def _hand_on(self, data: bytes) -> None:
        """Gives it to aiohttp."""
        parsed = self._request_count
        super().data_received(data)
        is_head = (
            self._request_count == parsed + 1
            and data.endswith(_END)
            and data.find(_END) == len(data) - len(_END)
            and self._messages[-1][1] is EMPTY_PAYLOAD
            and not self._upgraded
        )
        self._note(Event.HEAD if is_head else Event.BYTES)
        self._candidate = data if self._state is State.ONE else b""

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        sent, is_lost = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if is_lost or not sent.keep_alive:
            self._note(Event.CLOSE)
        elif self._state is State.ONE and isinstance(sent, Written) and sent.grant is not None:
            self._pattern = self._road.patterns.learn(self._candidate, request, sent.grant) or self._pattern
        if self._answered == self._request_count:
            self._note(Event.ALL_ANSWERED)
        return sent, is_lost

    @override
    def grow_old(self) -> None:
        super().grow_old()
        # The next request goes to aiohttp, whose answer closes: so none is learned again.
        self._pattern = None

    @override
    def close(self) -> None:
        # A request that aiohttp does not know of is in flight: its answer goes out first.
        is_looking_up = self._state in _LOOKS_UP
        self._note(Event.CLOSE)
        if not is_looking_up:
            super().close()

    @override
    def force_close(self) -> None:
        self._note(Event.LOST)
        super().force_close()

    @override
    async def shutdown(self, timeout: float | None = 15.0) -> None:
        if self._state in _LOOKS_UP:
            self._looked_up = self._loop.create_future()
            await asyncio.wait([self._looked_up], timeout=timeout)
        self._note(Event.LOST)
        await super().shutdown(timeout)


_LOOKS_UP = (State.LOOKING_UP, State.LAST_LOOK_UP)
