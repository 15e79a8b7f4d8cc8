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
is left to tell of are not counted: a ledger emptied, and their replica gone, or cut off, before it has reported, above
all where a new one is counted in its stead.

Neither a token bucket nor a fixed window has property 2: both let nearly twice the budget into some windows. All
functions are pure; times are seconds of the clock that all replicas share. Who may take a slot is decided in
`policy.schedule`, how many there are in `policy.capacity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import attrgetter

SILENCE_SECONDS = 3.0
"""A replica not seen for this long, beyond what it said, is missing; a busy one is seen about once a second."""
WITHHELD_WINDOWS = 2
"""How long a missing replica's share is withheld. It sits out the first of them by itself."""
LONGEST_PAUSE_SECONDS = 300.0
"""A longer wait told by the platform is taken for a mistake, unless the settings say otherwise."""
LONGEST_HOLD_SECONDS = 2.5
"""How long a slot is left to callers who were told to come back for it: `Retry-After` tells whole seconds."""
HOLD_PART = 1 / 32
"""The part of a window that this may take at most: a slot that nobody comes back for lies idle meanwhile."""


class Lane(StrEnum):
    """What a call is for, in the order in which waiting calls are served."""

    WRITES = "writes"
    INTERACTIVE = "interactive"
    """A caller waits and has nothing else to be given."""
    PROOF = "proof"
    """Newer proof of what is stored, on a caller's wish or for the published bound."""
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
    """Seconds that a wait told by the platform is believed at most; after them a probe finds out."""

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


@dataclass(frozen=True, slots=True)
class Promise:
    """What refused callers were told: so many of a client may come back at a moment, and find a slot."""

    replica: str
    """Who told them."""
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
    wanted_at: float = 0.0
    """When a call was last missed that was in another replica's allotment."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica knows of its own calls."""

    replica: str
    known: int
    """How many replicas there were when it last saw the ledger, itself included."""
    slots: Mapping[str, Slot]
    voided: frozenset[str] = frozenset()
    """Calls that never left."""
    succeeded: frozenset[str] = frozenset()
    """Calls that ended without the platform refusing them for the limit."""
    server: str = ""
    """The run of the server that the ledger came from."""
    promises: tuple[Promise, ...] = ()
    """All of its own."""
    refused: Mapping[str, float] = field(default_factory=dict)
    """When it last refused a caller of each client."""
    allotment: int = 0
    """Calls that it may still begin without the ledger."""
    quiet_until: float = 0.0
    """Until when it will not be seen, unless it has something to say."""


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
    """Other replicas may begin it without the ledger, or have not told of theirs; they do when they are seen next."""
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Wait:
    """No slot now."""

    seconds: float
    """After these a slot is certain, as far as can be known."""
    reason: WaitReason
    soonest: float = 0.0
    """After these it may already be worth another look: somebody who was promised a slot may not come for it."""


def absorb(ledger: Ledger | None, report: Report, allowance: Allowance, now: float) -> Ledger:
    """The ledger with a replica's report in it; a new one where there was none."""
    if ledger is None:
        wholeness = now + allowance.most
        ledger = Ledger(expected=report.known, whole_at=wholeness if report.known > 1 else 0.0, server=report.server)
    elif report.server and not ledger.server:
        # Written last by a replica that has no right to ask for the name.
        ledger = replace(ledger, server=report.server)
    elif report.server and ledger.server != report.server:
        # Restarted from what was saved, or failed over to a copy: the latest slots may be missing.
        expected = max(report.known, len(ledger.replicas))
        whole_at = now + allowance.most if expected > 1 else 0.0
        ledger = replace(ledger, replicas={}, expected=expected, whole_at=whole_at, server=report.server)
    elif report.replica in ledger.replicas and len(missing(ledger, now)) == len(ledger.replicas):
        # All were cut off, this one too, and have been sending their shares since: missing from now on, until seen.
        ledger = replace(ledger, replicas=dict.fromkeys(ledger.replicas, now - SILENCE_SECONDS - 1), quiet={})
    expected, whole_at = ledger.expected, ledger.whole_at
    if now < whole_at and report.known > expected:
        expected = report.known
    horizon = now - SILENCE_SECONDS - WITHHELD_WINDOWS * allowance.window
    seen = {name: at for name, at in ledger.replicas.items() if _heard(ledger, name) > horizon} | {report.replica: now}
    quiet = {name: at for name, at in ledger.quiet.items() if name in seen} | {report.replica: report.quiet_until}
    joined = {name: at for name, at in ledger.joined.items() if name in seen}
    if report.replica not in ledger.replicas and ledger.replicas:
        joined[report.replica] = now
    if sum(1 for name, at in seen.items() if max(at, quiet.get(name, 0.0)) >= now - SILENCE_SECONDS) >= expected:
        expected, whole_at = 0, 0.0
    paused_until, probe = ledger.paused_until, ledger.probe
    if probe in report.succeeded:
        paused_until, probe = 0.0, None
    elif probe in report.voided:
        probe = None
    return replace(
        ledger,
        slots=_slots(ledger, report, now),
        promises=_promises(ledger, report, allowance, now),
        refused=_refused(ledger, report, allowance, now),
        replicas=seen,
        joined=joined,
        expected=expected,
        whole_at=whole_at,
        paused_until=paused_until,
        probe=probe,
        allotments={name: count for name, count in ledger.allotments.items() if name in seen}
        | {report.replica: report.allotment},
        quiet=quiet,
    )


def _slots(ledger: Ledger, report: Report, now: float) -> tuple[Slot, ...]:
    own, voided = report.slots, report.voided
    others = [slot for slot in ledger.slots if slot.id not in own and slot.id not in voided]
    held = [slot for slot in (*others, *own.values()) if slot.free_at > now]
    held.sort(key=_FREE_AT)
    return tuple(held)


_FREE_AT = attrgetter("free_at")


def _promises(ledger: Ledger, report: Report, allowance: Allowance, now: float) -> tuple[Promise, ...]:
    others = (promise for promise in ledger.promises if promise.replica != report.replica)
    return tuple(promise for promise in (*others, *report.promises) if now < promise.at + allowance.hold)


def _refused(ledger: Ledger, report: Report, allowance: Allowance, now: float) -> Mapping[str, float]:
    refused = {client: at for client, at in ledger.refused.items() if at > now - allowance.window}
    for client, at in report.refused.items():
        if at > now - allowance.window:
            refused[client] = max(at, refused.get(client, at))
    return refused


def depart(ledger: Ledger, replica: str) -> Ledger:
    """The ledger without a replica that has stopped in good order; its slots stay until they fall free."""
    stay = {name: at for name, at in ledger.replicas.items() if name != replica}
    return replace(
        ledger,
        replicas=stay,
        joined={name: at for name, at in ledger.joined.items() if name in stay},
        allotments={name: count for name, count in ledger.allotments.items() if name in stay},
        quiet={name: at for name, at in ledger.quiet.items() if name in stay},
    )


def is_whole(ledger: Ledger, now: float) -> bool:
    """Whether all calls that may be in the window are known to be in the ledger."""
    return now >= ledger.whole_at or len(ledger.replicas) - len(missing(ledger, now)) >= ledger.expected


def missing(ledger: Ledger, now: float) -> frozenset[str]:
    """The replicas that have gone silent."""
    return frozenset(name for name in ledger.replicas if _heard(ledger, name) < now - SILENCE_SECONDS)


def _heard(ledger: Ledger, name: str) -> float:
    """The last moment at which nothing was amiss with a replica."""
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
