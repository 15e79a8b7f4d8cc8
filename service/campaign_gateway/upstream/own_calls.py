"""The calls of one replica for one account: which of them may be in the window, and what the ledger lacks of them.

Times are monotonic, so they are true whatever the shared clock does; slots are named in the time of that clock.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from campaign_gateway.policy.budget_mode import NEVER
from campaign_gateway.policy.ledger import Allowance, Slot

SHIFTS = 1024
"""Parts of a second in which the distance between the shared clock and the monotonic one is measured, rounded up."""


@dataclass(slots=True)
class _OwnCall:
    slot: Slot
    """As the ledger knows it."""
    free_at: float
    is_unreported: bool
    """Whether it was begun without the ledger, which does not know of it yet."""
    shift: float = math.nan
    """The distance between the clocks that `slot` was made for."""


@dataclass(frozen=True, slots=True)
class Unreported:
    """What the ledger lacks."""

    voided: frozenset[str]
    """Calls that never left."""
    succeeded: frozenset[str]
    """Calls that ended without the platform refusing them for the limit."""
    begun: frozenset[str]
    """Calls that were begun without the ledger."""


@dataclass(slots=True)
class Attempt:
    """A change of the ledger under way."""

    requested_at: float
    """When it began; monotonic, like all times here."""
    left: int
    """What was left of the allotment then ..."""
    allotment: int
    """... and the allotment after it, if it is made."""
    quiet_until: float = NEVER
    """Until when the others take this replica for quiet, if it is made."""
    reported_at: float | None = None
    """When the report that goes with it was made."""


class OwnCalls:
    """One replica's calls, from their permits until they have left the window."""

    def __init__(self, allowance: Allowance, clock: Callable[[], float]) -> None:
        self._allowance = allowance
        self._clock = clock
        self._calls: dict[str, _OwnCall] = {}
        self._voided: set[str] = set()
        self._succeeded: set[str] = set()

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def has_ended(self) -> bool:
        """Whether the ledger lacks the end of a call."""
        return bool(self._voided or self._succeeded)

    def begin(self, slot: Slot, requested_at: float, *, is_unreported: bool) -> None:
        """A call holds its slot, as if it takes all of its time from when it was asked for."""
        self._calls[slot.id] = _OwnCall(slot, requested_at + self._allowance.most, is_unreported)

    def end(self, id_: str, *, is_void: bool) -> None:
        """A call has ended, or never left."""
        if is_void:
            self.void((id_,))
            return
        if (call := self._calls.get(id_)) is not None:
            call.free_at, call.shift = self._clock() + self._allowance.window, math.nan
        self._succeeded.add(id_)

    def void(self, ids: Iterable[str]) -> None:
        """These slots are given back when it can be said."""
        for id_ in ids:
            self._calls.pop(id_, None)
            self._voided.add(id_)

    def left_of(self, allotment: int) -> int:
        """What is left of an allotment, which calls that were begun without the ledger use up."""
        now = self._clock()
        return max(0, allotment - sum(1 for call in self._calls.values() if call.is_unreported and call.free_at > now))

    def slots(self, now: float) -> Mapping[str, Slot]:
        """What each holds, by the shared clock, which shows `now` at the most."""
        self._forget_ended(lambda call: call.is_unreported)
        shift = math.ceil((now - self._clock()) * SHIFTS) / SHIFTS
        for call in self._calls.values():
            if call.shift != shift:
                call.slot, call.shift = replace(call.slot, free_at=call.free_at + shift), shift
        return {id_: call.slot for id_, call in self._calls.items()}

    def unreported(self) -> Unreported:
        """What the ledger lacks."""
        begun = frozenset(id_ for id_, call in self._calls.items() if call.is_unreported)
        return Unreported(frozenset(self._voided), frozenset(self._succeeded), begun)

    def reported(self, unreported: Unreported) -> None:
        """The ledger knows that now, and all slots."""
        self._voided -= unreported.voided
        self._succeeded -= unreported.succeeded
        for id_ in unreported.begun & self._calls.keys():
            self._calls[id_].is_unreported = False
        self._forget_ended(lambda _call: True)

    def _forget_ended(self, is_known: Callable[[_OwnCall], bool]) -> None:
        """Forgets calls that have left the window, as far as the ledger knows of their end."""
        now = self._clock()
        for id_ in [id_ for id_, call in self._calls.items() if call.free_at <= now and is_known(call)]:
            del self._calls[id_]
