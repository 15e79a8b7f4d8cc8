"""How long the event loop was held up by one turn: what everybody waits for who is not that turn.

A beat comes late by what was left of the turn that was under way when it was due. Of that only what this process
computed counts: on a busy machine a beat is also late when another process has the processor.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BEAT_SECONDS = 0.01
"""Half of the shortest turn that is to be seen. Some 5 us each while the loop is awake ..."""
IDLE_BEAT_SECONDS = 0.1
"""... and some 100 us where a beat has to wake it: so an idle one has fewer. Either way it is 0.1 % of a core."""
BUSY_SHARE = 0.25
"""The part of its time for which a busy loop's process computes."""
SPAN_SECONDS = 10.0
SPANS = 6
"""The longest turn is that of so many spans, the one under way among them."""


class LoopWatch:
    """Watches the loop that it runs on."""

    def __init__(self, observe: Callable[[float], None], used: Callable[[], float] = time.process_time) -> None:
        """A watch.

        Args:
            observe: called at each beat with the seconds that it was held up.
            used: processor seconds of this process, those of its other threads with them: they hold the interpreter.
        """
        self._observe = observe
        self._read_used = used
        self._used = 0.0
        self._longest: deque[float] = deque(maxlen=SPANS)
        self._span_ends = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def longest(self) -> float:
        """Seconds that the longest turn of the last minute held the loop up; 0.0 before there was a turn."""
        return max(self._longest, default=0.0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches the running loop until the block ends."""
        self._used = self._read_used()
        self._plan(asyncio.get_running_loop(), BEAT_SECONDS)
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _plan(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._timer = loop.call_later(seconds, self._beat, loop, loop.time() + seconds, seconds)

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float, waited: float) -> None:
        now, used = loop.time(), self._read_used()
        computed, self._used = used - self._used, used
        seconds = max(0.0, min(now - due, computed))
        self._observe(seconds)
        if now >= self._span_ends:
            self._span_ends = now + SPAN_SECONDS
            self._longest.append(0.0)
        self._longest[-1] = max(self._longest[-1], seconds)
        self._plan(loop, BEAT_SECONDS if computed > waited * BUSY_SHARE else IDLE_BEAT_SECONDS)
