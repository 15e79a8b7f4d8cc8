"""Look-ups that come while another one is under way, joined into one trip.

Alone, a look-up goes out at once. Those that come before its answer wait for it and then go out together, so that load
makes trips larger instead of more. Laws:

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
class _Wanted:
    names: Sequence[str]
    answer: asyncio.Future[list[object]]


@dataclass(slots=True)
class _Part:
    is_busy: bool = False
    waiting: list[_Wanted] = field(default_factory=list)


class Lookups:
    """Joins look-ups, apart for each part of the keys: one command reaches one part only."""

    def __init__(self, fetch: Fetch) -> None:
        """Look-ups through `fetch`, which brings the values of some names, in their order, in one trip."""
        self._fetch = fetch
        self._parts: dict[int, _Part] = {}
        self._tasks = Tasks()

    async def get(self, part: int, names: Sequence[str]) -> Sequence[object]:
        """The values of these names, which lie in the part.

        Raises:
            Exception: what `fetch` raised.
        """
        here = self._parts.get(part)
        if here is None:
            here = self._parts[part] = _Part()
        if here.is_busy:
            wanted = _Wanted(names, asyncio.get_running_loop().create_future())
            here.waiting.append(wanted)
            return await wanted.answer
        here.is_busy = True
        try:
            return await self._fetch(list(names))
        finally:
            self._go_on(here)

    def _go_on(self, here: _Part) -> None:
        together = here.waiting[:MOST_AT_ONCE]
        del here.waiting[:MOST_AT_ONCE]
        here.is_busy = bool(together)
        if together:
            self._tasks.spawn(self._fetch_together(here, together), name="look up together")

    async def _fetch_together(self, here: _Part, together: list[_Wanted]) -> None:
        # Neighbours share their group's fence: it is asked for once.
        names = list(dict.fromkeys(name for wanted in together for name in wanted.names))
        try:
            values = dict(zip(names, await self._fetch(names), strict=True))
        except BaseException as error:
            for wanted in together:
                if not wanted.answer.done():
                    wanted.answer.set_exception(error if isinstance(error, Exception) else ConnectionAbortedError())
            if not isinstance(error, Exception):
                raise
        else:
            for wanted in together:
                if not wanted.answer.done():
                    wanted.answer.set_result([values[name] for name in wanted.names])
        finally:
            self._go_on(here)
