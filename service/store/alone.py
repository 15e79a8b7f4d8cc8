"""What a process keeps for itself where others share it through Redis: the board and the ledgers.

Apart from `boards` and `ledgers`, so that a gateway without Redis does without redis-py, a sixth of its start.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from service.policy.ledger import Ledger
from service.policy.sweeping import Head, Known, View, apply
from service.proxy.epoch import Epoch
from service.store.clock import StoreClock

_T = TypeVar("_T")
Step = Callable[[Ledger | None, float], tuple[Ledger, _T]]

MAX_ASKED = 50_000
"""Campaigns of a stream whose use is noted; what is beyond lives by its own lifetime."""
NOTHING = View()


class News:
    """Wakes those who wait for news of a stream."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    async def wait(self, stream: str, seconds: float) -> None:
        """Waits for the next news, or so long."""
        event = self._events.setdefault(stream, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    def come(self, stream: str) -> None:
        """There is news."""
        if (event := self._events.pop(stream, None)) is not None:
            event.set()


def note_use(asked: dict[str, float], id_: str, now: float) -> None:
    """Notes that a campaign was asked for."""
    if id_ in asked or len(asked) < MAX_ASKED:
        asked[id_] = now


class MemoryBoard:
    """Implements `Board` for one process."""

    def __init__(self, epoch: Epoch) -> None:
        """A board that ends the epoch whenever `view` says something else."""
        self._epoch = epoch
        self._news = News()
        self._views: dict[str, View] = {}
        self._asked: dict[str, dict[str, float]] = {}

    def view(self, stream: str) -> View:
        """See `Board`."""
        return self._views.get(stream) or NOTHING

    def ask(self, stream: str, id_: str, now: float) -> None:
        """See `Board`."""
        note_use(self._asked.setdefault(stream, {}), id_, now)

    async def news(self, stream: str, seconds: float) -> None:
        """See `Board`."""
        await self._news.wait(stream, seconds)

    async def used(self, stream: str, since: float) -> Mapping[str, float]:
        """See `Board`."""
        asked = {id_: at for id_, at in self._asked.get(stream, {}).items() if at >= since}
        self._asked[stream] = asked
        return dict(asked)

    async def lead(self, _stream: str) -> bool:
        """See `Board`. There is nobody else."""
        return True

    async def post(self, stream: str, head: Head, changed: Mapping[str, Known]) -> bool:
        """See `Board`."""
        if head.number != self.view(stream).head.number + 1:
            return False
        self._views[stream] = apply(self.view(stream), head, changed)
        self._epoch.end()
        self._news.come(stream)
        return True


class MemoryLedgers:
    """Implements `Ledgers` for one process."""

    is_shared = False

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock
        self._by_account: dict[str, Ledger] = {}

    def now(self) -> float:
        """See `Ledgers`."""
        return self._clock.now()

    @property
    def error(self) -> float:
        """See `Ledgers`."""
        return 0.0

    def server(self, _account: str) -> str:
        """See `Ledgers`."""
        return ""

    async def change(self, account: str, step: Step[_T]) -> _T:
        """See `Ledgers`."""
        self._by_account[account], result = step(self._by_account.get(account), self.now())
        return result

    async def notify(self, _accounts: Collection[str]) -> frozenset[str]:
        """See `Ledgers`. There is nobody else."""
        return frozenset()
