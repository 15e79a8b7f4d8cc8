"""What an account's calls look like to those who plan them, count them, or have a share of them."""

from dataclasses import dataclass

from campaign_gateway.policy.allotments import allotted_to_others
from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import (
    Allowance,
    Lane,
    Ledger,
    PauseState,
    SlotRequest,
    held_slots,
    is_whole,
    pause_of,
)
from campaign_gateway.policy.schedule import Schedule

CONTENDED_SECONDS = 5.0
"""For how long after a refusal callers count as wanting calls."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an account's calls look like to whoever plans calls that nobody waits for."""

    capacity: int
    """Slots in all."""
    window: float
    """Seconds."""
    free: int
    """Slots that the validation lane could take now; below zero when as many have to fall free before."""
    falls: tuple[float, ...]
    """Seconds until each held slot falls free, the soonest first, a call under way taken to end now."""
    callers: int
    """Slots that callers and writes hold."""
    is_contended: bool
    """Whether a caller was refused within the last seconds."""


def outlook(ledger: Ledger, allowance: Allowance, now: float) -> Outlook:
    """What the account's calls look like now."""
    schedule = Schedule(ledger, allowance, now)
    slots = held_slots(ledger, now)
    # What is allotted to replicas is given back for whoever wants it.
    allotted = allotted_to_others(ledger, "", now) if is_whole(ledger, now) else 0
    is_paused = pause_of(ledger, now) is PauseState.PAUSED
    return Outlook(
        capacity=schedule.capacity,
        window=allowance.window,
        free=0 if is_paused else schedule.room(SlotRequest("", Lane.VALIDATION, "")) + allotted,
        falls=tuple(min(slot.free_at - now, allowance.window) for slot in slots),
        callers=sum(1 for slot in slots if slot.lane.is_waited_for),
        is_contended=any(at > now - CONTENDED_SECONDS for at in ledger.refused.values()),
    )


def remaining(ledger: Ledger, allowance: Allowance, now: float) -> int:
    """Slots that are free for a waiting caller of some lane or other."""
    if pause_of(ledger, now) is PauseState.PAUSED:
        return 0
    return max(0, capacity(ledger, allowance, now) - len(held_slots(ledger, now)))


@dataclass(frozen=True, slots=True)
class Quota:
    """One client's own share of an account's calls."""

    calls: int
    window: float
    remaining: int
    """Calls of its share that it has not made; 0 while the account is paused."""
    reset: float
    """Seconds until the next of its calls leaves the window; the whole window when there is none."""


def quota(ledger: Ledger, allowance: Allowance, client: str, now: float) -> Quota:
    """The client's share, and what is left of it. What others have spent does not show in it."""
    own = [slot.free_at for slot in held_slots(ledger, now) if slot.client == client]
    calls = max(1, allowance.calls // allowance.clients)
    left = 0 if pause_of(ledger, now) is PauseState.PAUSED else max(0, calls - len(own))
    reset = min(own, default=now + allowance.window) - now
    return Quota(calls, allowance.window, left, min(reset, allowance.window))
