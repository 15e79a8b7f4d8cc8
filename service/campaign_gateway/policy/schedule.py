"""Who gets the next call of an account: one table of claims over its ledger, for everything that wants a call.

| lane        | may take every free place but                                                           |
|-------------|-----------------------------------------------------------------------------------------|
| writes      | those that other lanes can count on; promised ones, beyond what writes can count on     |
| interactive | those that other lanes can count on; promised ones                                      |
| proof       | the same, all promised ones, and the reserve while a caller needs calls                 |
| background  | the same, and more than its even spread or half of what is left                         |

Laws of this module:

1. Nothing lies idle while a caller who may have it is refused, but what writes can count on, and for a moment what was
   promised to callers who were told to come back.
2. Whoever waits is served in the order of `line_up`: writes within their own places; then whoever holds less than its
   fair part, those who were told to come back first, and among equals whoever holds least. Lanes that nobody waits for
   come last. So a client beyond its fair part yields each place that falls free.
3. While callers of one client are refused, another one that wishes for more than its fair part takes calls at an even
   pace, and so do lanes that nobody waits for: places fall free in the pattern in which they were taken, and a burst
   would come back with every window and leave nothing in between.
4. A refusal is a *promise*: the k-th caller refused is told when the k-th place falls free, after those that callers
   who wait will take, and in the next window if there are fewer. When it has come, that place is left to whoever was
   told, for `Allowance.hold` seconds. Beyond its fair part a client's promises bind nobody else.
5. Proof is not starved by callers: while some are refused, one call in a quarter of a window is served like a caller's.
6. A caller *needs* calls from its place, or its refusal, on, for a window. While none does, there is no reserve.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from campaign_gateway.policy.allotments import allotted_to_others, kept_by_others
from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Place, Promise, Wait, Want, Why, is_whole, withheld

PROBE_SECONDS = 1.0
"""How soon to look again while another call probes whether a pause is over."""
GATHER_SECONDS = 0.25
"""How soon to look again while replicas are putting their places back."""
RETURN_SECONDS = 0.25
"""How soon to look again while replicas give back what was allotted to them."""
PROOFS = 4
"""Calls for proof in a window that are served like a caller's while callers are refused ..."""
LEAST_PROOF = 5
"""... if there are so many calls for each."""
EVEN_PARTS = 12
"""Parts of a window over which calls are spread ..."""
EVEN_SLACK = 1.2
"""... and how much more than its even share one of them may take."""
WANTED_SECONDS = 5.0
"""For how long after a refusal callers count as wanting calls."""

_LANES = {lane: number for number, lane in enumerate(Lane)}


