"""Fills under way, and who may join them.

Laws of this module:

1. A flight is a task of the registry's. No caller owns it: cancelling any of them, the first included, stops nothing.
2. Each waiter has its own deadline and leaves alone when it passes.
3. A flight always lands: on its result, or on the exception that ended it, for all its waiters.
4. A flight stays joinable until its result is in the store, so that no second call starts between reply and `put`.
5. Whoever joins a flight that turns out to have had less right than he has, or to know less, asks again by his own.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure, Fill
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import Found, PlatformCall
from campaign_gateway.proxy.request import EVERY, Request, group_of
from campaign_gateway.proxy.tasks import Tasks

FillResult = Fill | Failure

DETAIL_OF_REFUSAL = {
    Problem.BUDGET_EXHAUSTED: Detail.BUDGET,
    Problem.OVERLOADED: Detail.BUDGET,
    Problem.UPSTREAM_PAUSED: Detail.PAUSED,
}
"""What an answer says that was given since no call might be made."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a caller without a stored answer is kept, in seconds."""

    for_call: float
    """The time-out of one call."""

    @property
    def for_permit(self) -> float:
        """What may be spent waiting for a permit."""
        return self.for_call / 2

    @property
    def total(self) -> float:
        """From asking for a fill to giving up on it: the last permit that is waited for leaves a whole call's time."""
        return self.for_permit + self.for_call


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caller may spend on an answer, and which one he is content with."""

    lane: Lane
    wait: float
    """Seconds that he waits for a permit at most."""
    newer_than: float | None = None
    """The moment of a write, in seconds of the store's clock: an answer from before it will not do."""
    accepts_finished: bool = True
    """Whether an answer will do that others asked for and that is there already."""

    @property
    def is_patient(self) -> bool:
        """Whether all is done for it that can be done for a caller who waits."""
        return self.wait > 0 and self.lane.is_waited_for


@dataclass(frozen=True, slots=True)
class Flight:
    """A fill under way."""

    request: Request
    found: Found
    """What was stored when it began."""
    claim: Claim
    """That of whoever began it."""
    reason: str
    """The metric label `reason` of its call."""
    began: float
    """When, in seconds of the store's clock: its answer is no older."""
    calls: list[PlatformCall] = field(default_factory=list)
    """Those that have ended."""
    result: asyncio.Future[FillResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def serves(self, claim: Claim) -> bool:
        """Whether a caller with this claim is content with it, as far as is known by now."""
        if claim.newer_than is not None and self.began < claim.newer_than:
            return False
        if not self.result.done() or self.result.exception() is not None:
            return True
        result = self.result.result()
        if isinstance(result, Fill):
            # What another replica had read before the write that this caller knows of is no answer for him.
            return claim.newer_than is None or result.stored.validated_at >= claim.newer_than
        was_denied = not result.was_forwarded and result.problem in DETAIL_OF_REFUSAL
        # It did not wait for a permit, and may have had no right to the reserve; this caller has.
        return not (was_denied and claim.lane.is_waited_for and not self.claim.is_patient)

    async def wait(self, seconds: float) -> FillResult:
        """The result, or that there is none in time; then the flight goes on."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self.result)
        except TimeoutError:
            return Failure(Problem.UPSTREAM_TIMEOUT, f"no answer within {seconds:g} s")
        except Exception:  # noqa: BLE001 - logged by the task that it ended; whoever has a stored answer gets that
            return Failure(Problem.INTERNAL, "an error in the gateway")

    @contextmanager
    def always_settles(self) -> Iterator[None]:
        """Makes the exception that ends the block that of all waiters, if they have no result yet."""
        try:
            yield
        except Exception as error:
            if not self.result.done():
                self.result.set_exception(error)
            raise


class Flights:
    """The flights of one process, by key."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._by_key: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def to_join(self, key: str, claim: Claim) -> Flight | None:
        """The flight that serves the claim, if there is one."""
        flight = self._by_key.get(key)
        if flight is None or not flight.serves(claim):
            return None
        return flight if claim.accepts_finished or not flight.result.done() else None

    def start(self, flight: Flight, fly: Callable[[Flight], Coroutine[None, None, None]]) -> None:
        """Lets it fly, for the key's next requests to join."""
        # Nobody may be waiting: an exception is then the task's to report, not the future's.
        flight.result.add_done_callback(lambda result: result.cancelled() or result.exception())
        key = flight.request.key
        self._by_key[key] = flight
        self._tasks.spawn(fly(flight), name="fill", on_end=partial(self._ended, key, flight))

    def forget(self, key: str | None) -> None:
        """Lets no later request join the key's flight: what it brings is out of date already.

        Args:
            key: an entry's key, that of all answers to an operation, or None for any.
        """
        if key is None:
            self._by_key.clear()
        elif key.endswith(EVERY):
            for other in [other for other in self._by_key if group_of(other) == key]:
                del self._by_key[other]
        else:
            self._by_key.pop(key, None)

    def _ended(self, key: str, flight: Flight) -> None:
        if not flight.result.done():
            flight.result.set_exception(ConnectionAbortedError("the gateway is stopping"))
        if self._by_key.get(key) is flight:
            del self._by_key[key]
