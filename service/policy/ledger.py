"""The call budget of one account, as a value: who holds which place, and who may take the next one.

Laws of this module:

1. A call arrives at the platform at some moment between its send and its end (answer, failure or time-out), and nobody
   can know when. So it holds a *place* from its permit until one window after its end.
2. While at most `calls` places are held at any time, no window of that length sees more arrivals. Proof: take the
   last-sent of `calls + 1` arrivals within one window; at its send all the others still held their places.
3. A place whose end nobody reports (its replica died) is held as if the call had used all of its time.
4. A replica puts its own places back whenever it looks, and before it takes another. So a ledger that was lost is
   whole again once every replica that was known has been seen; until then nobody takes a place.
5. A replica that has gone silent may be cut off and sending its share: the share is withheld from the others, for
   `WITHHELD_WINDOWS`.

The limits of what is promised, where the alternative is that every crash stops the account: a replica that is cut off
alone for longer than that, while the others see the ledger, adds its share to the budget; a replica that knows of no
other goes on with the whole budget, also if one has joined within the last second or joins later; and calls that nobody
is left to tell of are not counted: a ledger emptied, and their replica gone, or cut off, before it has reported.

Neither a token bucket nor a fixed window has property 2: both let nearly twice the budget into some windows. All
functions are pure; times are seconds of the clock that all replicas share.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

SILENCE_SECONDS = 3.0
"""A replica not seen for this long is missing; each is seen about once a second."""
WITHHELD_WINDOWS = 2
"""How long a missing replica's share is withheld. It sits out the first of them by itself."""
LONGEST_PAUSE_SECONDS = 300.0
"""A longer wait told by the platform is taken for a mistake; after this a probe finds out."""
PROBE_SECONDS = 1.0
"""How soon to look again while another call probes whether a pause is over."""
GATHER_SECONDS = 0.25
"""How soon to look again while replicas are putting their places back."""
GROWTH = 0.1
"""The part of the budget by which a learned, lower one grows back in each window."""
EVEN_PARTS = 12
"""Parts of a window over which background calls are spread ..."""
EVEN_SLACK = 1.2
"""... and how much more than its even share one of them may take."""
FAIR_PART = 0.1
"""The part of the budget that a client beyond its fair share leaves to the others."""


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
        return self in {Lane.WRITES, Lane.INTERACTIVE}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an account may do."""

    calls: int
    window: float
    """Seconds."""
    leave: float
    """Seconds from a permit to the moment after which its request may not leave any more."""
    timeout: float
    """Seconds that a call may take."""
    reserve: int = 0
    """Calls that only lanes with somebody waiting may use."""
    lanes: Mapping[Lane, int] = field(default_factory=dict)
    """Calls of a window that a lane can count on; the others borrow what is beyond."""
    clients: int = 1
    """How many clients share the interactive lane."""

    @property
    def most(self) -> float:
        """Seconds from a permit to the moment when the place of a call that nobody reported on falls free."""
        return self.leave + self.timeout + self.window


@dataclass(frozen=True, slots=True)
class Place:
    """One call's hold on the budget."""

    id: str
    lane: Lane
    client: str
    free_at: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """The shared state of one account."""

    places: tuple[Place, ...] = ()
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
    """The place of the one call that finds out whether the pause is over."""
    learned: int | None = None
    """A lower budget, after the platform refused calls within ours: somebody else uses the account."""
    learned_at: float = 0.0
    server: str = ""
    """The run of the server that kept it when it was last known to be whole."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica knows of its own calls."""

    replica: str
    known: int
    """How many replicas there were when it last saw the ledger, itself included."""
    places: Mapping[str, Place]
    voided: frozenset[str] = frozenset()
    """Calls that never left."""
    succeeded: frozenset[str] = frozenset()
    """Calls that ended without the platform refusing them for the limit."""
    server: str = ""
    """The run of the server that the ledger came from."""


@dataclass(frozen=True, slots=True)
class Want:
    """A request for a place."""

    id: str
    lane: Lane
    client: str


class Why(StrEnum):
    """Why a place is not to be had now."""

    SPENT = "spent"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Wait:
    """No place now: when to look again, if nobody else takes one."""

    seconds: float
    why: Why


