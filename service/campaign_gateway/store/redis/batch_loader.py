"""Look-ups that come while another one is under way, joined into one trip.

With none under way, a look-up goes out at once. Those that come before its answer wait for it and then go out together,
so that load makes trips larger instead of more. Laws:

1. Whoever gives up waiting takes nobody along.
2. An answer, or a failure, reaches all who wait for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from campaign_gateway.proxy.tasks import Tasks

MOST_AT_ONCE = 128
"""Look-ups in one trip: it keeps the server from everybody else for as long as it takes."""

Fetch = Callable[[list[str]], Awaitable[Sequence[object]]]


@dataclass(slots=True)
class _LookUp:
    names: Sequence[str]
    answer: asyncio.Future[list[object]]


@dataclass(slots=True)
class _Partition:
    is_busy: bool = False
    waiting: list[_LookUp] = field(default_factory=list)


class BatchLoader:
    """Joins look-ups, apart for each partition of the keys: one command reaches one partition only."""

    def __init__(self, fetch: Fetch) -> None:
        """Look-ups through `fetch`, which brings the values of some names, in their order, in one trip."""
        self._fetch = fetch
        self._partitions: dict[int, _Partition] = {}
        self._tasks = Tasks()

    async def load(self, partition: int, names: Sequence[str]) -> Sequence[object]:
        """The values of these names, which lie in the partition.

        Raises:
            Exception: what `fetch` raised.
        """
        here = self._partitions.get(partition)
        if here is None:
            here = self._partitions[partition] = _Partition()
        if here.is_busy:
            look_up = _LookUp(names, asyncio.get_running_loop().create_future())
            here.waiting.append(look_up)
            return await look_up.answer
        here.is_busy = True
        try:
            return await self._fetch(list(names))
        finally:
            self._go_on(here)

    async def close(self) -> None:
        """Ends the trips under way that were made for several; whoever waits for them gets an error."""
        await self._tasks.close()

    def _go_on(self, here: _Partition) -> None:
        together = here.waiting[:MOST_AT_ONCE]
        del here.waiting[:MOST_AT_ONCE]
        here.is_busy = bool(together)
        if together:
            self._tasks.spawn(self._fetch_together(here, together), name="look up together")

    async def _fetch_together(self, here: _Partition, together: list[_LookUp]) -> None:
        # Neighbours share their group's fence: it is asked for once.
        names = list(dict.fromkeys(name for look_up in together for name in look_up.names))
        try:
            values = dict(zip(names, await self._fetch(names), strict=True))
        except BaseException as error:
            for look_up in together:
                if not look_up.answer.done():
                    look_up.answer.set_exception(error if isinstance(error, Exception) else ConnectionAbortedError())
            if not isinstance(error, Exception):
                raise
        else:
            for look_up in together:
                if not look_up.answer.done():
                    look_up.answer.set_result([values[name] for name in look_up.names])
        finally:
            self._go_on(here)
