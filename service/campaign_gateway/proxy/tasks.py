"""Background tasks that are named, kept, and ended at shutdown.

Nothing ends unseen: a task that fails is logged once, counted, and named as failing until one of its name ends well.
Work that has no end is begun again, after waits that grow; it no longer fails once it has run for a while.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from campaign_gateway.policy.backoff import Backoff

_T = TypeVar("_T")
CANCEL_AGAIN_SECONDS = 0.5
RESTART_WAITS = Backoff(first=0.5, most=30.0)
"""Seconds before work that has no end is begun again."""
STEADY_SECONDS = 5.0
"""Work that has run for this long is no longer failing."""

_log = logging.getLogger(__name__)


class Tasks:
    """A room for tasks that outlive the request that started them."""

    def __init__(self, count: Callable[[str, int], None] = lambda _name, _failures: None) -> None:
        """No task yet. `count` is called with the name of each task and its failures: 0 at its start, 1 if it fails."""
        self._running: set[asyncio.Task[Any]] = set()
        self._count = count
        self._failing: dict[str, str] = {}

    @property
    def failing(self) -> Mapping[str, str]:
        """What fails at present: the kind of each task's last error, by the task's name."""
        return self._failing

    def spawn(self, work: Coroutine[Any, Any, object], name: str, on_end: Callable[[], None] | None = None) -> None:
        """Starts a task. Its failure is logged; `on_end` is called when it has ended, also if it never began."""
        task = self._start(work, name)
        if on_end is not None:
            task.add_done_callback(lambda _: on_end())

    def supervise(self, work: Callable[[], Coroutine[Any, Any, object]], name: str) -> None:
        """Starts work that has no end, and begins it again whenever it ends all the same."""
        self.spawn(self._keep(work, name), f"supervise {name}")

    async def see_through(self, work: Coroutine[Any, Any, _T], name: str) -> _T:
        """What the work returns. It goes on to its end when the caller is gone."""
        return await asyncio.shield(self._start(work, name))

    async def _keep(self, work: Callable[[], Coroutine[Any, Any, object]], name: str) -> None:
        loop, waits = asyncio.get_running_loop(), RESTART_WAITS
        while True:
            began = loop.time()
            steady = loop.call_later(STEADY_SECONDS, self._recover, name)
            run = self._start(_without_end(work), name)
            await asyncio.wait([run])
            steady.cancel()
            waits = (RESTART_WAITS if loop.time() - began >= STEADY_SECONDS else waits).grown()
            await asyncio.sleep(waits.current)

    def _start(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - the one place where tasks are made
        self._running.add(task)
        self._count(name, 0)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        name, error = task.get_name(), task.exception()
        if error is None:
            self._recover(name)
            return
        self._count(name, 1)
        if self._failing.get(name) != type(error).__name__:
            self._failing[name] = type(error).__name__
            _log.error("task %s failed", name, exc_info=error)

    def _recover(self, name: str) -> None:
        if self._failing.pop(name, None) is not None:
            _log.info("task %s works again", name)

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


async def _without_end(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    await work()
    raise RuntimeError("it ended")
