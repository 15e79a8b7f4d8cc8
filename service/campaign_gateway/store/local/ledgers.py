"""The ledgers of a process that shares them with nobody."""

from collections.abc import Callable, Collection
from typing import TypeVar

from campaign_gateway.policy.ledger import Ledger
from campaign_gateway.store.clock import StoreClock

_T = TypeVar("_T")
Step = Callable[[Ledger | None, float], tuple[Ledger, _T]]


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
