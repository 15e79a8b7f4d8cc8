"""The states of an account's pause; `Pause` has the table."""

from campaign_gateway.policy.capacity import pause
from campaign_gateway.policy.ledger import Ledger, Pause, Slot, pause_of
from campaign_gateway.policy.reports import absorb
from campaign_gateway.policy.schedule import grant
from tests.support.budgets import INTERACTIVE, NOW, allow, report, requests

PAUSED = pause(Ledger(), allow(2), 10.0, NOW)
OVER = NOW + 10.0


def probing() -> tuple[Ledger, Slot]:
    ledger, [slot] = grant(PAUSED, allow(2), requests(INTERACTIVE), OVER)
    assert isinstance(slot, Slot)
    return ledger, slot


def test_an_account_is_paused_until_the_time_is_over():
    assert pause_of(Ledger(), NOW) is Pause.OPEN
    assert pause_of(PAUSED, NOW) is Pause.PAUSED
    assert pause_of(pause(PAUSED, allow(2), 5.0, NOW), OVER - 1) is Pause.PAUSED, "sent together: no pause is cut short"
    assert pause_of(PAUSED, OVER) is Pause.OVER


def test_the_first_call_after_a_pause_is_the_probe():
    ledger, slot = probing()
    assert pause_of(ledger, OVER) is Pause.PROBING
    assert pause_of(ledger, slot.free_at) is Pause.OVER, "nobody reported its end"


def test_a_probe_ends_the_pause_or_begins_another_one():
    ledger, slot = probing()
    voided = report("a", voided=frozenset({slot.id}))
    assert pause_of(absorb(ledger, voided, allow(2), OVER), OVER) is Pause.OVER
    succeeded = report("a", slot, succeeded=frozenset({slot.id}))
    assert pause_of(absorb(ledger, succeeded, allow(2), OVER), OVER) is Pause.OPEN
    assert pause_of(pause(ledger, allow(2), 10.0, OVER), OVER) is Pause.PAUSED
