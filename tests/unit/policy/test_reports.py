from collections.abc import Mapping
from dataclasses import replace

import pytest

from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import SILENCE_SECONDS, UNREADABLE, WITHHELD_WINDOWS, Ledger, Slot, is_whole
from campaign_gateway.policy.reports import Continuity, Report, absorb, continuity, depart
from campaign_gateway.policy.schedule import GATHER_SECONDS
from tests.support.budgets import INTERACTIVE, MOST, NOW, WINDOW, allow, held, report, requests, told

# Reports.


@pytest.mark.parametrize(
    ("stood", "said", "stands"),
    [
        pytest.param(held(5), report("a"), {"interactive-c-1": 5}, id="what-is-not-spoken-of-stays"),
        pytest.param((), report("a", *held(5)), {"interactive-c-1": 5}, id="an-own-slot-is-put-back"),
        pytest.param(held(20), report("a", *held(5)), {"interactive-c-1": 5}, id="an-own-slot-overrides"),
        pytest.param(held(5), report("a", *held(20)), {"interactive-c-1": 20}, id="in-either-direction"),
        pytest.param(
            held(5, 7), report("a", voided=frozenset({"interactive-c-1"})), {"interactive-c-2": 7}, id="voided"
        ),
        pytest.param((), report("a", voided=frozenset({"unknown"})), {}, id="voided-and-never-there"),
        pytest.param(held(0, 7), report("a"), {"interactive-c-2": 7}, id="what-is-free-goes"),
        pytest.param((), report("a", *held(0, 7)), {"interactive-c-2": 7}, id="own-too"),
    ],
)
def test_slots_after_a_report(stood: tuple[Slot, ...], said: Report, stands: dict[str, float]):
    ledger = absorb(Ledger(slots=stood), said, allow(), NOW)
    assert {slot.id: slot.free_at - NOW for slot in ledger.slots} == stands


def gather(*rows: tuple[str, int, float]) -> Ledger:
    """An empty ledger after reports by replicas that knew so many, so many seconds from now."""
    ledger = None
    for replica, known, at in rows:
        ledger = absorb(ledger, report(replica, known=known), allow(), NOW + at)
    assert ledger is not None
    return ledger


@pytest.mark.parametrize(
    ("ledger", "at", "most"),
    [
        pytest.param(gather(("a", 1, 0)), 0.0, 3, id="the-only-one-needs-nobody"),
        pytest.param(gather(("a", 2, 0)), 0.0, 0, id="one-of-two-waits"),
        pytest.param(gather(("a", 2, 0), ("a", 2, 1)), 1.0, 0, id="and-is-not-counted-twice"),
        pytest.param(gather(("a", 2, 0), ("b", 2, 1)), 1.0, 3, id="both-are-there"),
        pytest.param(gather(("a", 3, 0), ("b", 3, 1)), 1.0, 0, id="two-of-three-wait"),
        pytest.param(gather(("a", 3, 0), ("b", 3, 1), ("c", 3, 2)), 2.0, 3, id="all-three-are-there"),
        pytest.param(gather(("a", 2, 0), ("a", 2, MOST - 1)), MOST - 0.25, 0, id="a-dead-one-is-waited-for"),
        pytest.param(gather(("a", 2, 0), ("a", 2, MOST - 1)), MOST, 3, id="until-all-it-sent-has-left-the-window"),
    ],
)
def test_an_empty_ledger_gathers_all_known_replicas_first(ledger: Ledger, at: float, most: int):
    assert capacity(ledger, allow(), NOW + at) == most
    answer = told(ledger, allow(), requests(INTERACTIVE), NOW + at)
    assert answer == [True if most else (GATHER_SECONDS, "allotted")]


