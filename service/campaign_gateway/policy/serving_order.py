"""The order in which calls that wait for a slot are served.

1. Writes, within their own slots.
2. One validation, where callers are refused and none was begun for too long (law 5 of `policy.schedule`).
3. Callers: whoever holds less than its fair part; those who were told to come back first; then whoever holds least.
4. Lanes that nobody waits for; in each of them whoever holds least.

Among equals the first to come is served first.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Slot, SlotRequest, free_at

VALIDATIONS = 4
"""Validations in a window that may have what a caller may, and go before callers while some are refused ..."""
LEAST_VALIDATIONS = 5
"""... if there are so many calls for each."""

_LANES = {lane: number for number, lane in enumerate(Lane)}


def is_validation_overdue(slots: Sequence[Slot], allowance: Allowance, now: float) -> bool:
    """Whether no validation was begun for too long."""
    validations = min(VALIDATIONS, allowance.calls // LEAST_VALIDATIONS)
    if not validations:
        return False
    since = now + allowance.window * (1 - 1 / validations)
    return not any(slot.lane is Lane.VALIDATION for slot in slots[bisect_right(slots, since, key=free_at) :])


def line_up(
    ledger: Ledger | None, allowance: Allowance, requests: Iterable[SlotRequest], now: float
) -> list[SlotRequest]:
    """The requests in the order in which they are served."""
    requests = list(requests)
    if len(requests) < 2:  # noqa: PLR2004 - nobody is before another
        return requests
    slots = ledger.slots if ledger is not None else ()
    refused = ledger.refused.values() if ledger is not None else ()
    is_overdue = any(at > now - allowance.window for at in refused) and is_validation_overdue(slots, allowance, now)
    own = {lane: part - sum(1 for slot in slots if slot.lane is lane) for lane, part in allowance.lanes.items()}
    held: Counter[object] = Counter()
    for slot in slots:
        held[slot.client if slot.lane.is_waited_for else (slot.lane, slot.client)] += 1
    in_turn = sorted(requests, key=lambda request: (_LANES[request.lane], request.arrival))
    clients = {request.client for request in in_turn if request.lane.is_waited_for}
    clients |= {slot.client for slot in slots if slot.lane.is_waited_for}
    fair = allowance.calls // max(1, len(clients))
    ranked: list[tuple[tuple[bool | int, ...], SlotRequest]] = []
    for request in in_turn:
        lane = request.lane
        if lane is Lane.WRITES and own.get(lane, 0) > 0:
            own[lane] -= 1
            rank: tuple[bool | int, ...] = (0, 0, 0, 0, request.arrival)
        elif lane is Lane.VALIDATION and is_overdue:
            is_overdue = False
            rank = (1, 0, 0, 0, 0, request.arrival)
        elif lane.is_waited_for:
            holds = held[request.client]
            rank = (1, holds >= fair, not request.is_promised, holds, _LANES[lane], request.arrival)
        else:
            rank = (2, _LANES[lane], held[lane, request.client], request.arrival)
        held[request.client if lane.is_waited_for else (lane, request.client)] += 1
        ranked.append((rank, request))
    ranked.sort(key=lambda row: row[0])
    return [request for _, request in ranked]
