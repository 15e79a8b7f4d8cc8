"""Waits for something about one stream, without looking again and again."""

import asyncio
import math


class Changes:
    """Wakes those who wait for the next change of a stream; what came before they waited does not count."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    async def wait(self, stream: str, seconds: float) -> None:
        """Waits for the next change, or so long."""
        await _wait_for(self._events.setdefault(stream, asyncio.Event()), seconds)

    def notify(self, stream: str) -> None:
        """There is a change."""
        if (event := self._events.pop(stream, None)) is not None:
            event.set()


class Wakes:
    """Wakes the one who looks after a stream, once for all that came since the last wake.

    What comes while the sleeper is still at work is kept, so that nothing is missed between a look and a sleep.
    """

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    async def wait(self, stream: str, seconds: float) -> None:
        """Waits until something has come since the last wait, or so long."""
        event = self._events.setdefault(stream, asyncio.Event())
        await _wait_for(event, seconds)
        event.clear()

    def notify(self, stream: str) -> None:
        """Something is to be looked at."""
        self._events.setdefault(stream, asyncio.Event()).set()


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        # Not every loop can set a timer for eternity.
        async with asyncio.timeout(None if seconds == math.inf else seconds):
            await event.wait()
    except TimeoutError:
        return
