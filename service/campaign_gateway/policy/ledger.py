"""The call budget of one account, as a value: who holds which slot, and what each replica knows of it.

Laws of this module:

1. A call arrives at the platform at some moment between its send and its end (answer, failure or time-out), and nobody
   can know when. So it holds a *slot* from its permit until one window after its end.
2. While at most `calls` slots are held at any time, no window of that length sees more arrivals. Proof: take the
   last-sent of `calls + 1` arrivals within one window; at its send all the others still held their slots.
3. A slot whose end nobody reports (its replica died) is held as if the call had used all of its time.
4. A replica puts its own slots back whenever it looks, and before it takes another. So a ledger that was lost is
   whole again once every replica that was known has been seen; until then nobody takes a slot.
5. A replica that has gone silent for longer than it said may be cut off. What it may send by itself, its allotment and
   then its share (`policy.allotments`), is withheld from the others, for `WITHHELD_WINDOWS`.

The limits of what is promised, where the alternative is that every crash stops the account: a replica that is cut off
alone for longer than that, while the others see the ledger, adds its share to the budget; a replica that knows of no
other goes on with the whole budget, also if one has joined within the last second or joins later; and calls that nobody
is left to report are not counted: a ledger emptied, and their replica gone, or cut off, before it has reported, above
all where a new one is counted in its stead.

Neither a token bucket nor a fixed window has property 2: both let nearly twice the budget into some windows. All
functions are pure; times are seconds of the clock that all replicas share. What a replica's report changes is in
`policy.reports`, who may take a slot in `policy.schedule`, how many there are in `policy.capacity`.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter

SILENCE_SECONDS = 3.0
"""A replica not seen for this long, beyond what it said, is missing; a busy one is seen about once a second."""
QUIET_SECONDS = 30.0
"""How long a replica that has nothing to say is not seen, by what it said."""
WITHHELD_WINDOWS = 2
"""How long a missing replica's share is withheld. It sits out the first of them by itself."""
LONGEST_PAUSE_SECONDS = 300.0
"""A longer wait from the platform is taken for a mistake, unless the settings say otherwise."""
LONGEST_HOLD_SECONDS = 2.5
"""How long a slot is left to callers who were told to come back for it: `Retry-After` is in whole seconds."""
HOLD_PART = 1 / 32
"""The part of a window that this may take at most: a slot that nobody comes back for lies idle meanwhile."""


class Lane(StrEnum):
    """What a call is for, in the order in which waiting calls are served."""

    WRITES = "writes"
    INTERACTIVE = "interactive"
    """A caller waits and has nothing else to be given."""
    VALIDATION = "proof"
    """A newer answer than what is stored, for a caller who wants one or for the published bound."""
    BACKGROUND = "background"
    """Nobody waits."""

    @property
    def is_waited_for(self) -> bool:
        """Whether it may use the calls that a budget keeps in reserve."""
        return self in _WAITED_FOR


_WAITED_FOR = frozenset({Lane.WRITES, Lane.INTERACTIVE})


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an account may do."""

    calls: int
    window: float
    """Seconds."""
    leave: float
    """Seconds from a permit to the moment after which its request may not leave any longer."""
    timeout: float
    """Seconds that a call may take."""
    reserve: int = 0
    """Calls that only lanes with somebody waiting may use, while somebody does."""
    lanes: Mapping[Lane, int] = field(default_factory=dict)
    """Calls of a window that a lane can count on; the others borrow what is beyond."""
    clients: int = 1
    """How many clients the settings name for the account."""
    longest_pause: float = LONGEST_PAUSE_SECONDS
    """Seconds that the platform's `Retry-After` is believed at most; after them a probe finds out."""

    @property
    def most(self) -> float:
        """Seconds from a permit to the moment when the slot of a call that nobody reported on falls free."""
        return self.leave + self.timeout + self.window

    @property
    def hold(self) -> float:
        """Seconds for which a slot is left to whoever was told to come back for it."""
        return min(LONGEST_HOLD_SECONDS, HOLD_PART * self.window)


@dataclass(frozen=True, slots=True)
class Slot:
    """One call's hold on the budget."""

    id: str
    lane: Lane
    client: str
    free_at: float


free_at = attrgetter("free_at")
"""By which the slots of a ledger are in order."""
lane_and_client = attrgetter("lane", "client")
"""By which they are counted."""