def absorb(ledger: Ledger | None, report: Report, allowance: Allowance, now: float) -> Ledger:
    """The ledger with a replica's report in it; a new one where there was none."""
    if ledger is None:
        wholeness = now + allowance.most
        ledger = Ledger(expected=report.known, whole_at=wholeness if report.known > 1 else 0.0, server=report.server)
    elif report.server and not ledger.server:
        # Written last by a replica that has no right to ask for the name.
        ledger = replace(ledger, server=report.server)
    elif report.server and ledger.server != report.server:
        # Restarted from what was saved, or failed over to a copy: the latest places may be missing.
        expected = max(report.known, len(ledger.replicas))
        whole_at = now + allowance.most if expected > 1 else 0.0
        ledger = replace(ledger, replicas={}, expected=expected, whole_at=whole_at, server=report.server)
    elif report.replica in ledger.replicas and max(ledger.replicas.values()) < now - SILENCE_SECONDS:
        # All were cut off, this one too, and have been sending their shares since: missing from now on, until seen.
        ledger = replace(ledger, replicas=dict.fromkeys(ledger.replicas, now - SILENCE_SECONDS - 1))
    if now < ledger.whole_at and report.known > ledger.expected:
        ledger = replace(ledger, expected=report.known)
    horizon = now - SILENCE_SECONDS - WITHHELD_WINDOWS * allowance.window
    seen = {name: at for name, at in ledger.replicas.items() if at > horizon} | {report.replica: now}
    joined = {name: at for name, at in ledger.joined.items() if name in seen}
    if report.replica not in ledger.replicas and ledger.replicas:
        joined[report.replica] = now
    mine = report.places.keys() | report.voided
    others = [place for place in ledger.places if place.id not in mine]
    places = tuple(place for place in (*others, *report.places.values()) if place.free_at > now)
    if sum(1 for at in seen.values() if at >= now - SILENCE_SECONDS) >= ledger.expected:
        ledger = replace(ledger, expected=0, whole_at=0.0)
    if ledger.probe in report.succeeded:
        ledger = replace(ledger, paused_until=0.0, probe=None)
    elif ledger.probe in report.voided:
        ledger = replace(ledger, probe=None)
    return replace(ledger, places=places, replicas=seen, joined=joined)


def depart(ledger: Ledger, replica: str) -> Ledger:
    """The ledger without a replica that has stopped in good order; its places stay until they fall free."""
    stay = {name: at for name, at in ledger.replicas.items() if name != replica}
    return replace(ledger, replicas=stay, joined={name: at for name, at in ledger.joined.items() if name in stay})


