"""Waiting for what a test has no event for."""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable


async def until(holds: Callable[[], object], seconds: float = 20.0) -> float:
    """Returns as soon as `holds`, which may be a coroutine function, says so: after how many seconds.

    Raises:
        TimeoutError: it did not within so many seconds.
    """
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if await answer if isawaitable(answer) else answer:
                return time.monotonic() - began
            await asyncio.sleep(0.005)
