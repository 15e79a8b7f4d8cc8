"""What becomes of an account's ledger when clocks change, or a process on its own takes it over from another.

The laws of this module:

1. A process that is gone sends nothing more. So it is no missing replica, and no share is withheld for it; the slots
   of its calls are held until they fall free by themselves.
2. A slot is never held for longer than a new one would be, whatever the clocks of the two processes say.
3. Where it is not known what was sent, the whole window counts as spent.

All functions are pure; times are seconds of the store's clock.
"""

from collections.abc import Mapping
from dataclasses import replace

from campaign_gateway.policy.ledger import QUIET_SECONDS, Allowance, Lane, Ledger, Slot, free_at, held_slots


def left_behind(ledger: Ledger) -> Ledger:
    """The ledger without what ends with the processes that have made it: only the calls, and what the platform said."""
    return Ledger(
        slots=ledger.slots,
        paused_until=ledger.paused_until,
        learned=ledger.learned,
        learned_at=ledger.learned_at,
        trial_after=ledger.trial_after,
        halvings=ledger.halvings,
    )


def moved(ledger: Ledger, seconds: float) -> Ledger:
    """The ledger on a clock that shows so much more. Zero is no instant, and stays."""

    def by_name(instants: Mapping[str, float]) -> dict[str, float]:
        return {name: at + seconds for name, at in instants.items()}

    return replace(
        ledger,
        slots=tuple(replace(slot, free_at=slot.free_at + seconds) for slot in ledger.slots),
        promises=tuple(replace(promise, at=promise.at + seconds) for promise in ledger.promises),
        refused=by_name(ledger.refused),
        replicas=by_name(ledger.replicas),
        joined=by_name(ledger.joined),
        quiet=by_name(ledger.quiet),
        reported=by_name(ledger.reported),
        whole_at=ledger.whole_at and ledger.whole_at + seconds,
        paused_until=ledger.paused_until and ledger.paused_until + seconds,
        learned_at=ledger.learned_at and ledger.learned_at + seconds,
        wanted_at=ledger.wanted_at and ledger.wanted_at + seconds,
    )


def bounded(ledger: Ledger, allowance: Allowance, now: float) -> Ledger:
    """The ledger with no instant in it that is later than one that could be written now, but for when who reported."""
    latest, end_of_pause = now + allowance.most, now + max(allowance.longest_pause, allowance.window)

    def by_name(instants: Mapping[str, float], latest: float) -> dict[str, float]:
        # The limit comes first, so that it takes the place of what is no number.
        return {name: min(latest, at) for name, at in instants.items()}

    slots = ledger.slots
    # What is no number is not below the limit either.
    if not all(map(latest.__ge__, map(free_at, slots))):
        slots = tuple(slot if slot.free_at <= latest else replace(slot, free_at=latest) for slot in slots)
    return replace(
        ledger,
        slots=slots,
        promises=tuple(promise for promise in ledger.promises if promise.at <= latest),
        refused=by_name(ledger.refused, now),
        replicas=by_name(ledger.replicas, now),
        joined=by_name(ledger.joined, now),
        quiet=by_name(ledger.quiet, now + QUIET_SECONDS),
        whole_at=min(latest, ledger.whole_at),
        paused_until=min(end_of_pause, ledger.paused_until),
        learned_at=min(end_of_pause, ledger.learned_at),
        wanted_at=min(now, ledger.wanted_at),
    )


def taken_over(ledger: Ledger, allowance: Allowance, shift: float, now: float) -> Ledger:
    """What was left behind, on the clock of the process that takes it over.

    Args:
        ledger: as it was written.
        allowance: the account's.
        shift: seconds to add to its instants.
        now: the time.
    """
    known = bounded(moved(ledger, shift), allowance, now)
    return replace(known, slots=held_slots(known, now))


def all_spent(allowance: Allowance, now: float) -> Ledger:
    """A ledger after calls that nobody knows: all slots are held for as long as a call can hold one."""
    free_at = now + allowance.most
    return Ledger(tuple(Slot(f"unknown.{number}", Lane.BACKGROUND, "", free_at) for number in range(allowance.calls)))
