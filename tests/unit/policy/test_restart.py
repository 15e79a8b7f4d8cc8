from dataclasses import replace

import pytest

from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import LONGEST_PAUSE_SECONDS, Allowance, Lane, Ledger, Slot
from campaign_gateway.policy.reports import Report, absorb
from campaign_gateway.policy.restart import all_spent, left_behind, taken_over

NOW = 1000.0
ALLOWANCE = Allowance(calls=3, window=60.0, leave=2.0, timeout=10.0)
NEW_PLACE = NOW + ALLOWANCE.most


def held(free_at: float) -> Ledger:
    return Ledger((Slot("r1.1", Lane.WRITES, "desk", free_at),))


def after(ledger: Ledger, shift: float = 0.0) -> Ledger:
    return taken_over(left_behind(ledger), ALLOWANCE, shift, NOW)


@pytest.mark.parametrize(
    ("free_at", "shift", "then"),
    [
        pytest.param(NOW + 5, 0.0, [NOW + 5], id="as-it-was"),
        pytest.param(NOW, 0.0, [], id="free-by-now"),
        pytest.param(NOW + 5, 30.0, [NOW + 35], id="on-another-clock"),
        pytest.param(NOW + 5, -5.0, [], id="free-by-now-on-another-clock"),
        pytest.param(NOW + 86_400, 0.0, [NEW_PLACE], id="from-the-future"),
        pytest.param(NOW + 5, 86_400.0, [NEW_PLACE], id="to-the-future"),
    ],
)
def test_a_slot_is_held_as_long_as_it_was_and_never_longer_than_a_new_one(free_at, shift, then):
    assert [slot.free_at for slot in after(held(free_at), shift).slots] == then


def test_who_was_there_is_not_missed():
    """A process that is gone sends nothing, so nothing is withheld for it, and nobody waits to see it."""
    before = replace(held(NOW + 5), replicas={"r1": NOW - 20}, joined={"r1": 1.0}, expected=2, whole_at=NOW + 50)
    ledger = absorb(after(before), Report("r2", 1, {}), ALLOWANCE, NOW)
    assert capacity(ledger, ALLOWANCE, NOW) == ALLOWANCE.calls
    assert set(ledger.replicas) == {"r2"}


@pytest.mark.parametrize(
    ("until", "shift", "then"),
    [
        pytest.param(0.0, 30.0, 0.0, id="none"),
        pytest.param(NOW + 20, 0.0, NOW + 20, id="as-it-was"),
        pytest.param(NOW - 5, 2.0, NOW - 3, id="over-until-a-probe-says-so"),
        pytest.param(NOW + 86_400, 0.0, NOW + LONGEST_PAUSE_SECONDS, id="from-the-future"),
    ],
)
def test_a_pause_goes_on(until, shift, then):
    assert after(Ledger(paused_until=until), shift).paused_until == then


def test_what_was_learned_goes_on_growing():
    before = Ledger(learned=1, learned_at=NOW - 60)
    assert capacity(after(before), ALLOWANCE, NOW) == capacity(before, ALLOWANCE, NOW)
    assert after(replace(before, learned_at=0.0)).learned_at == 0.0


def test_calls_that_nobody_knows_of_hold_all_slots_for_as_long_as_a_call_can():
    ledger = all_spent(ALLOWANCE, NOW)
    assert [slot.free_at for slot in ledger.slots] == [NEW_PLACE] * ALLOWANCE.calls
    assert len({slot.id for slot in ledger.slots}) == ALLOWANCE.calls