def test_a_ledger_that_was_whole_stays_whole():
    """All that were known have put their slots back; who leaves after that takes nothing out of it."""
    ledger = gather(("a", 2, 0), ("b", 2, 0))
    assert capacity(depart(ledger, "b"), allow(12), NOW + 1) == 12, "departed in good order"
    later = absorb(ledger, report("a"), allow(), NOW + SILENCE_SECONDS + 1)
    assert capacity(later, allow(12), NOW + SILENCE_SECONDS + 1) == 6, "gone silent: its share is withheld, no more"


@pytest.mark.parametrize(
    ("known", "replicas", "most"),
    [
        pytest.param(1, {"a": NOW - 1}, 3, id="the-only-one"),
        pytest.param(2, {}, 0, id="one-of-two-by-its-own-account"),
        pytest.param(1, {"a": NOW - 1, "b": NOW - 1}, 0, id="one-of-two-by-the-ledgers"),
    ],
)
def test_a_ledger_from_another_run_of_the_server_gathers_as_well(known: int, replicas: Mapping[str, float], most: int):
    """What was saved last, or copied last, may lack the latest slots."""
    kept = Ledger(replicas=replicas, server="run-1")
    back = replace(report("a", known=known), server="run-2")
    ledger = absorb(kept, back, allow(), NOW)
    assert capacity(ledger, allow(), NOW) == most
    ledger = absorb(ledger, replace(report("b", known=2), server="run-2"), allow(), NOW)
    assert capacity(ledger, allow(), NOW) == 3


def test_a_later_report_of_more_replicas_is_gathered_as_well():
    """1. `c` joins, which `a` has not seen yet; 2. the ledger is lost; 3. `a` and `b`, which has seen it, are back."""
    ledger = gather(("a", 2, 0), ("b", 3, 0.5))
    assert capacity(ledger, allow(), NOW + 0.5) == 0, "the slots of `c` are not back"
    ledger = absorb(ledger, report("c", known=3), allow(), NOW + 1)
    assert capacity(ledger, allow(), NOW + 1) == 3


SEEN = NOW - 1
WITHHELD = SILENCE_SECONDS + WITHHELD_WINDOWS * WINDOW


@pytest.mark.parametrize(
    ("replicas", "most"),
    [
        pytest.param({"a": SEEN}, 12, id="nobody-else"),
        pytest.param({"a": SEEN, "b": NOW - SILENCE_SECONDS}, 12, id="both-seen"),
        pytest.param({"a": SEEN, "b": NOW - SILENCE_SECONDS - 0.25}, 6, id="one-of-two-is-silent"),
        pytest.param({"a": SEEN, "b": SEEN, "c": NOW - 6}, 8, id="one-of-three-is-silent"),
        pytest.param({"a": SEEN, "b": NOW - 7, "c": NOW - 6}, 4, id="two-of-three-are-silent"),
        pytest.param({"a": SEEN, **dict.fromkeys("bcdefgh", NOW - 6)}, 5, id="shares-are-rounded-down"),
        pytest.param({"a": SEEN, "b": NOW - WITHHELD + 0.25}, 6, id="still-withheld"),
        pytest.param({"a": SEEN, "b": NOW - WITHHELD}, 12, id="silent-for-so-long-that-it-is-gone"),
    ],
)
def test_a_silent_replicas_share_is_withheld(replicas: Mapping[str, float], most: int):
    ledger = absorb(Ledger(replicas=replicas), report("a"), allow(), NOW)
    assert capacity(ledger, allow(12), NOW) == most


def test_a_newcomer_does_not_shrink_the_share_that_is_withheld():
    """1. `b` of two is cut off and keeps to its half; 2. `c` is started in its stead; 3. the half is still `b`'s."""
    ledger = absorb(Ledger(replicas={"a": SEEN, "b": NOW - 6}), report("c"), allow(), NOW)
    assert capacity(ledger, allow(12), NOW) <= 6


def test_a_replica_that_is_seen_again_has_its_share_back_in_the_common_budget():
    ledger = absorb(Ledger(replicas={"a": SEEN, "b": NOW - 6}), report("b"), allow(), NOW)
    assert capacity(ledger, allow(12), NOW) == 12


