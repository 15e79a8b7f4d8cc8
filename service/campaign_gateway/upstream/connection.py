"""A connection to the platform that holds nobody up, however its answers are written.

aiohttp bounds each field of a head, but neither a head nor the interim answers before it (RFC 9110 section 15.2), and
parses whatever one read brings in one go: ten thousand interim answers, or as many chunks of a byte each.
"""

import asyncio
import time
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from typing_extensions import override

TURN_SECONDS = 0.005
"""How long bytes are parsed before others have their turn; the rest waits, and the platform with it."""
_PIECE_BYTES = 2**13
"""Bytes that are parsed before the time is looked at."""


class PlatformConnection(ResponseHandler):
    """One connection. Interim answers are dropped: nobody here waits for one."""

    def __init__(self, max_head: int, loop: asyncio.AbstractEventLoop) -> None:
        """A connection that takes `max_head` bytes up to the end of the final answer's head."""
        super().__init__(loop)
        self._max_head = max_head
        self._before_answer = 0
        self._is_answered = False
        self._rest = b""
        self._turn: asyncio.Handle | None = None
        """The next one, when there is a rest."""

    @property
    @override
    def should_close(self) -> bool:
        return super().should_close or bool(self._rest)

    @override
    def set_response_params(self, **params: Any) -> None:
        self._before_answer, self._is_answered = 0, False
        super().set_response_params(**params)

    @override
    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if data[0].code < 200 and data[0].code != 101:  # noqa: PLR2004 - RFC 9110 section 15.2
            return
        self._is_answered = True
        super().feed_data(data, size)

    @override
    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._turn is None:
            self._parse(time.monotonic() + TURN_SECONDS)

    def _parse(self, until: float) -> None:
        """Goes on with the rest until then, and has what is left wait for the next turn."""
        self._turn = None
        while True:
            piece, self._rest = self._rest[:_PIECE_BYTES], self._rest[_PIECE_BYTES:]
            super().data_received(piece)
            if not self._is_answered:
                self._before_answer += len(piece)
            if self._before_answer > self._max_head or len(self) > 1:
                self._refuse()
            if self.transport is None or self.exception() is not None:
                self._rest = b""
            if self.transport is None or not self._rest:
                return
            if time.monotonic() > until:
                self.transport.pause_reading()
                self._turn = self._loop.call_soon(self._go_on)
                return

    def _go_on(self) -> None:
        self._parse(time.monotonic() + TURN_SECONDS)
        if self._turn is None and self.transport is not None and self.is_connected() and not self._reading_paused:
            self.transport.resume_reading()

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._parse(float("inf"))
        super().connection_lost(exc)

    def _refuse(self) -> None:
        if self.transport is not None:
            self.transport.close()
        self.set_exception(HttpProcessingError(message="too much before the answer, or another one behind it"))


def bound_heads(connector: aiohttp.BaseConnector, max_head: int) -> None:
    """Has the connector's connections bound what comes before an answer to `max_head` bytes."""
    # aiohttp has no public way to a protocol of one's own.
    made = partial(PlatformConnection, max_head, connector._loop)  # noqa: SLF001
    connector._factory = cast("partial[ResponseHandler]", made)  # noqa: SLF001
