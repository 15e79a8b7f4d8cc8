from dataclasses import fields, replace
from math import inf, nan

import pytest

from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import LONGEST_PAUSE_SECONDS, Allowance, Lane, Ledger, Promise, Slot
from campaign_gateway.policy.reports import Report, absorb
from campaign_gateway.policy.restart import all_spent, bounded, left_behind, moved, taken_over

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


WRITTEN = Ledger(
    slots=(Slot("r1.1", Lane.WRITES, "desk", NOW + 5),),
    promises=(Promise("r1", "desk", NOW + 4, 1),),
    refused={"desk": NOW - 3},
    replicas={"r1": NOW - 1},
    joined={"r1": NOW - 30},
    expected=2,
    whole_at=NOW + 50,
    paused_until=NOW + 20,
    probe="r1.1",
    learned=2,
    learned_at=NOW + 20,
    halvings=1,
    server="run",
    allotments={"r1": 1},
    quiet={"r1": NOW + 10},
    reported={"r1": NOW - 1},
    wanted_at=NOW - 2,
)
"""Each field says something."""


def instants(ledger: Ledger) -> dict[str, list[float]]:
    """All that a ledger says of the clock, by field."""
    found: dict[str, list[float]] = {}
    for name in (each.name for each in fields(Ledger)):
        match getattr(ledger, name):
            case float(at):
                found[name] = [at]
            case dict(by_name) if any(isinstance(at, float) for at in by_name.values()):
                found[name] = list(by_name.values())
            case tuple(rows) if rows:
                found[name] = [getattr(row, "free_at", None) or row.at for row in rows]
            case _:
                pass
    return found


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 0.0])
def test_every_instant_is_moved_and_nothing_else(seconds: float):
    then = moved(WRITTEN, seconds)
    assert instants(then) == {name: [at + seconds for at in row] for name, row in instants(WRITTEN).items()}
    assert moved(then, -seconds) == WRITTEN
    assert moved(Ledger(), seconds) == Ledger(), "zero is no instant"


@pytest.mark.parametrize("beyond", [1e9, 1e300, inf, nan])
def test_no_instant_is_later_than_one_that_could_be_written_now(beyond: float):
    known = instants(replace(bounded(moved(WRITTEN, beyond), ALLOWANCE, NOW), reported={}))
    assert max(max(row) for row in known.values()) <= NOW + LONGEST_PAUSE_SECONDS
    assert max(known["slots"]) == NEW_PLACE
    assert all(at <= NOW for name in ("refused", "replicas", "joined", "wanted_at") for at in known[name])


def test_what_can_be_stays():
    assert bounded(WRITTEN, ALLOWANCE, NOW) == WRITTEN


@pytest.mark.parametrize("at", [inf, nan, -inf])
def test_a_report_at_no_time_moves_nothing(at: float):
    ledger = absorb(
        replace(WRITTEN, reported={"r1": at}), Report("r1", 1, {}, server="run", last_at=NOW), ALLOWANCE, NOW
    )
    assert ledger.slots == WRITTEN.slots
