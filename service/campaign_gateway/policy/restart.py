"""What a process on its own leaves of an account's ledger to the one that follows it, and what that one makes of it.

The laws of this module:

1. A process that is gone sends nothing more. So it is no missing replica, and no share is withheld for it; the slots
   of its calls are held until they fall free by themselves.
2. A slot is never held for longer than a new one would be, whatever the clocks of the two processes say.
3. Where it is not known what was sent, the whole window counts as spent.

All functions are pure; times are seconds of the store's clock.
"""

from dataclasses import replace

from campaign_gateway.policy.ledger import LONGEST_PAUSE_SECONDS, Allowance, Lane, Ledger, Slot


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


def taken_over(ledger: Ledger, allowance: Allowance, shift: float, now: float) -> Ledger:
    """What was left behind, on the clock of the process that takes it over.

    Args:
        ledger: as it was written.
        allowance: the account's.
        shift: seconds to add to its instants.
        now: the time.
    """
    latest = now + allowance.most
    shifted = (replace(slot, free_at=min(slot.free_at + shift, latest)) for slot in ledger.slots)
    # Zero is no instant: it says that there is no pause.
    paused_until = min(ledger.paused_until + shift, now + LONGEST_PAUSE_SECONDS) if ledger.paused_until else 0.0
    return replace(
        ledger,
        slots=tuple(slot for slot in shifted if slot.free_at > now),
        paused_until=paused_until,
        learned_at=min(ledger.learned_at + shift, now + LONGEST_PAUSE_SECONDS) if ledger.learned_at else 0.0,
    )


def all_spent(allowance: Allowance, now: float) -> Ledger:
    """A ledger after calls that nobody knows: all slots are held for as long as a call can hold one."""
    free_at = now + allowance.most
    return Ledger(tuple(Slot(f"unknown.{number}", Lane.BACKGROUND, "", free_at) for number in range(allowance.calls)))
