"""How many slots an account has: the budget, and what was learned of it when the platform refused calls within it.

Laws of this module:

1. A refusal for the limit within our budget means that somebody else uses the account, or that the platform allows
   less. All calls pause, as long as the platform says; then one call, the *probe*, finds out for all.
2. If less than half of what was tried had been accepted in the window, the refusal is a *stray*: it says nothing of
   what there is room for. Half is tried for one window, and twice as much in each window after it, up to what was
   tried before. So one stray costs one window.
3. Otherwise what was accepted is what there is room for: it is *learned*. After a window without a refusal one more is
   tried, then three, then seven, each while no other call is under way (`policy.schedule`). A refusal that shows no
   more room than before doubles the windows before the next trial, up to `LONGEST_TRIAL_WINDOWS`.
4. Nothing of this goes beyond what is configured.
"""

from dataclasses import replace

from campaign_gateway.policy.backoff import Backoff
from campaign_gateway.policy.ledger import Allowance, Ledger, PauseState, held_slots, is_whole, pause_of, withheld

LONGEST_TRIAL_WINDOWS = 8
"""Windows between two trials of more than was learned, at most; each may cost a pause."""
SHORTEST_GUESS = 1 / 4
"""The part of a window that a pause of unknown length lasts at least."""


def capacity(ledger: Ledger, allowance: Allowance, now: float) -> int:
    """Slots that there are in all: what was learned of the budget, less what is withheld; none before it is whole."""
    if not is_whole(ledger, now):
        return 0
    return max(0, learned(ledger, allowance, now) - withheld(ledger, allowance, now))


def learned(ledger: Ledger, allowance: Allowance, now: float) -> int:
    """Calls in a window, as far as the platform was seen to allow them."""
    calls = allowance.calls
    windows = max(0, int((now - ledger.learned_at) / allowance.window))
    if ledger.learned is not None:
        trials = max(0, windows - ledger.trial_after + 1)
        calls = min(calls, ledger.learned + 2 ** min(trials, 32) - 1)
    halvings = max(0, ledger.halvings - windows)
    return max(min(1, calls), calls >> halvings)


def pause(ledger: Ledger, allowance: Allowance, retry_after: float | None, now: float) -> Ledger:
    """The ledger after the platform said that its limit is exceeded, within ours.

    A pause only moves forward. Without a `Retry-After` it lasts for the rest of the window: until our own oldest call
    has left it, but no less than a quarter.

    Args:
        ledger: as it was, the refused call's slot in it.
        allowance: the account's.
        retry_after: the platform's `Retry-After` in seconds, or None.
        now: the time.
    """
    held = [slot.free_at for slot in held_slots(ledger, now)]
    if retry_after is None:
        oldest = min(held, default=now + allowance.window)
        retry_after = min(max(oldest - now, allowance.window * SHORTEST_GUESS), allowance.window)
    until = max(ledger.paused_until, now + min(retry_after, allowance.longest_pause))
    paused = replace(ledger, paused_until=until, probe=None, learned_at=until)
    before = pause_of(ledger, now)
    if before is PauseState.PAUSED:
        # Sent together with the one that was refused first, whose verdict took this one for accepted.
        is_learned = ledger.learned is not None and not ledger.halvings
        return replace(paused, learned=max(1, (ledger.learned or 1) - 1)) if is_learned else paused
    if before is not PauseState.OPEN:
        # The probe: it says that the pause was too short, and nothing of how much there is room for.
        return paused
    accepted, tried = len(held) - 1, learned(ledger, allowance, now)
    if 2 * accepted < tried:
        windows = max(0, int((now - ledger.learned_at) / allowance.window))
        return replace(paused, halvings=max(0, ledger.halvings - windows) + 1)
    trials = Backoff(1, LONGEST_TRIAL_WINDOWS, current=ledger.trial_after if accepted == ledger.learned else 0).grown()
    return replace(paused, learned=max(1, min(accepted, allowance.calls)), halvings=0, trial_after=int(trials.current))
