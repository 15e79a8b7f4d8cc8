"""Who gets the next call of an account: one table of claims over its ledger, for everything that wants a call.

| lane        | may take every free slot but                                                           |
|-------------|-----------------------------------------------------------------------------------------|
| writes      | those that other lanes can count on; promised ones, beyond what writes can count on     |
| interactive | those that other lanes can count on; promised ones                                      |
| proof       | the same, all promised ones, and the reserve while a caller needs calls                 |
| background  | the same, and more than its even spread or half of what is left                         |

Laws of this module:

1. Nothing lies idle while a caller who may have it is refused, but what writes can count on, and for a moment what was
   promised to callers who were told to come back.
2. Whoever waits is served in the order of `policy.serving_order`: so a client that holds more than its fair part yields
   each slot that falls free.
3. While callers of one client are refused, another one that asks for more than its fair part takes calls at an
   even pace, and so do lanes that nobody waits for: slots fall free in the pattern in which they were taken, and a
   burst would come back with every window and leave nothing in between.
4. A refusal is a *promise*: the k-th caller refused learns when the k-th slot falls free, after those that callers
   who wait will take, and in the next window if there are fewer. When it has come, that slot is left to whoever was
   told, for `Allowance.hold` seconds. Beyond its fair part a client's promises bind nobody else.
5. Proof is not starved by callers: when none was begun for a quarter of a window, one may have what a caller may, the
   reserve too. For a call, a poll says of all answers for how long they are still true.
6. A caller *needs* calls from its slot, or its refusal, on, for a window. While none does, there is no reserve.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from campaign_gateway.policy.allotments import allotted_to_others, reserved_by_others
from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import (
    Allowance,
    Lane,
    Ledger,
    PauseState,
    Promise,
    Slot,
    SlotRequest,
    Wait,
    WaitReason,
    free_at,
    held_slots,
    is_whole,
    lane_and_client,
    pause_of,
    withheld,
)
from campaign_gateway.policy.serving_order import is_validation_overdue

PROBE_SECONDS = 1.0
"""How soon to look again while another call probes whether a pause is over."""
GATHER_SECONDS = 0.25
"""How soon to look again while replicas are putting their slots back."""
RETURN_SECONDS = 0.25
"""How soon to look again while replicas give back what was allotted to them."""
EVEN_PARTS = 12
"""Parts of a window over which calls are spread ..."""
EVEN_SLACK = 1.2
"""... and how much more than its even share one of them may take."""


class Schedule:
    """The table of claims, laid over a ledger at one moment."""

    def __init__(self, ledger: Ledger, allowance: Allowance, now: float, replica: str = "") -> None:
        """A table.

        Args:
            ledger: the account's.
            allowance: what it may do.
            now: the time.
            replica: who takes slots; others' allotments are not for it.
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
        self._slots = list(held_slots(ledger, now))
        if self._is_whole:
            self._most = self.capacity - allotted_to_others(ledger, replica, now)
            self._openable = self.capacity - reserved_by_others(ledger, allowance, replica, now)
        else:
            # Nobody knows what else is held: only what was allotted before may be begun.
            self._most = self._openable = len(self._slots) + ledger.allotments.get(replica, 0)
        self._used: Counter[Lane] = Counter()
        self._held: Counter[str] = Counter()
        self._claimants = {client for client, at in ledger.refused.items() if at > now - allowance.window}
        self._refused = frozenset(self._claimants)
        for (lane, client), count in Counter(map(lane_and_client, self._slots)).items():
            self._used[lane] += count
            if lane is not Lane.BACKGROUND:
                self._held[client] += count
            if lane.is_waited_for:
                self._claimants.add(client)
        self._promised = _by_client(ledger.promises)
        self._due = _by_client(promise for promise in ledger.promises if promise.at <= now)
        self._is_needed = bool(self._used[Lane.INTERACTIVE] or self._refused)
        self._openings: dict[Lane, list[float]] = {}
        self._pause = pause_of(ledger, now)
        self._probe = ledger.probe
        if self._probe is not None and not any(slot.id == self._probe for slot in self._slots):
            self._probe = None
        self._waiting = 0
        self._delayed: Counter[str] = Counter()

    def ledger(self) -> Ledger:
        """The ledger with the slots taken."""
        allotments = self._ledger.allotments
        if not self._is_whole:
            allotments = {**allotments, self._replica: max(0, self._most - len(self._slots))}
        wanted_at = self.now if self._is_missed else self._ledger.wanted_at
        slots = tuple(self._slots)
        return replace(self._ledger, slots=slots, probe=self._probe, allotments=allotments, wanted_at=wanted_at)

    def answer(self, request: SlotRequest) -> Slot | Wait:
        """A slot, which is taken with that, or a wait, behind those who were told to wait before."""
        if request.lane is Lane.INTERACTIVE:
            self._is_needed = True
        wait = self.forecast(request, self._waiting)
        if wait is None:
            return self._take(request)
        if not self._is_overdue(request):
            self._waiting += 1
        return wait

    def forecast(self, request: SlotRequest, ahead: int) -> Wait | None:
        """The request's wait behind so many others; None where there is a slot for it now."""
        if self._pause is PauseState.PROBING:
            return Wait(PROBE_SECONDS, WaitReason.PAUSED, PROBE_SECONDS)
        if self._is_overdue(request):
            request = replace(request, lane=Lane.INTERACTIVE)
        if self._pause is not PauseState.PAUSED:
            if (delay := self._delay(request, ahead)) is not None:
                return delay
            if self.room(request) >= 1:
                return None
        return self._wait(request, ahead)

    def room(self, request: SlotRequest) -> int:
        """Slots that the request's lane and client could take now; below zero when as many have to fall free before."""
        if self._pause is not PauseState.OPEN and self._is_whole:
            # The probe's: whoever is the first may find out, also where more are held than was learned.
            most = self._allowance.calls - withheld(self._ledger, self._allowance, self.now)
            return most - allotted_to_others(self._ledger, self._replica, self.now) - len(self._slots)
        if self._is_trial and self._is_under_way:
            return 0
        return self._most - len(self._slots) - self._reserved_for_others(request.lane) - self._bound(request, self._due)

    @property
    def _is_trial(self) -> bool:
        """Whether the next call is one more than the platform was seen to allow."""
        return self._ledger.learned is not None and len(self._slots) >= self._ledger.learned

    @property
    def _is_under_way(self) -> bool:
        return bool(self._slots) and self._slots[-1].free_at > self.now + self._allowance.window

    def _is_overdue(self, request: SlotRequest) -> bool:
        """Whether it is a validation, and none was begun for so long that it is served like a caller."""
        return request.lane is Lane.VALIDATION and is_validation_overdue(self._slots, self._allowance, self.now)

    def promise(self, client: str) -> None:
        """Counts one more caller of the client's who is told to come back."""
        self._promised[client] += 1

    def _wait(self, request: SlotRequest, ahead: int) -> Wait:
        """How long the request waits behind so many others, if it is not to have a slot now."""
        now, window = self.now, self._allowance.window
        if not self._is_whole:
            self._is_missed = True
            return Wait(GATHER_SECONDS, WaitReason.ALLOTTED, GATHER_SECONDS)
        certain = self._opening(request.lane, ahead + self._bound(request, self._promised))
        soonest = self._opening(request.lane, ahead)
        if certain <= now and not self._is_trial:
            self._is_missed = True
            return Wait(RETURN_SECONDS, WaitReason.ALLOTTED, RETURN_SECONDS)
        if soonest <= now:
            # Only a promise stands in the way, which may not be called in, or a trial.
            hold = self._allowance.hold
            due = min((each.at + hold for each in self._ledger.promises if each.at <= now), default=now + window)
            soonest = min(due, now + PROBE_SECONDS) if self._is_trial else due
        reason = WaitReason.PAUSED if self._pause is PauseState.PAUSED else WaitReason.SPENT
        return Wait(max(0.0, certain - now), reason, max(soonest, now) - now)

    def _opening(self, lane: Lane, number: int) -> float:
        """When there is a slot for one who has so many before it, taking a call under way to end now."""
        openings = self._openings_of(lane)
        if not openings:
            return self.now + self._allowance.window
        # Whoever comes after the last one takes the place of the first when that falls free again, and so on; each may
        # take its time.
        windows, number = divmod(number, len(openings))
        return openings[number] + windows * (self._allowance.window + self._allowance.hold)

    def _openings_of(self, lane: Lane) -> list[float]:
        """When the lane's next slot, the one after it and so on are there, if nobody else takes any."""
        openings = self._openings.get(lane)
        if openings is None:
            first = max(self.now, self._ledger.paused_until)
            latest = max(first, self.now + self._allowance.window)
            used = Counter(self._used)
            left = len(self._slots)
            most = max(0, self._openable - left - self._reserved_for_others(lane, used))
            openings = self._openings[lane] = [first] * most
            for slot in self._slots:
                used[slot.lane] -= 1
                left -= 1
                if (room := self._openable - left - self._reserved_for_others(lane, used)) > most:
                    most = room
                    openings.append(min(max(first, slot.free_at), latest))
        return openings

    def _reserved_for_others(self, lane: Lane, used: Counter[Lane] | None = None) -> int:
        """Slots that are not for this lane: what other lanes can count on and do not hold, and the reserve."""
        held = self._used if used is None else used
        others = sum(max(0, part - held[other]) for other, part in self._parts.items() if other is not lane)
        return max(others, self._reserve) if self._is_needed and not lane.is_waited_for else others

    def _bound(self, request: SlotRequest, promised: Counter[str]) -> int:
        """How many of the promised slots are not for this request."""
        if not promised:
            return 0
        lane, client = request.lane, request.client
        if not lane.is_waited_for:
            return promised.total()
        if self._used[lane] < self._parts.get(lane, 0):
            return 0
        fair = self._fair_part(client)
        others = sum(
            min(count, max(0, fair - self._held[other])) for other, count in promised.items() if other != client
        )
        return others + (0 if request.is_promised else promised[client])

    def _fair_part(self, client: str) -> int:
        """The calls of a window that each client may have as long as all that want some go on."""
        return max(1, self.capacity // len(self._claimants | {client}))

    def _used_beside(self, client: str) -> int:
        """Calls that other clients want in a window, up to the fair part of each."""
        fair = self._fair_part(client)
        return sum(min(fair, self._held[other] + self._promised[other]) for other in self._claimants - {client})

    def _is_spread(self, request: SlotRequest) -> bool:
        """Whether the request's client has to take calls at an even pace, since another one's callers are refused."""
        if not self._refused - {request.client} or self._used[request.lane] < self._parts.get(request.lane, 0):
            return False
        taken = self._held[request.client] + self._promised[request.client]
        return not request.lane.is_waited_for or taken >= self._fair_part(request.client)

    def _delay(self, request: SlotRequest, ahead: int) -> Wait | None:
        """The wait of a call whose kind is spread over the window, if it is too early for it."""
        if request.lane is Lane.BACKGROUND:
            kind, calls, least = str(request.lane), EVEN_SLACK * self.capacity, self.room(request)
        elif self._is_spread(request):
            kind, calls, least = request.client, self.capacity - self._used_beside(request.client), 0
        else:
            return None
        limit = max(1, math.ceil(calls / EVEN_PARTS))
        part = self._allowance.window * limit / max(1, calls)
        limit = max(limit, least)
        since = self.now + self._allowance.window - part
        first = bisect_right(self._slots, since, key=free_at)
        recent = [slot.free_at for slot in self._slots[first:] if kind in {slot.lane, slot.client}]
        if len(recent) < limit:
            return None
        seconds = min(max(recent[-limit] - since, part / limit), part)
        seconds += part * (self._delayed[kind] // limit)
        self._delayed[kind] += 1
        certain = self._wait(request, ahead)
        return Wait(max(seconds, certain.seconds), WaitReason.SPENT, max(seconds, certain.soonest))

    def _take(self, request: SlotRequest) -> Slot:
        slot = Slot(request.id, request.lane, request.client, self.now + self._allowance.most)
        self._slots.insert(bisect_right(self._slots, slot.free_at, key=free_at), slot)
        self._used[slot.lane] += 1
        if slot.lane is not Lane.BACKGROUND:
            self._held[slot.client] += 1
        if slot.lane.is_waited_for:
            self._claimants.add(slot.client)
        if self._pause is PauseState.OVER:
            self._pause, self._probe = PauseState.PROBING, slot.id
        self._openings.clear()
        return slot


def _by_client(promises: Iterable[Promise]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for promise in promises:
        counts[promise.client] += promise.count
    return counts


def grant(
    ledger: Ledger, allowance: Allowance, requests: Sequence[SlotRequest], now: float, replica: str = ""
) -> tuple[Ledger, list[Slot | Wait]]:
    """Slots for those requests that can have one, in the order given.

    Args:
        ledger: the account's.
        allowance: what it may do.
        requests: in the order of `serving_order.line_up`.
        now: the time.
        replica: who asks.

    Returns:
        The ledger with the slots taken, and for each request its slot or its wait.
    """
    schedule = Schedule(ledger, allowance, now, replica)
    answers = [schedule.answer(request) for request in requests]
    return schedule.ledger(), answers