@dataclass(frozen=True, slots=True)
class Promise:
    """So many refused callers of a client may come back at a moment, and find a slot."""

    replica: str
    """Which made it."""
    client: str
    at: float
    count: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The shared state of one account."""

    slots: tuple[Slot, ...] = ()
    """In the order in which they fall free."""
    promises: tuple[Promise, ...] = ()
    refused: Mapping[str, float] = field(default_factory=dict)
    """When a caller of each client was last refused, within a window."""
    replicas: Mapping[str, float] = field(default_factory=dict)
    """When each was last seen."""
    joined: Mapping[str, float] = field(default_factory=dict)
    """When each was first seen; one that is not here was there from the beginning."""
    expected: int = 0
    """How many replicas have to be seen before the ledger is whole ..."""
    whole_at: float = 0.0
    """... or else this moment, when whatever they sent has left the window."""
    paused_until: float = 0.0
    """Zero when not paused; past, until a probe has succeeded."""
    probe: str | None = None
    """The slot of the one call that finds out whether the pause is over."""
    learned: int | None = None
    """A lower budget, after the platform refused calls within ours: somebody else uses the account."""
    learned_at: float = 0.0
    """The end of the last pause: windows without a refusal count from here."""
    trial_after: int = 1
    """How many of them pass before more than `learned` is tried."""
    halvings: int = 0
    """How often stray refusals halved what is tried, at `learned_at`."""
    server: str = ""
    """The run of the server that kept it when it was last known to be whole."""
    allotments: Mapping[str, int] = field(default_factory=dict)
    """Calls that each replica may begin without the ledger, if it loses it."""
    quiet: Mapping[str, float] = field(default_factory=dict)
    """Until when each said that it would not be seen, having nothing to say."""
    reported: Mapping[str, float] = field(default_factory=dict)
    """When each last reported, whatever is taken for the time at which it was last seen."""
    wanted_at: float = 0.0
    """When a call was last missed that was in another replica's allotment."""


def held_slots(ledger: Ledger, now: float) -> tuple[Slot, ...]:
    """The slots that have not fallen free."""
    return ledger.slots[bisect_right(ledger.slots, now, key=free_at) :]


UNREADABLE = Ledger(server="unreadable", replicas={"somebody": 0.0, "somebody else": 0.0})
"""In the place of one that others have written and that cannot be read: they may be sending calls, whoever they are."""


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A request for a slot."""

    id: str
    lane: Lane
    client: str
    arrival: int = 0
    """Its number in the order of arrival."""
    is_promised: bool = False
    """Whether it was told to come back now."""


class WaitReason(StrEnum):
    """Why a slot is not to be had now."""

    SPENT = "spent"
    ALLOTTED = "allotted"
    """Other replicas may begin it without the ledger, or have not reported theirs; they do when they are seen next."""
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Wait:
    """No slot now."""

    seconds: float
    """After these a slot is certain, as far as can be known."""
    reason: WaitReason
    soonest: float = 0.0
    """After these it may already be worth another look: somebody who was promised a slot may not come for it."""


class PauseState(StrEnum):
    """Whether calls may be made, after the platform said that its limit is exceeded.

    | from    | when                                                | to      |
    |---------|-----------------------------------------------------|---------|
    | open    | a call is refused for the limit                     | paused  |
    | paused  | another one is, which was sent together with it     | paused  |
    | paused  | the time is over                                    | over    |
    | over    | a call takes a slot: it is the probe                | probing |
    | probing | the probe never left, or nobody reported its end    | over    |
    | probing | the probe is refused for the limit                  | paused  |
    | probing | the probe ends in another way                       | open    |
    """

    OPEN = "open"
    PAUSED = "paused"
    OVER = "over"
    """Whoever is the first may find out for all."""
    PROBING = "probing"
    """One call finds out; all others wait for it."""


def pause_of(ledger: Ledger, now: float) -> PauseState:
    """Whether the account is paused."""
    if not ledger.paused_until:
        return PauseState.OPEN
    if now < ledger.paused_until:
        return PauseState.PAUSED
    is_under_way = any(slot.id == ledger.probe and slot.free_at > now for slot in ledger.slots)
    return PauseState.PROBING if is_under_way else PauseState.OVER


def is_whole(ledger: Ledger, now: float) -> bool:
    """Whether all calls that may be in the window are known to be in the ledger."""
    return now >= ledger.whole_at or len(ledger.replicas) - len(missing(ledger, now)) >= ledger.expected


def missing(ledger: Ledger, now: float) -> frozenset[str]:
    """The replicas that have gone silent."""
    return frozenset(name for name in ledger.replicas if last_well(ledger, name) < now - SILENCE_SECONDS)


def last_well(ledger: Ledger, name: str) -> float:
    """The last moment at which the replica was seen, or had said that it would not be."""
    return max(ledger.replicas[name], ledger.quiet.get(name, 0.0))


def withheld(ledger: Ledger, allowance: Allowance, now: float) -> int:
    """Calls that are left to replicas which have gone silent: what each has been allotted, or may believe its share."""
    return sum(
        max(ledger.allotments.get(name, 0), believed_share(ledger, allowance, name)) for name in missing(ledger, now)
    )


def believed_share(ledger: Ledger, allowance: Allowance, name: str) -> int:
    """What a replica takes for its share, by all that it knew when it was last seen: whoever had not joined later.

    At least one of two: a lone one's share would be everything, and then its restart after a crash could send nothing.
    """
    at = ledger.replicas[name]
    return allowance.calls // max(2, sum(1 for other in ledger.replicas if ledger.joined.get(other, at) <= at))
