"""Background tasks that are named, kept, and ended at shutdown."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
CANCEL_AGAIN_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Tasks:
    """A room for tasks that outlive the request that started them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, object], name: str, on_end: Callable[[], None] | None = None) -> None:
        """Starts a task. Its failure is logged; `on_end` is called when it has ended, also if it never began."""
        task = self._start(work, name)
        if on_end is not None:
            task.add_done_callback(lambda _: on_end())

    async def see_through(self, work: Coroutine[Any, Any, _T], name: str) -> _T:
        """What the work returns. It goes on to its end when the caller is gone."""
        return await asyncio.shield(self._start(work, name))

    def _start(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - the one place where tasks are made
        self._running.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
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
