"""What a process keeps for itself where others share it through Redis: the board and the ledgers.

Apart from `boards` and `ledgers`, so that a gateway without Redis does without redis-py, a sixth of its start.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from campaign_gateway.policy.ledger import Ledger
from campaign_gateway.policy.sweeping import Head, Known, View, apply
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.usage import Usage
from campaign_gateway.store.waits import News, Wakes

_T = TypeVar("_T")
Step = Callable[[Ledger | None, float], tuple[Ledger, _T]]

NOTHING = View()


class MemoryBoard:
    """Implements `Board` for one process."""

    def __init__(self, epoch: Epoch, now: Callable[[], float]) -> None:
        """A board.

        Args:
            epoch: ended whenever `view` says something else.
            now: the store's clock.
        """
        self._epoch = epoch
        self._now = now
        self._news, self._wakes = News(), Wakes()
        self._usage = Usage(self._wakes.come)
        self._views: dict[str, View] = {}

    def view(self, stream: str) -> View:
        """See `Board`."""
        return self._views.get(stream) or NOTHING

    def ask(self, stream: str, id_: str, now: float) -> None:
        """See `Board`."""
        self._usage.note(stream, id_, now)

    def used(self, stream: str) -> Mapping[str, float]:
        """See `Board`."""
        return self._usage.used(stream, self._now())

    def interest(self, stream: str) -> Mapping[str, float]:
        """See `Board`."""
        return self._usage.interest(stream, self._now())

    def is_leading(self, _stream: str) -> bool:
        """See `Board`. There is nobody else."""
        return True

    async def news(self, stream: str, seconds: float) -> None:
        """See `Board`."""
        await self._news.wait(stream, seconds)

    async def wait(self, stream: str, seconds: float) -> None:
        """See `Board`."""
        await self._wakes.wait(stream, seconds)

    async def post(self, stream: str, head: Head, updates: Mapping[str, Known]) -> bool:
        """See `Board`."""
        if head.number != self.view(stream).head.number + 1:
            return False
        self._views[stream] = apply(self.view(stream), head, updates)
        self._epoch.end()
        self._news.come(stream)
        self._wakes.come(stream)
        return True


class MemoryLedgers:
    """Implements `Ledgers` for one process, and for as long as it runs."""

    is_shared = False
    wants_ends = False

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock
        self._by_account: dict[str, Ledger] = {}

    def now(self) -> float:
        """See `Ledgers`."""
        return self._clock.now()

    @property
    def uncertainty(self) -> float:
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
