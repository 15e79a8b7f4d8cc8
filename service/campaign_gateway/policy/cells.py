"""An account's window as cells, one for each call of its budget, for people who look at it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from campaign_gateway.policy.capacity import capacity, learned
from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, PauseState, held_slots, pause_of
from campaign_gateway.policy.outlook import remaining

MOST_CELLS = 600
"""Cells of one account; a larger budget shows the first of each kind."""


class CellKind(StrEnum):
    """What a cell stands for."""

    CALL = "call"
    FREE = "free"
    RESERVE = "reserve"
    """Free for callers who wait, and for nobody else while some do."""
    LEARNED = "learned"
    """In the budget, and the platform was seen not to allow it."""
    WITHHELD = "withheld"
    """Left to replicas that are not seen, or not known of while the ledger is lost or incomplete."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One call of the budget. The members after the first are those of calls."""

    kind: CellKind
    lane: Lane | None = None
    client: str | None = None
    free_in: float | None = None
    """Seconds until it falls free, as if a call under way takes all of its time."""


@dataclass(frozen=True, slots=True)
class Window:
    """An account's window now. Times are seconds."""

    calls: int
    window: float
    learned: int
    """Calls that the platform has been seen to allow."""
    remaining: int
    reserve: int
    held: Mapping[Lane, int]
    """Calls by lane."""
    clients: Mapping[str, int]
    """Calls by client."""
    pause: PauseState
    pause_left: float
    next_free: float | None
    """Until the next call falls free; None while all are free."""
    cells: tuple[Cell, ...]
    """Those of calls by lane and client, the soonest free first, then the others by kind."""


def window_of(ledger: Ledger, allowance: Allowance, permitted: Allowance, now: float) -> Window:
    """The account's window.

    Args:
        ledger: as it is known.
        allowance: what the settings allow.
        permitted: what this replica may do of that; less while the ledger is lost.
        now: the time.
    """
    slots = held_slots(ledger, now)
    seen = min(learned(ledger, allowance, now), allowance.calls)
    room = max(0, capacity(ledger, permitted, now) - len(slots))
    rest = max(0, allowance.calls - len(slots) - room)
    reserve, unlearned = min(allowance.reserve, room), min(rest, allowance.calls - seen)
    order = {lane: number for number, lane in enumerate(Lane)}
    calls = [
        Cell(CellKind.CALL, slot.lane, slot.client, slot.free_at - now)
        for slot in sorted(slots, key=lambda slot: (order[slot.lane], slot.client, slot.free_at))
    ]
    others = {
        CellKind.FREE: room - reserve,
        CellKind.RESERVE: reserve,
        CellKind.WITHHELD: rest - unlearned,
        CellKind.LEARNED: unlearned,
    }
    cells = calls + [Cell(kind) for kind, count in others.items() for _ in range(min(count, MOST_CELLS))]
    return Window(
        calls=allowance.calls,
        window=allowance.window,
        learned=seen,
        remaining=remaining(ledger, permitted, now),
        reserve=allowance.reserve,
        held=Counter(slot.lane for slot in slots),
        clients=Counter(slot.client for slot in slots),
        pause=pause_of(ledger, now),
        pause_left=max(0.0, ledger.paused_until - now) if ledger.paused_until else 0.0,
        next_free=slots[0].free_at - now if slots else None,
        cells=tuple(cells[:MOST_CELLS]),
    )
