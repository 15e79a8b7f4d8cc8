"""Answers that wait for a caller to read them: none waits for ever, and all of them together have a bound.

TCP ends a connection whose peer is gone, but not one whose peer only stops reading: each keeps its answer in memory and
its file descriptor for as long as it likes.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
ENDS_AT_A_TIME = 50
"""In one turn of the loop: each wakes whoever was writing there, and thousands may be due at once."""
QUIET_SECONDS = 60.0
"""Of several ends, the first is logged after so long without one."""


@dataclass(slots=True)
class _Unsent:
    size: int
    """Bytes that wait."""
    since: float
    """When fewer of them were seen to wait than before."""


class UnsentWatch:
    """Ends connections whose peers do not read."""

    def __init__(
        self,
        connections: Callable[[], Collection[asyncio.Transport]],
        timeout: float,
        most_bytes: int,
        count: Callable[[], None],
    ) -> None:
        """A watch.

        Args:
            connections: those that are open.
            timeout: seconds for which nothing may be taken of what waits.
            most_bytes: what may wait in all; beyond, those go that have waited longest.
            count: called for each end.
        """
        self._connections = connections
        self._timeout = timeout
        self._most_bytes = most_bytes
        self._count = count
        self._waiting: dict[asyncio.Transport, _Unsent] = {}
        self._ended_at = float("-inf")

    async def watch(self) -> None:
        """Looks once a second, for as long as it runs."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look(asyncio.get_running_loop().time())

    def look(self, now: float) -> None:
        """Ends those that have waited too long by now, and if too much waits, those that have waited longest."""
        before, self._waiting = self._waiting, {}
        for transport in self._connections():
            size = transport.get_write_buffer_size()
            if size:
                last = before.get(transport)
                is_stuck = last is not None and size >= last.size
                self._waiting[transport] = _Unsent(size, last.since if is_stuck and last is not None else now)
        total = sum(each.size for each in self._waiting.values())
        due: list[tuple[asyncio.Transport, int]] = []
        for transport, unsent in sorted(self._waiting.items(), key=lambda item: item[1].since):
            if now - unsent.since >= self._timeout or total > self._most_bytes:
                total -= unsent.size
                due.append((transport, unsent.size))
                del self._waiting[transport]
        self._end_some(due, now)

    def _end_some(self, due: Sequence[tuple[asyncio.Transport, int]], now: float) -> None:
        for transport, size in due[:ENDS_AT_A_TIME]:
            self._end(transport, size, now)
        if len(due) > ENDS_AT_A_TIME:
            asyncio.get_running_loop().call_soon(self._end_some, due[ENDS_AT_A_TIME:], now)

    def _end(self, transport: asyncio.Transport, size: int, now: float) -> None:
        self._count()
        if now - self._ended_at > QUIET_SECONDS:
            _log.warning("a caller does not read its answer: its connection is ended, with %d bytes unsent", size)
        self._ended_at = now
        transport.abort()
