"""One fill per key and process, however many ask (request collapsing).

Laws of this module:

1. A flight is a task of the registry's. No caller owns it: cancelling any of them, the first included, stops nothing.
2. Each waiter has its own deadline and leaves alone when it passes.
3. A flight always lands: on its result, or on the exception that ended it, for all its waiters.
4. A flight stays joinable until its result is in the store, so that no second call starts between reply and `put`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from campaign_gateway.policy.settle import Failure, Fill
from campaign_gateway.proxy.request import EVERY, group_of
from campaign_gateway.proxy.tasks import Tasks

Landed = Fill | Failure
Work = Callable[[Callable[[Landed], None]], Awaitable[None]]
"""Gets a result, gives it to the function that it is called with, and only then stores it."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A fill under way."""

    is_patient: bool
    """Whether it waits for a permit; one for callers who have a stored answer does not."""
    began: float
    """When, in seconds of the store's clock: its answer is no older."""
    landing: asyncio.Future[Landed]

    async def wait(self, seconds: float) -> Landed:
        """The result.

        Raises:
            TimeoutError: it has not landed in time; the flight goes on.
        """
        async with asyncio.timeout(seconds):
            return await asyncio.shield(self.landing)


class Flights:
    """The flights of one process, by key."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._by_key: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def current(self, key: str, *, landed: bool = True, since: float | None = None) -> Flight | None:
        """The flight to join, if any.

        Args:
            key: what is filled.
            landed: False asks for one whose answer is still to come.
            since: the moment before which it must not have begun.
        """
        flight = self._by_key.get(key)
        if flight is None or (since is not None and flight.began < since):
            return None
        return flight if landed or not flight.landing.done() else None

    def start(self, key: str, fill: Work, began: float, *, is_patient: bool) -> Flight:
        """A new flight, which the key's next requests join.

        Args:
            key: what is filled.
            fill: gets the result, tells the waiters, and stores it.
            began: now, in seconds of the store's clock.
            is_patient: whether it waits for a permit.
        """
        flight = Flight(is_patient, began, asyncio.get_running_loop().create_future())
        # Nobody may be waiting: an exception is then the task's to report, not the future's.
        flight.landing.add_done_callback(lambda landing: landing.cancelled() or landing.exception())
        self._by_key[key] = flight
        self._tasks.spawn(self._fly(flight, fill), name="fill", on_end=partial(self._ended, key, flight))
        return flight

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

    async def _fly(self, flight: Flight, fill: Work) -> None:
        try:
            await fill(flight.landing.set_result)
        except Exception as error:
            if not flight.landing.done():
                flight.landing.set_exception(error)
            raise

    def _ended(self, key: str, flight: Flight) -> None:
        if not flight.landing.done():
            flight.landing.set_exception(ConnectionAbortedError("the gateway is stopping"))
        if self._by_key.get(key) is flight:
            del self._by_key[key]