def capacity(ledger: Ledger, allowance: Allowance, now: float) -> int:
    """Places that there are in all: the budget, or what was learned of it, less what is withheld."""
    missing = [at for at in ledger.replicas.values() if at < now - SILENCE_SECONDS]
    if now < ledger.whole_at and len(ledger.replicas) - len(missing) < ledger.expected:
        return 0
    calls = allowance.calls
    if ledger.learned is not None:
        grown = (now - ledger.learned_at) / allowance.window * max(1.0, GROWTH * allowance.calls)
        calls = min(calls, ledger.learned + int(grown))
    return max(0, calls - sum(allowance.calls // _known_at(ledger, at) for at in missing))


def _known_at(ledger: Ledger, moment: float) -> int:
    """How many replicas one that was last seen at this moment knew: all but those that joined later.

    At least two: a lone one's share would be everything, and then its restart after a crash could send nothing.
    """
    return max(2, sum(1 for name in ledger.replicas if ledger.joined.get(name, moment) <= moment))


def remaining(ledger: Ledger, allowance: Allowance, now: float) -> int:
    """Places that a waiting caller could take now."""
    if now < ledger.paused_until:
        return 0
    held = sum(1 for place in ledger.places if place.free_at > now)
    return max(0, capacity(ledger, allowance, now) - held)


@dataclass(frozen=True, slots=True)
class Quota:
    """One client's own share of an account's calls."""

    calls: int
    window: float
    remaining: int
    """Calls of its share that it could make now."""
    reset: float
    """Seconds until the next of its calls leaves the window; the whole window when there is none."""


def quota(ledger: Ledger, allowance: Allowance, client: str, now: float) -> Quota:
    """The client's share, and what is left of it."""
    own = [place.free_at for place in ledger.places if place.client == client and place.free_at > now]
    calls = max(1, allowance.calls // allowance.clients)
    left = min(max(0, calls - len(own)), remaining(ledger, allowance, now))
    reset = min(own, default=now + allowance.window) - now
    return Quota(calls, allowance.window, left, min(reset, allowance.window))


def grant(ledger: Ledger, allowance: Allowance, wants: Sequence[Want], now: float) -> tuple[Ledger, list[Place | Wait]]:
    """Places for those wants that can have one, in their order.

    Returns:
        The ledger with the places taken, and for each want its place or its wait.
    """
    places = [place for place in ledger.places if place.free_at > now]
    soonest = sorted(places, key=lambda place: place.free_at)
    needed: dict[tuple[Lane, str], int] = {}
    most = capacity(ledger, allowance, now)
    is_whole = most > 0 or now >= ledger.whole_at
    probe = ledger.probe if any(place.id == ledger.probe for place in places) else None
    answers: list[Place | Wait] = []
    waiting = 0
    for want in wants:
        if now < ledger.paused_until:
            answers.append(Wait(ledger.paused_until - now, Why.PAUSED))
            continue
        if ledger.paused_until and probe is not None:
            answers.append(Wait(PROBE_SECONDS, Why.PAUSED))
            continue
        if want.lane is Lane.BACKGROUND and (haste := _haste(places, allowance, most, now)) > 0:
            answers.append(Wait(haste, Why.SPENT))
            continue
        short = 1 + _kept(places, want, allowance) + len(places) - most
        if short <= 0:
            place = Place(want.id, want.lane, want.client, now + allowance.most)
            places.append(place)
            answers.append(place)
            if ledger.paused_until:
                probe = place.id
            continue
        whose = (want.lane, want.client)
        if whose not in needed:
            needed[whose] = _needed(soonest, want, allowance, most)
        last = needed[whose] + waiting - 1
        waiting += 1
        if not is_whole:
            answers.append(Wait(GATHER_SECONDS, Why.SPENT))
        else:
            # A call under way is taken to end now: its place can only fall free later than that.
            seconds = soonest[last].free_at - now if last < len(soonest) else allowance.window
            answers.append(Wait(min(max(seconds, 0.0), allowance.window), Why.SPENT))
    return replace(ledger, places=tuple(places), probe=probe), answers


def pause(ledger: Ledger, allowance: Allowance, told: float | None, now: float) -> Ledger:
    """The ledger after the platform said that its limit is exceeded, within ours: somebody else uses the account.

    A pause only moves forward. Without a wait told, it lasts for the rest of the window: until our own oldest call has
    left it, but no less than a quarter.

    Args:
        ledger: as it was.
        allowance: the account's.
        told: the platform's `Retry-After` in seconds, or None.
        now: the time.
    """
    if told is None:
        oldest = min((place.free_at for place in ledger.places), default=now + allowance.window)
        told = min(max(oldest - now, allowance.window / 4), allowance.window)
    until = max(ledger.paused_until, now + min(told, LONGEST_PAUSE_SECONDS))
    held = sum(1 for place in ledger.places if place.free_at > now)
    # What was accepted of ours is what there is room for; the refused call itself is one of the places.
    learned = min(max(1, held - 1), allowance.calls)
    return replace(ledger, paused_until=until, probe=None, learned=learned, learned_at=until)


def share(allowance: Allowance, known: int) -> Allowance:
    """What one of `known` replicas may do on its own, rounded down."""
    return replace(allowance, calls=allowance.calls // known, reserve=0, lanes={})


def _needed(soonest: Sequence[Place], want: Want, allowance: Allowance, most: int) -> int:
    """How many of the places have to fall free, the soonest first, before there is one for this want."""
    for number in range(1, len(soonest) + 1):
        left = soonest[number:]
        if 1 + _kept(left, want, allowance) + len(left) <= most:
            return number
    return len(soonest) + 1


def _kept(places: Iterable[Place], want: Want, allowance: Allowance) -> int:
    """Places that are not for this want: other lanes' shares, the reserve, and other clients' part."""
    used = Counter(place.lane for place in places)
    kept = sum(max(0, part - used[lane]) for lane, part in allowance.lanes.items() if lane != want.lane)
    if not want.lane.is_waited_for:
        kept = max(kept, allowance.reserve, _fair_part(allowance))
    if want.lane is Lane.INTERACTIVE and allowance.clients > 1:
        by_client = sum(1 for place in places if place.lane is want.lane and place.client == want.client)
        if by_client * allowance.clients >= allowance.calls:
            kept += _fair_part(allowance)
    return kept


def _haste(places: Iterable[Place], allowance: Allowance, most: int, now: float) -> float:
    """Seconds until a call that nobody waits for may take a place, so that such calls spread over the window.

    Places fall free in the pattern in which they were taken: a burst would come back with every window, and leave
    nothing in between.
    """
    part = allowance.window / EVEN_PARTS
    since = now + allowance.window - part
    recent = sorted(place.free_at for place in places if place.lane is Lane.BACKGROUND and place.free_at > since)
    limit = max(1, math.ceil(EVEN_SLACK * most / EVEN_PARTS))
    return 0.0 if len(recent) < limit else min(max(recent[-limit] - since, part / limit), part)


def _fair_part(allowance: Allowance) -> int:
    """Calls that a client beyond its fair share leaves to the others; none where there are no others."""
    return max(1, int(FAIR_PART * allowance.calls)) if allowance.clients > 1 else 0
