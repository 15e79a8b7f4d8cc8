"""Virtual time: an event loop that never waits. When nobody has anything to do, the time of the next timer has come."""

import asyncio
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from unittest.mock import patch

from typing_extensions import override

EPOCH = 1_770_000_000.0
"""What the wall clock shows when the loop's own time is zero: 2026-02-02T02:40:00Z."""


class _NoInput(selectors.SelectSelector):
    """Watches no descriptor: whatever is waited for happens on this loop, or at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing that has a time")
        self.seconds += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Minutes pass in milliseconds, and the same events come in the same order in each run."""

    def __init__(self) -> None:
        self._input = _NoInput()
        super().__init__(self._input)

    @override
    def time(self) -> float:
        return self._input.seconds

    def pass_time(self, seconds: float) -> None:
        """So long the callback that is running computes, and nothing else runs."""
        self._input.seconds += seconds


def timers() -> int:
    """How many timers the running loop has: none of them means that time wakes nobody."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.BaseEventLoop)
    return len([timer for timer in loop._scheduled if not timer.cancelled()])  # type: ignore[attr-defined]


@contextmanager
def virtual_time() -> Iterator[VirtualLoop]:
    """A loop, whose time is what `time.monotonic` and `time.time` tell meanwhile.

    Whoever took either function as a default argument before has the real one: hand over `loop.time` there.
    """
    loop = VirtualLoop()
    # A thread takes no time of this loop, which would go on meanwhile to when everybody has given up.
    at_once = patch("campaign_gateway.proxy.beside.LARGE_BYTES", inf)
    with patch("time.monotonic", loop.time), patch("time.time", lambda: EPOCH + loop.time()), at_once:
        try:
            yield loop
        finally:
            loop.close()
