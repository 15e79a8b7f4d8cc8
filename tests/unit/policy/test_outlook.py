"""What is known of an account, and a caller's own share as the `RateLimit` fields show it."""

from dataclasses import replace

import pytest

from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Promise, Slot
from campaign_gateway.policy.outlook import Outlook, Quota, outlook, quota, remaining
from tests.support.budgets import NOW, VALIDATION, WINDOW, WRITES, allow, held

ALLOWANCE = Allowance(calls=60, window=60.0, leave=3.0, timeout=10.0, clients=3)


def held_by(*clients: str, free_at: float = 30.0) -> Ledger:
    slots = (Slot(f"p{number}", Lane.INTERACTIVE, client, free_at) for number, client in enumerate(clients))
    return Ledger(slots=tuple(slots))


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        pytest.param(held_by(), Quota(20, 60.0, 20, 60.0), id="nothing-used"),
        pytest.param(held_by("a", "a", "b"), Quota(20, 60.0, 18, 30.0), id="own-calls-count"),
        pytest.param(held_by(*["a"] * 25), Quota(20, 60.0, 0, 30.0), id="borrowed-beyond-the-share"),
        pytest.param(held_by(*["b"] * 50), Quota(20, 60.0, 20, 60.0), id="what-others-spend-does-not-show"),
        pytest.param(held_by("a", free_at=130.0), Quota(20, 60.0, 19, 60.0), id="under-way-is-taken-to-end-now"),
        pytest.param(Ledger(paused_until=9.0), Quota(20, 60.0, 0, 60.0), id="paused"),
    ],
)
def test_the_share_and_what_is_left_of_it(ledger: Ledger, expected: Quota) -> None:
    assert quota(ledger, ALLOWANCE, "a", 0.0) == expected


# What is left.


@pytest.mark.parametrize(
    ("ledger", "left"),
    [
        pytest.param(Ledger(), 3, id="unused"),
        pytest.param(Ledger(slots=held(5, 7)), 1, id="slots-held"),
        pytest.param(Ledger(slots=held(0, 7)), 2, id="a-slot-that-is-free"),
        pytest.param(Ledger(slots=held(1, 2, 3, 4)), 0, id="overfull-is-none-not-less"),
        pytest.param(Ledger(paused_until=NOW + 1), 0, id="paused"),
        pytest.param(Ledger(learned=2, learned_at=NOW), 2, id="learned"),
        pytest.param(Ledger(expected=2, whole_at=NOW + 1), 0, id="not-whole"),
        pytest.param(Ledger(expected=2, whole_at=NOW), 3, id="whole-by-time"),
    ],
)
def test_remaining(ledger: Ledger, left: int):
    assert remaining(ledger, allow(), NOW) == left


# What planners see.


def test_the_outlook() -> None:
    slots = (*held(5, lane=WRITES), *held(6), *held(19, lane=VALIDATION))
    ledger = Ledger(slots=slots, promises=(Promise("r", "c", NOW, 2),), refused={"c": NOW - 1})
    known = outlook(ledger, allow(12, reserve=4, lanes={WRITES: 2}), NOW)
    assert known == Outlook(
        capacity=12, window=WINDOW, free=12 - 3 - 4 - 2, falls=(5.0, 6.0, WINDOW), callers=2, is_contended=True
    )
    assert not outlook(replace(ledger, refused={"c": NOW - 6}), allow(12), NOW).is_contended
    assert outlook(replace(ledger, paused_until=NOW + 1), allow(12), NOW).free == 0


def test_the_outlook_of_an_overfull_account_says_how_many_have_to_fall_free_before() -> None:
    assert outlook(Ledger(slots=held(5, 6, 7)), allow(2, reserve=1), NOW).free == -2
