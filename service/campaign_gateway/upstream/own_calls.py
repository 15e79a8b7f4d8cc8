"""The calls of one replica for one account: which of them may be in the window, and what the ledger lacks of them.

Times are monotonic, so they are true whatever the shared clock does; slots are named in the time of that clock.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from campaign_gateway.policy.budget_mode import NEVER
from campaign_gateway.policy.ledger import Allowance, Slot

SHIFTS = 1024
"""Parts of a second in which the distance between the shared clock and the monotonic one is measured, rounded up."""


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
    """One replica's calls, from their permits until they have left the window.

    Whatever is asked for a call costs the same however many there are: two queues, each in the order in which its slots
    fall free, and what the ledger lacks apart from them.
    """

    def __init__(self, allowance: Allowance, clock: Callable[[], float]) -> None:
        self.allowance = allowance
        self._clock = clock
        self._under_way: dict[str, float] = {}
        """When the slot of each falls free, in the order in which they were begun ..."""
        self._ended: dict[str, float] = {}
        """... and of those that have ended, in the order of their ends."""
        self._slots: dict[str, Slot] = {}
        """As the ledger knows them, at the distance between the clocks of `_shift`; at any one if they are `_stale`."""
        self._shift = math.nan
        self._stale: set[str] = set()
        self._begun: set[str] = set()
        """Those that were begun without the ledger, which does not know of them yet."""
        self._voided: set[str] = set()
        self._succeeded: set[str] = set()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def has_ended(self) -> bool:
        """Whether the ledger lacks the end of a call."""
        return bool(self._voided or self._succeeded)

    def begin(self, slot: Slot, requested_at: float, *, is_unreported: bool) -> None:
        """A call holds its slot, as if it takes all of its time from when it was asked for."""
        self._slots[slot.id] = slot
        self._under_way[slot.id] = requested_at + self.allowance.most
        self._stale.add(slot.id)
        if is_unreported:
            self._begun.add(slot.id)

    def end(self, id_: str, *, is_void: bool) -> None:
        """A call has ended, or never left."""
        if is_void:
            self.void((id_,))
            return
        if self._under_way.pop(id_, None) is not None:
            self._ended[id_] = self._clock() + self.allowance.window
            self._stale.add(id_)
        self._succeeded.add(id_)

    def void(self, ids: Iterable[str]) -> None:
        """These slots are given back when it can be said."""
        for id_ in ids:
            self._forget(id_)
            self._voided.add(id_)

    def left_of(self, allotment: int) -> int:
        """What is left of an allotment, which calls that were begun without the ledger use up."""
        now = self._clock()
        return max(0, allotment - sum(1 for id_ in self._begun if self._free_at(id_) > now))

    def slots(self, now: float) -> Mapping[str, Slot]:
        """What each holds, by the shared clock, which shows `now` at the most. It shows what comes later, too."""
        for id_ in [id_ for id_ in self._begun if self._free_at(id_) <= self._clock()]:
            self._forget(id_)
        shift = math.ceil((now - self._clock()) * SHIFTS) / SHIFTS
        for id_ in self._stale if shift == self._shift else list(self._slots):
            self._slots[id_] = replace(self._slots[id_], free_at=self._free_at(id_) + shift)
        self._stale.clear()
        self._shift = shift
        return MappingProxyType(self._slots)

    def unreported(self) -> Unreported:
        """What the ledger lacks."""
        return Unreported(frozenset(self._voided), frozenset(self._succeeded), frozenset(self._begun))

    def reported(self, unreported: Unreported) -> None:
        """The ledger knows that now, and all slots."""
        self._voided -= unreported.voided
        self._succeeded -= unreported.succeeded
        self._begun -= unreported.begun
        now = self._clock()
        for queue in (self._under_way, self._ended):
            # What fell free behind one that has not yet goes with it: to be told of once more does no harm.
            while queue and queue[id_ := next(iter(queue))] <= now and id_ not in self._begun:
                self._forget(id_)

    def _free_at(self, id_: str) -> float:
        return self._ended[id_] if id_ in self._ended else self._under_way[id_]

    def _forget(self, id_: str) -> None:
        for known in (self._under_way, self._ended, self._slots):
            known.pop(id_, None)
        self._stale.discard(id_)
        self._begun.discard(id_)
