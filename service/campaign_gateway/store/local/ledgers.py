"""The ledgers of a process that shares them with nobody."""

from collections.abc import Callable, Collection
from typing import TypeVar

from typing_extensions import override

from campaign_gateway.policy.ledger import Ledger
from campaign_gateway.proxy.ports import Ledgers
from campaign_gateway.store.clock import StoreClock

_T = TypeVar("_T")
Step = Callable[[Ledger | None, float], tuple[Ledger, _T]]


class MemoryLedgers(Ledgers):
    """The ledgers of one process, for as long as it runs."""

    is_local = True
    reports_ends = False

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock
        self._by_account: dict[str, Ledger] = {}

    @override
    def now(self) -> float:
        return self._clock.now()

    @property
    @override
    def uncertainty(self) -> float:
        return 0.0

    @override
    def server(self, account: str) -> str:
        return ""

    @override
    async def change(self, account: str, step: Step[_T]) -> _T:
        self._by_account[account], result = step(self._by_account.get(account), self.now())
        return result

    @override
    async def notify(self, accounts: Collection[str]) -> frozenset[str]:
        return frozenset()