@pytest.mark.parametrize("outage", [SILENCE_SECONDS + 1, WITHHELD + 1, 3600.0])
def test_after_a_total_outage_the_first_one_back_withholds_the_others_shares_until_they_are_seen(outage: float):
    lost = Ledger(replicas=dict.fromkeys("abc", NOW - outage))
    first = absorb(lost, report("a"), allow(), NOW)
    assert capacity(first, allow(12), NOW) == 4
    second = absorb(first, report("b"), allow(), NOW + 0.5)
    assert capacity(second, allow(12), NOW + 0.5) == 8
    third = absorb(second, report("c"), allow(), NOW + 1)
    assert capacity(third, allow(12), NOW + 1) == 12


def test_an_outage_shorter_than_the_silence_withholds_nothing():
    lost = Ledger(replicas=dict.fromkeys("ab", NOW - SILENCE_SECONDS + 0.25))
    assert capacity(absorb(lost, report("a"), allow(), NOW), allow(12), NOW) == 12


def test_what_was_learned_survives_a_report():
    ledger = absorb(Ledger(learned=2, learned_at=NOW, paused_until=NOW + 9), report("a"), allow(), NOW)
    assert (ledger.learned, ledger.learned_at, ledger.paused_until) == (2, NOW, NOW + 9)


# Departures.


def test_one_that_departs_leaves_its_slots_and_nobody_withholds_its_share():
    ledger = Ledger(slots=held(5), replicas={"a": SEEN, "b": SEEN})
    left = depart(ledger, "b")
    assert (left.slots, dict(left.replicas)) == (held(5), {"a": SEEN})
    assert capacity(left, allow(12), NOW + SILENCE_SECONDS - 1) == 12


def test_one_that_was_never_there_may_depart():
    ledger = Ledger(replicas={"a": SEEN})
    assert depart(ledger, "b") == ledger


# What a report meets.


@pytest.mark.parametrize(
    ("ledger", "server", "found"),
    [
        pytest.param(None, "run-1", Continuity.MISSING, id="none"),
        pytest.param(Ledger(), "", Continuity.UNBROKEN, id="nobody-knows-the-server"),
        pytest.param(Ledger(), "run-1", Continuity.UNSIGNED, id="written-by-who-does-not-know-it"),
        pytest.param(Ledger(server="run-1"), "", Continuity.UNBROKEN, id="who-does-not-know-it-looks"),
        pytest.param(Ledger(server="run-0"), "run-1", Continuity.RESTARTED, id="another-run"),
        pytest.param(UNREADABLE, "run-1", Continuity.UNREADABLE, id="written-by-others"),
        pytest.param(UNREADABLE, "", Continuity.UNREADABLE, id="written-by-others-on-a-server-without-a-name"),
        pytest.param(Ledger(replicas={"a": NOW, "b": 0.0}), "", Continuity.UNBROKEN, id="one-was-seen"),
        pytest.param(Ledger(replicas={"a": 0.0, "b": 0.0}), "", Continuity.ABANDONED, id="none-was-seen"),
        pytest.param(Ledger(replicas={"b": 0.0}), "", Continuity.UNBROKEN, id="one-that-is-new-knows-nothing-of-that"),
    ],
)
def test_what_a_report_meets(ledger: Ledger | None, server: str, found: Continuity) -> None:
    assert continuity(ledger, replace(report("a"), server=server), NOW) is found


@pytest.mark.parametrize("known", [1, 2])
def test_whoever_finds_the_ledger_of_others_is_not_alone(known: int) -> None:
    found = absorb(UNREADABLE, report("a", *held(5), known=known), allow(), NOW)
    assert not is_whole(found, NOW + MOST - 1), "whatever they have sent may be in the window"
    assert is_whole(found, NOW + MOST), "and then it has left it"
    assert [slot.free_at for slot in found.slots] == [NOW + 5]
    assert "somebody" not in found.replicas
    assert is_whole(absorb(found, report("b"), allow(), NOW), NOW), "or else who it was is known"
