"""The calls that an account may make, and where they are written down."""

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from campaign_gateway.policy.ledger import Lane, Ledger
from campaign_gateway.policy.settle import Failure

_T = TypeVar("_T")


class LedgerLostError(Exception):
    """The ledgers cannot be reached, or not be changed. Whether the change was made is not known."""


class Ledgers(Protocol):
    """Where the accounts' budgets are written down."""

    is_local: bool
    """Whether only processes of this machine change them."""
    reports_ends: bool
    """Whether the end of a call is written down at once: they outlive this process, and nobody does it later."""

    def now(self) -> float:
        """Seconds since the epoch on the one clock that all who share the ledgers use."""
        ...

    @property
    def uncertainty(self) -> float:
        """How far `now` may be off that clock, in seconds."""
        ...

    def server(self, account: str) -> str:
        """Names the run of the server that keeps the account's; another one may have lost the latest changes."""
        ...

    async def change(self, account: str, step: Callable[[Ledger | None, float], tuple[Ledger, _T]]) -> _T:
        """What `step` returned, beside the ledger that it made and that is now in force.

        Args:
            account: whose ledger.
            step: a pure function of the ledger (None where there is none) and the time; may be run several times.

        Raises:
            LedgerLostError: nothing is known to have changed.
        """
        ...

    async def notify(self, accounts: Collection[str]) -> frozenset[str]:
        """Asks whoever else uses the ledgers of these accounts to look at them now.

        Nothing rests on it but how soon they do.

        Args:
            accounts: their names; may be none.

        Returns:
            The accounts that anybody asked to look at within the last seconds.

        Raises:
            LedgerLostError: nobody was asked, as far as is known.
        """
        ...


class Permit(Protocol):
    """The right to send one call."""

    leave_by: float
    """The moment on the monotonic clock after which the request may not leave any longer."""

    def void(self) -> None:
        """Says that the call certainly never left."""
        ...


class Refused(Exception):  # noqa: N818 - a verdict, not an error
    """No permit: the budget is spent or the account is paused."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Budget(Protocol):
    """The calls an account may make."""

    def refusal(self, account: str, lane: Lane, client: str, key: str, wait: float) -> Failure | None:
        """Why a permit would be refused, as far as is known without asking anybody; None where one may be had.

        A caller who comes back when this says is sure of a permit then.

        Args:
            account: whose budget.
            lane: what the call would be for.
            client: who asks for it.
            key: what it asks for, by which it is known when it is back.
            wait: seconds to wait for a permit at most.
        """
        ...

    def prospect(self, account: str, lane: Lane, client: str, key: str, wait: float) -> Failure | None:
        """As `refusal`, asked by an onlooker: nothing is counted, and nobody is promised anything."""
        ...

    def permit(
        self, account: str, lane: Lane, client: str, wait: float, key: str = ""
    ) -> AbstractAsyncContextManager[Permit]:
        """One permit, had by entering; leaving says that the call ended.

        Args:
            account: whose budget.
            lane: what the call is for.
            client: who asked for it; slots are shared fairly between clients.
            wait: seconds to wait for a permit at most.
            key: what is asked for; see `refusal`.

        Raises:
            Refused: on entering, at once when waiting cannot help.
        """
        ...

    async def pause(self, account: str, seconds: float | None) -> float:
        """Stops all calls of the account: the platform said that its limit is exceeded.

        Args:
            account: whose budget.
            seconds: its `Retry-After`; None where there was none.

        Returns:
            The seconds from now until calls may be made again.
        """
        ...
