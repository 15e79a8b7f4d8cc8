"""Background tasks that are named, kept, and ended at shutdown."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

CANCEL_AGAIN_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Tasks:
    """A room for tasks that outlive the request that started them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str, on_end: Callable[[], None] | None = None) -> None:
        """Starts a task. Its failure is logged; `on_end` is called when it has ended, also if it never began."""
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - the one place where tasks are made
        self._running.add(task)
        task.add_done_callback(self._end)
        if on_end is not None:
            task.add_done_callback(lambda _: on_end())

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task %s failed", task.get_name(), exc_info=error)

    async def close(self, grace: float = 0.0) -> None:
        """Waits up to `grace` seconds for what runs, cancels the rest, and waits until it has ended."""
        running = list(self._running)
        if running and grace > 0:
            await asyncio.wait(running, timeout=grace)
        while running:
            for task in running:
                task.cancel()
            # Again, should a library have taken the cancellation for a time-out of its own.
            _, pending = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
            running = list(pending)
