from collections.abc import Mapping
from typing import Any

import pytest

from campaign_gateway.policy.allotments import WANTED_SECONDS, allot, allotted_to_others, reserved_by_others, share_of
from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import Ledger, Slot
from campaign_gateway.policy.reports import absorb, depart
from campaign_gateway.policy.schedule import grant
from tests.support.budgets import INTERACTIVE, NOW, WINDOW, WRITES, allow, held, report, requests, told

SEEN = NOW - 1


def known(*names: str, at: float = SEEN, **fields: Any) -> Ledger:
    return Ledger(replicas=dict.fromkeys(names, at), **fields)


@pytest.mark.parametrize(
    ("ledger", "calls", "count"),
    [
        pytest.param(known("a", "b"), 12, 6, id="its-share"),
        pytest.param(known("a", "b", "c"), 11, 3, id="rounded-down"),
        pytest.param(known("a"), 12, 6, id="of-a-lone-one-half-for-whoever-joins"),
        pytest.param(known("a", "b", slots=held(*[5] * 9)), 12, 3, id="what-is-free"),
        pytest.param(known("a", "b", allotments={"b": 6}, slots=held(5, 7)), 12, 4, id="beside-the-others"),
        pytest.param(known("a", "b", slots=held(*[5] * 12)), 12, 0, id="nothing-is-free"),
        pytest.param(known("a", "b", allotments={"a": 6}, slots=held(*[5] * 12)), 12, 0, id="taken-back-if-need-be"),
        pytest.param(known("a", "b", allotments={"a": 6}, wanted_at=SEEN), 12, 0, id="given-back-when-missed"),
        pytest.param(known("a", "b", allotments={"a": 6}, wanted_at=NOW - WANTED_SECONDS), 12, 6, id="not-for-ever"),
        pytest.param(known("a", "b", allotments={"a": 6}, wanted_at=SEEN), 24, 1, id="but-one-of-many"),
        pytest.param(known("a", "b", learned=6, learned_at=NOW), 12, 3, id="of-what-was-learned"),
        pytest.param(
            known("a", "b", expected=3, whole_at=NOW + 9, allotments={"a": 2}), 12, 2, id="not-whole-unchanged"
        ),
    ],
)
def test_what_is_allotted_to_a_replica(ledger: Ledger, calls: int, count: int) -> None:
    assert allot(ledger, allow(calls), "a", NOW).allotments.get("a", 0) == count


def test_each_keeps_its_part_of_what_only_writes_may_take() -> None:
    ledger = known("a", "b", allotments={"a": 6, "b": 6}, wanted_at=SEEN)
    assert allot(ledger, allow(12, lanes={WRITES: 4}), "a", NOW).allotments == {"a": 2, "b": 6}
    assert reserved_by_others(ledger, allow(12, lanes={WRITES: 4}), "a", NOW) == 2


def test_slots_that_others_may_begin_are_not_granted_and_missed_at_once() -> None:
    ledger = known("a", "b", allotments={"a": 2, "b": 2})
    ledger, answers = grant(ledger, allow(4), requests(*[INTERACTIVE] * 3), NOW, "a")
    assert [isinstance(answer, Slot) for answer in answers] == [True, True, False]
    assert ledger.wanted_at == NOW
    assert told(known("a", "b", allotments={"b": 4}), allow(4), requests(INTERACTIVE)) == [(0.25, "allotted")]


def test_what_others_keep_in_any_case_is_waited_for_like_a_slot_that_is_held() -> None:
    ledger = known("a", "b", allotments={"b": 1}, slots=held(*range(5, 28)))
    [(seconds, reason)] = told(ledger, allow(24), requests(INTERACTIVE))
    assert (seconds, reason) == (5, "spent")


@pytest.mark.parametrize(
    ("replicas", "allotments", "quiet", "most"),
    [
        pytest.param({"a": SEEN, "b": SEEN}, {"b": 5}, {}, 12, id="nobody-is-missing"),
        pytest.param({"a": SEEN, "b": NOW - 6}, {"b": 2}, {}, 6, id="its-share-is-withheld"),
        pytest.param({"a": SEEN, "b": NOW - 6, "c": SEEN}, {"b": 5}, {}, 7, id="or-its-allotment-if-that-is-more"),
        pytest.param({"a": SEEN, "b": NOW - 6}, {"b": 6}, {"b": NOW - 3}, 12, id="it-said-that-it-would-be-quiet"),
        pytest.param({"a": SEEN, "b": NOW - 9}, {"b": 6}, {"b": NOW - 4}, 6, id="no-longer-than-it-said"),
    ],
)
def test_what_is_withheld_for_one_that_is_missing(
    replicas: Mapping[str, float], allotments: Mapping[str, int], quiet: Mapping[str, float], most: int
) -> None:
    ledger = Ledger(replicas=replicas, allotments=allotments, quiet=quiet)
    assert capacity(ledger, allow(12), NOW) == most
    assert allotted_to_others(ledger, "a", NOW) == (allotments["b"] if most == 12 else 0)


def test_a_share_leaves_what_others_believe_to_be_theirs() -> None:
    """1. `a` and `b` know of each other; 2. `c` joins; 3. `b`, which has not been seen since, takes a half for its share."""
    ledger = Ledger(replicas={"a": NOW, "b": NOW - 2, "c": NOW}, joined={"c": NOW - 1})
    assert share_of(ledger, allow(12), "c") == 12 - 6 - 4
    assert share_of(known("a"), allow(12), "a") == 12


def test_one_that_departs_leaves_its_allotment_to_the_others() -> None:
    ledger = depart(known("a", "b", allotments={"a": 6, "b": 6}, quiet={"b": NOW + 9}), "b")
    assert (dict(ledger.allotments), dict(ledger.quiet)) == ({"a": 6}, {})


def test_a_replica_says_itself_what_is_left_of_its_allotment() -> None:
    """It may have begun some of it while the ledger was lost to it."""
    ledger = known("a", "b", allotments={"a": 6, "b": 6}, at=NOW - WINDOW)
    said = report("b", *held(19, 20))
    ledger = absorb(ledger, said, allow(12), NOW)
    assert ledger.allotments["b"] == 0
    assert len(ledger.slots) == 2