class Schedule:
    """The table of claims, laid over a ledger at one moment."""

    def __init__(self, ledger: Ledger, allowance: Allowance, now: float, replica: str = "") -> None:
        """A table.

        Args:
            ledger: the account's.
            allowance: what it may do.
            now: the time.
            replica: who takes places; others' allotments are not for it.
        """
        self.now = now
        self.capacity = capacity(ledger, allowance, now)
        self._replica = replica
        self._is_whole = is_whole(ledger, now)
        self._ledger = ledger
        self._allowance = allowance
        self._is_missed = False
        # Of fewer calls than were configured, fewer are kept for anybody.
        part = min(1.0, self.capacity / allowance.calls) if allowance.calls else 0.0
        self._parts = {lane: int(calls * part) for lane, calls in allowance.lanes.items() if calls}
        self._reserve = int(allowance.reserve * part)
        self._places = [place for place in ledger.places if place.free_at > now]
        if self._is_whole:
            self._most = self.capacity - allotted_to_others(ledger, replica, now)
            self._openable = self.capacity - kept_by_others(ledger, allowance, replica, now)
        else:
            # Nobody knows what else is held: only what was allotted before may be begun.
            self._most = self._openable = len(self._places) + ledger.allotments.get(replica, 0)
        self._used = Counter(place.lane for place in self._places)
        self._held = Counter(place.client for place in self._places if place.lane is not Lane.BACKGROUND)
        self._promised = _by_client(ledger.promises)
        self._due = _by_client(promise for promise in ledger.promises if promise.at <= now)
        self._refused = {client for client, at in ledger.refused.items() if at > now - allowance.window}
        self._claimants = {place.client for place in self._places if place.lane.is_waited_for} | self._refused
        self._is_needed = bool(self._used[Lane.INTERACTIVE] or self._refused)
        self._openings: dict[Lane, list[float]] = {}
        self._probe = ledger.probe if any(place.id == ledger.probe for place in self._places) else None
        self._waiting = 0
        self._delayed: Counter[str] = Counter()

    def ledger(self) -> Ledger:
        """The ledger with the places taken."""
        allotments = self._ledger.allotments
        if not self._is_whole:
            allotments = {**allotments, self._replica: max(0, self._most - len(self._places))}
        wanted_at = self.now if self._is_missed else self._ledger.wanted_at
        places = tuple(self._places)
        return replace(self._ledger, places=places, probe=self._probe, allotments=allotments, wanted_at=wanted_at)

    def answer(self, want: Want) -> Place | Wait:
        """A place, which is taken with that, or a wait, behind those who were told to wait before."""
        if want.lane is Lane.INTERACTIVE:
            self._is_needed = True
        wait = self.forecast(want, self._waiting)
        if wait is None:
            return self._take(want)
        if not self._is_overdue(want):
            self._waiting += 1
        return wait

    def forecast(self, want: Want, ahead: int) -> Wait | None:
        """The want's wait behind so many others; None where there is a place for it now."""
        if self._ledger.paused_until and self.now >= self._ledger.paused_until and self._probe is not None:
            return Wait(PROBE_SECONDS, Why.PAUSED, PROBE_SECONDS)
        if self._is_overdue(want):
            want = replace(want, lane=Lane.INTERACTIVE)
        if self.now >= self._ledger.paused_until:
            if (delay := self._delay(want, ahead)) is not None:
                return delay
            if self.room(want) >= 1:
                return None
        return self._wait(want, ahead)

    def room(self, want: Want) -> int:
        """Places that the want's lane and client could take now; below zero when as many have to fall free before."""
        if self._ledger.paused_until and self._is_whole:
            # The probe's: whoever is the first may find out, also where more are held than was learned.
            most = self._allowance.calls - withheld(self._ledger, self._allowance, self.now)
            return most - allotted_to_others(self._ledger, self._replica, self.now) - len(self._places)
        if self._is_trial and self._is_under_way:
            return 0
        return self._most - len(self._places) - self._kept(want.lane) - self._bound(want, self._due)

    @property
    def _is_trial(self) -> bool:
        """Whether the next call is one more than the platform was seen to allow."""
        return self._ledger.learned is not None and len(self._places) >= self._ledger.learned

    @property
    def _is_under_way(self) -> bool:
        return bool(self._places) and self._places[-1].free_at > self.now + self._allowance.window

    def _is_overdue(self, want: Want) -> bool:
        """Whether it is proof, and none was begun for so long that it is served like a caller."""
        return want.lane is Lane.PROOF and is_proof_overdue(self._ledger, self._places, self._allowance, self.now)

    def promise(self, client: str) -> None:
        """Counts one more caller of the client's who is told to come back."""
        self._promised[client] += 1

    def _wait(self, want: Want, ahead: int) -> Wait:
        """How long the want waits behind so many others, if it is not to have a place now."""
        now, window = self.now, self._allowance.window
        if not self._is_whole:
            self._is_missed = True
            return Wait(GATHER_SECONDS, Why.ALLOTTED, GATHER_SECONDS)
        certain = self._opening(want.lane, ahead + self._bound(want, self._promised))
        soonest = self._opening(want.lane, ahead)
        if certain <= now and not self._is_trial:
            self._is_missed = True
            return Wait(RETURN_SECONDS, Why.ALLOTTED, RETURN_SECONDS)
        if soonest <= now:
            # Only a promise stands in the way, which may not be called in, or a trial.
            hold = self._allowance.hold
            due = min((each.at + hold for each in self._ledger.promises if each.at <= now), default=now + window)
            soonest = min(due, now + PROBE_SECONDS) if self._is_trial else due
        why = Why.PAUSED if now < self._ledger.paused_until else Why.SPENT
        return Wait(max(0.0, certain - now), why, max(soonest, now) - now)

    def _opening(self, lane: Lane, number: int) -> float:
        """When there is a place for one who has so many before it, taking a call under way to end now."""
        openings = self._openings_of(lane)
        if not openings:
            return self.now + self._allowance.window
        # Whoever comes after the last one takes the place of the first when that falls free again, and so on; each may
        # take its time.
        windows, number = divmod(number, len(openings))
        return openings[number] + windows * (self._allowance.window + self._allowance.hold)

    def _openings_of(self, lane: Lane) -> list[float]:
        """When the lane's next place, the one after it and so on are there, if nobody else takes any."""
        openings = self._openings.get(lane)
        if openings is None:
            first = max(self.now, self._ledger.paused_until)
            latest = max(first, self.now + self._allowance.window)
            used = Counter(self._used)
            left = len(self._places)
            most = max(0, self._openable - left - self._kept(lane, used))
            openings = self._openings[lane] = [first] * most
            for place in self._places:
                used[place.lane] -= 1
                left -= 1
                if (room := self._openable - left - self._kept(lane, used)) > most:
                    most = room
                    openings.append(min(max(first, place.free_at), latest))
        return openings

    def _kept(self, lane: Lane, used: Counter[Lane] | None = None) -> int:
        """Places that are not for this lane: what other lanes can count on and do not hold, and the reserve."""
        held = self._used if used is None else used
        kept = sum(max(0, part - held[other]) for other, part in self._parts.items() if other is not lane)
        return max(kept, self._reserve) if self._is_needed and not lane.is_waited_for else kept

    def _bound(self, want: Want, promised: Counter[str]) -> int:
        """How many of the promised places are not for this want."""
        if not promised:
            return 0
        lane, client = want.lane, want.client
        if not lane.is_waited_for:
            return promised.total()
        if self._used[lane] < self._parts.get(lane, 0):
            return 0
        fair = self._fair_part(client)
        others = sum(
            min(count, max(0, fair - self._held[other])) for other, count in promised.items() if other != client
        )
        return others + (0 if want.is_promised else promised[client])

    def _fair_part(self, client: str) -> int:
        """The calls of a window that each client may have as long as all that want some go on."""
        return max(1, self.capacity // len(self._claimants | {client}))

    def _wished_beside(self, client: str) -> int:
        """Calls that other clients want in a window, up to the fair part of each."""
        fair = self._fair_part(client)
        return sum(min(fair, self._held[other] + self._promised[other]) for other in self._claimants - {client})

    def _is_spread(self, want: Want) -> bool:
        """Whether the want's client has to take calls at an even pace, since another one's callers are refused."""
        if not self._refused - {want.client} or self._used[want.lane] < self._parts.get(want.lane, 0):
            return False
        wished = self._held[want.client] + self._promised[want.client]
        return not want.lane.is_waited_for or wished >= self._fair_part(want.client)

    def _delay(self, want: Want, ahead: int) -> Wait | None:
        """The wait of a call whose kind is spread over the window, if its turn has not come."""
        if want.lane is Lane.BACKGROUND:
            kind, calls, least = str(want.lane), EVEN_SLACK * self.capacity, self.room(want)
        elif self._is_spread(want):
            kind, calls, least = want.client, self.capacity - self._wished_beside(want.client), 0
        else:
            return None
        limit = max(1, math.ceil(calls / EVEN_PARTS))
        part = self._allowance.window * limit / max(1, calls)
        limit = max(limit, least)
        since = self.now + self._allowance.window - part
        first = bisect_right(self._places, since, key=_free_at)
        recent = [place.free_at for place in self._places[first:] if kind in {place.lane, place.client}]
        if len(recent) < limit:
            return None
        seconds = min(max(recent[-limit] - since, part / limit), part)
        seconds += part * (self._delayed[kind] // limit)
        self._delayed[kind] += 1
        certain = self._wait(want, ahead)
        return Wait(max(seconds, certain.seconds), Why.SPENT, max(seconds, certain.soonest))

    def _take(self, want: Want) -> Place:
        place = Place(want.id, want.lane, want.client, self.now + self._allowance.most)
        self._places.insert(bisect_right(self._places, place.free_at, key=_free_at), place)
        self._used[place.lane] += 1
        if place.lane is not Lane.BACKGROUND:
            self._held[place.client] += 1
        if place.lane.is_waited_for:
            self._claimants.add(place.client)
        if self._ledger.paused_until:
            self._probe = place.id
        self._openings.clear()
        return place


def _free_at(place: Place) -> float:
    return place.free_at


def _by_client(promises: Iterable[Promise]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for promise in promises:
        counts[promise.client] += promise.count
    return counts


def grant(
    ledger: Ledger, allowance: Allowance, wants: Sequence[Want], now: float, replica: str = ""
) -> tuple[Ledger, list[Place | Wait]]:
    """Places for those wants that can have one, in the order given.

    Args:
        ledger: the account's.
        allowance: what it may do.
        wants: in the order of `line_up`.
        now: the time.
        replica: who asks.

    Returns:
        The ledger with the places taken, and for each want its place or its wait.
    """
    schedule = Schedule(ledger, allowance, now, replica)
    answers = [schedule.answer(want) for want in wants]
    return schedule.ledger(), answers


def is_proof_overdue(ledger: Ledger, places: Sequence[Place], allowance: Allowance, now: float) -> bool:
    """Whether callers are refused and no call for proof was begun for too long; see law 5."""
    proofs = min(PROOFS, allowance.calls // LEAST_PROOF)
    if not proofs or not any(at > now - allowance.window for at in ledger.refused.values()):
        return False
    since = now + allowance.window * (1 - 1 / proofs)
    return not any(place.lane is Lane.PROOF for place in places[bisect_right(places, since, key=_free_at) :])


def line_up(ledger: Ledger | None, allowance: Allowance, wants: Iterable[Want], now: float) -> list[Want]:
    """The wants in the order in which they are served; see laws 2 and 5."""
    places = ledger.places if ledger is not None else ()
    is_overdue = ledger is not None and is_proof_overdue(ledger, places, allowance, now)
    own = {lane: part - sum(1 for place in places if place.lane is lane) for lane, part in allowance.lanes.items()}
    held: Counter[object] = Counter()
    for place in places:
        held[place.client if place.lane.is_waited_for else (place.lane, place.client)] += 1
    asked = sorted(wants, key=lambda want: (_LANES[want.lane], want.arrival))
    clients = {want.client for want in asked if want.lane.is_waited_for}
    clients |= {place.client for place in places if place.lane.is_waited_for}
    fair = allowance.calls // max(1, len(clients))
    ranked: list[tuple[tuple[bool | int, ...], Want]] = []
    for want in asked:
        lane = want.lane
        if lane is Lane.WRITES and own.get(lane, 0) > 0:
            own[lane] -= 1
            rank: tuple[bool | int, ...] = (0, 0, 0, 0, want.arrival)
        elif lane is Lane.PROOF and is_overdue:
            is_overdue = False
            rank = (1, 0, 0, 0, 0, want.arrival)
        elif lane.is_waited_for:
            holds = held[want.client]
            rank = (1, holds >= fair, not want.is_promised, holds, _LANES[lane], want.arrival)
        else:
            rank = (2, _LANES[lane], held[lane, want.client], want.arrival)
        held[want.client if lane.is_waited_for else (lane, want.client)] += 1
        ranked.append((rank, want))
    ranked.sort(key=lambda row: row[0])
    return [want for _, want in ranked]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an account's calls look like to whoever plans calls that nobody waits for."""

    capacity: int
    """Places in all."""
    window: float
    """Seconds."""
    free: int
    """Places that the proof lane could take now; below zero when as many have to fall free before."""
    falls: tuple[float, ...]
    """Seconds until each held place falls free, the soonest first, a call under way taken to end now."""
    callers: int
    """Places that callers and writes hold."""
    is_wanted: bool
    """Whether a caller was refused within the last seconds."""


def outlook(ledger: Ledger, allowance: Allowance, now: float) -> Outlook:
    """What the account's calls look like now."""
    schedule = Schedule(ledger, allowance, now)
    places = [place for place in ledger.places if place.free_at > now]
    # What is allotted to replicas is given back for whoever wants it.
    allotted = allotted_to_others(ledger, "", now) if is_whole(ledger, now) else 0
    return Outlook(
        capacity=schedule.capacity,
        window=allowance.window,
        free=0 if now < ledger.paused_until else schedule.room(Want("", Lane.PROOF, "")) + allotted,
        falls=tuple(min(place.free_at - now, allowance.window) for place in places),
        callers=sum(1 for place in places if place.lane.is_waited_for),
        is_wanted=any(at > now - WANTED_SECONDS for at in ledger.refused.values()),
    )


def remaining(ledger: Ledger, allowance: Allowance, now: float) -> int:
    """Places that are free for a waiting caller of some lane or other."""
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


def own_part(allowance: Allowance, calls: int) -> Allowance:
    """What may be done with a part of an account's calls; writes can count on one of them, if there are several."""
    writes = allowance.lanes.get(Lane.WRITES, 0)
    own = min(max(1, writes * calls // max(1, allowance.calls)), calls - 1) if writes else 0
    return replace(allowance, calls=calls, reserve=0, lanes={Lane.WRITES: own} if own > 0 else {})
