"""Pauses that the platform asks for, as a replica sees them in the ledger: one log line when each begins and ends."""

import logging

from campaign_gateway.policy.capacity import learned
from campaign_gateway.policy.ledger import Allowance, Ledger, held_slots

_log = logging.getLogger(__name__)


def is_paused(ledger: Ledger | None) -> bool:
    """Whether the platform has asked for a pause that is not over."""
    return ledger is not None and ledger.paused_until > 0


def say_pause(account: str, before: Ledger | None, after: Ledger, allowance: Allowance, now: float) -> None:
    """Logs that the account's pause has begun or is over, if either is so."""
    if is_paused(before) is is_paused(after):
        return
    room = learned(after, allowance, now)
    if not is_paused(after):
        _log.info("the pause of account %s is over: %d calls in a window may be made", account, room)
        return
    made = len(held_slots(after, now))
    text = "the platform asked for a pause: no call of account %s for %.0f s (%d were in the window, %d may be later)"
    _log.warning(text, account, max(0.0, after.paused_until - now), made, room)
