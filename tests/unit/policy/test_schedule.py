from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Promise, Slot, SlotRequest, Wait
from campaign_gateway.policy.reports import absorb
from campaign_gateway.policy.schedule import grant
from tests.support.budgets import (
    BACKGROUND,
    INTERACTIVE,
    MOST,
    NOW,
    VALIDATION,
    WINDOW,
    WRITES,
    allow,
    held,
    report,
    requests,
    told,
)
from tests.support.examples import scaled

# What stands in the names.


def test_lanes_stand_in_the_order_of_service():
    assert [str(lane) for lane in Lane] == ["writes", "interactive", "proof", "background"]


@pytest.mark.parametrize(
    ("lane", "is_waited_for"), [(WRITES, True), (INTERACTIVE, True), (VALIDATION, False), (BACKGROUND, False)]
)
def test_the_reserve_is_for_those_who_wait(lane: Lane, is_waited_for: bool):
    assert lane.is_waited_for is is_waited_for


# Grants.


def test_a_slot_is_held_for_all_the_time_that_a_call_may_take_and_a_window():
    ledger, answers = grant(Ledger(), allow(), [SlotRequest("x", VALIDATION, "me")], NOW)
    assert answers == [Slot("x", VALIDATION, "me", NOW + MOST)]
    assert ledger.slots == (Slot("x", VALIDATION, "me", NOW + MOST),)


def spent(*seconds: float) -> list[Any]:
    return [(each, "spent") for each in seconds]


@pytest.mark.parametrize(
    ("slots", "allowance", "asked", "answers"),
    [
        pytest.param((), allow(), requests(*[INTERACTIVE] * 3), [True] * 3, id="as-many-as-there-are"),
        pytest.param((), allow(), requests(*[INTERACTIVE] * 4), [True] * 3 + spent(16), id="and-not-one-more"),
        pytest.param(held(0, 5, 7), allow(), requests(INTERACTIVE), [True], id="free-at-its-very-moment"),
        pytest.param(held(5, 7, 9), allow(), requests(INTERACTIVE), spent(5), id="waits-for-the-first-to-fall-free"),
        pytest.param(held(5, 7, 9), allow(), requests(*[INTERACTIVE] * 3), spent(5, 7, 9), id="each-for-its-own"),
        pytest.param(
            held(5, 20), allow(2), requests(*[INTERACTIVE] * 2), spent(5, 16), id="a-call-under-way-may-end-now"
        ),
        pytest.param(
            held(5), allow(1), requests(*[INTERACTIVE] * 3), spent(5, 21.5, 38), id="behind-all-slots-the-next-window"
        ),
        pytest.param(held(5), allow(0), requests(INTERACTIVE), spent(16), id="no-calls-at-all"),
        pytest.param(held(4, 5, 7, 9), allow(), requests(INTERACTIVE), spent(5), id="overfull-waits-for-two"),
        pytest.param(
            held(5),
            allow(2, reserve=1),
            requests(VALIDATION, BACKGROUND),
            spent(5, 21.5),
            id="reserve-is-not-for-background",
        ),
        pytest.param(held(5), allow(2, reserve=1), requests(WRITES), [True], id="reserve-is-for-writes"),
        pytest.param(held(5), allow(2, reserve=1), requests(INTERACTIVE), [True], id="reserve-is-for-who-waits"),
        pytest.param(
            held(5, 7),
            allow(2, reserve=1),
            requests(INTERACTIVE, VALIDATION),
            spent(5, 23.5),
            id="the-wait-counts-reserve-in",
        ),
        pytest.param(
            held(5, 7),
            allow(3, lanes={WRITES: 1}),
            requests(INTERACTIVE, WRITES),
            [*spent(5), True],
            id="a-lanes-share",
        ),
        pytest.param(
            (*held(5), *held(7, lane=WRITES)),
            allow(3, lanes={WRITES: 1}),
            requests(INTERACTIVE),
            [True],
            id="a-share-in-use-is-not-kept-twice",
        ),
        pytest.param(
            held(5, 7, lane=WRITES),
            allow(4, lanes={WRITES: 1, VALIDATION: 1}),
            requests(WRITES, WRITES),
            [True, (5.0, "spent")],
            id="a-lane-borrows-beyond-its-share-but-not-another-lanes",
        ),
        pytest.param(
            (),
            allow(3, lanes={BACKGROUND: 3}),
            requests(BACKGROUND),
            [True],
            id="a-lanes-own-share-is-not-kept-from-it",
        ),
        pytest.param(
            held(5, 7),
            allow(4, reserve=1, lanes={WRITES: 1}),
            requests(VALIDATION),
            [True],
            id="reserve-and-shares-are-not-added-up",
        ),
        pytest.param(
            (*held(5, client="me"), *held(7, client="you")),
            allow(2),
            requests((INTERACTIVE, "third")),
            spent(5),
            id="full-is-full-for-all",
        ),
        pytest.param(
            held(*[5] * 5, client="me"),
            allow(10),
            requests(*[(INTERACTIVE, "me")] * 5),
            [True] * 5,
            id="a-lone-client-may-have-all",
        ),
        pytest.param(
            held(*[5] * 9, lane=WRITES, client="me"),
            allow(10),
            requests((INTERACTIVE, "me")),
            [True],
            id="fairness-counts-interactive-calls-only",
        ),
    ],
)
def test_grants(slots: tuple[Slot, ...], allowance: Allowance, asked: list[SlotRequest], answers: list[Any]):
    assert told(Ledger(slots=slots), allowance, asked) == answers


def test_slots_taken_count_for_the_requests_behind_them():
    ledger, _ = grant(Ledger(), allow(2), requests(INTERACTIVE), NOW)
    ledger, answers = grant(ledger, allow(2), requests(WRITES, WRITES), NOW + 1)
    assert [type(answer) for answer in answers] == [Slot, Wait]
    assert len(ledger.slots) == 2


@given(st.lists(st.integers(1, 64), max_size=6), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=scaled(150))
def test_a_wait_is_true_in_the_order_of_positions(offsets: list[int], calls: int, count: int):
    """If nobody else takes a slot, each is served after its wait and not before."""
    allowance = allow(calls)
    ledger = Ledger(slots=held(*(offset / 4 for offset in sorted(offsets))))
    asked = requests(*[INTERACTIVE] * count)
    for number, answer in enumerate(told(ledger, allowance, asked)):
        if answer is True:
            continue
        seconds = answer[0]
        early = told(ledger, allowance, asked[: number + 1], NOW + seconds - 1 / 8)
        on_time = told(ledger, allowance, asked[: number + 1], NOW + seconds)
        assert early[number] is not True
        if number < calls:
            assert on_time[number] is True


@pytest.mark.parametrize(
    ("slots", "allowance", "asked"),
    [
        pytest.param(
            (*held(5, 7, lane=WRITES), *held(9)),
            allow(3, lanes={WRITES: 2}),
            requests(INTERACTIVE),
            id="what-falls-free-first-is-another-lanes-share",
        ),
        pytest.param(
            (*held(5, lane=WRITES), *held(9)),
            allow(2, lanes={WRITES: 1}),
            requests(VALIDATION),
            id="what-falls-free-first-is-the-share-of-writes",
        ),
    ],
)
def test_a_wait_is_true_beside_the_shares_of_other_lanes(
    slots: tuple[Slot, ...], allowance: Allowance, asked: list[SlotRequest]
):
    """`retry_after` is told to callers as the time at which a new try can succeed."""
    ledger = Ledger(slots=slots)
    [(seconds, _)] = told(ledger, allowance, asked)
    assert told(ledger, allowance, asked, NOW + seconds) == [True]


# Promises.


def promised(count: int, at: float = 0.0, client: str = "c", replica: str = "r") -> tuple[Promise, ...]:
    return (Promise(replica, client, NOW + at, count),)


HOLD = allow().hold


@pytest.mark.parametrize(
    ("promises", "asked_for", "answer"),
    [
        pytest.param(promised(1), SlotRequest("x", INTERACTIVE, "c"), (5.0, "spent"), id="kept-from-a-newcomer"),
        pytest.param(
            promised(1), SlotRequest("x", INTERACTIVE, "c", 0, is_promised=True), True, id="kept-for-who-was-told"
        ),
        pytest.param(promised(1), SlotRequest("x", VALIDATION, "sweep"), (5.0, "spent"), id="kept-from-polls"),
        pytest.param(promised(1, at=1), SlotRequest("x", INTERACTIVE, "c"), True, id="not-before-its-time"),
        pytest.param(promised(1, at=-HOLD), SlotRequest("x", INTERACTIVE, "c"), True, id="not-for-ever"),
        pytest.param(
            promised(9, client="greedy"), SlotRequest("x", INTERACTIVE, "c"), True, id="not-beyond-a-fair-part"
        ),
    ],
)
def test_a_slot_is_left_to_whoever_was_told_to_come_back_for_it(
    promises: tuple[Promise, ...], asked_for: SlotRequest, answer: Any
) -> None:
    # Of three slots two are held, one of them by each of two clients.
    slots = (*held(5, client="c"), *held(7, client="greedy"))
    ledger = absorb(Ledger(slots=slots, promises=promises), report("a"), allow(), NOW)
    assert told(ledger, allow(), [asked_for]) == [answer]


def test_the_next_refused_is_told_the_slot_after_those_that_are_promised() -> None:
    ledger = Ledger(slots=held(5, 7, 9), promises=promised(2, at=5))
    [(seconds, _)] = told(ledger, allow(), requests(INTERACTIVE))
    assert seconds == 9


def test_writes_within_their_own_slots_are_bound_by_no_promise() -> None:
    ledger = Ledger(slots=held(5, 7), promises=promised(3))
    answers = told(ledger, allow(lanes={WRITES: 1}), requests(INTERACTIVE, WRITES))
    assert answers[0] is not True
    assert answers[1] is True


# An even pace.


def test_while_another_ones_callers_are_refused_a_greedy_client_takes_no_burst() -> None:
    ledger = Ledger(slots=held(*[5] * 6, client="greedy"), refused={"modest": NOW - 1})
    answers = told(ledger, allow(12), requests(*[(INTERACTIVE, "greedy")] * 3, (INTERACTIVE, "modest")))
    assert answers[0] is True
    assert answers[1:3] != [True, True], "at an even pace"
    assert answers[3] is True


def test_it_takes_all_at_once_where_nobody_else_is_refused() -> None:
    ledger = Ledger(slots=held(*[5] * 6, client="greedy"), refused={"greedy": NOW - 1})
    assert told(ledger, allow(12), requests(*[(INTERACTIVE, "greedy")] * 6)) == [True] * 6


def test_background_calls_are_spread_but_none_is_refused_while_half_of_the_slots_are_free() -> None:
    answers = told(Ledger(), allow(60), requests(*[BACKGROUND] * 60))
    assert answers[:30] == [True] * 30
    assert True not in answers[30:]


# The reserve.


@pytest.mark.parametrize(
    ("ledger", "taken"),
    [
        pytest.param(Ledger(), 10, id="nobody-needs-a-call"),
        pytest.param(Ledger(slots=held(5, lane=VALIDATION)), 9, id="polls-are-nobody"),
        pytest.param(Ledger(refused={"c": NOW - WINDOW}), 10, id="a-window-after-the-last-refusal"),
        pytest.param(Ledger(refused={"c": NOW - WINDOW + 1}), 8, id="within-it"),
        pytest.param(Ledger(slots=held(5)), 7, id="a-caller-holds-a-slot"),
    ],
)
def test_the_reserve_shrinks_to_what_writes_can_count_on_while_no_caller_needs_calls(
    ledger: Ledger, taken: int
) -> None:
    answers = told(ledger, allow(12, reserve=4, lanes={WRITES: 2}), requests(*[VALIDATION] * 12))
    assert sum(answer is True for answer in answers) == taken


@pytest.mark.parametrize(
    ("since_the_last", "taken"),
    [
        pytest.param(None, 1, id="none-in-the-window"),
        pytest.param(WINDOW / 2 + 1, 1, id="none-for-a-part-of-it"),
        pytest.param(WINDOW / 2 - 1, 0, id="one-a-moment-ago"),
    ],
)
def test_one_validation_in_a_while_may_have_the_reserve(since_the_last: float | None, taken: int) -> None:
    slots = held(*[5] * 8)
    if since_the_last is not None:
        slots = tuple(sorted([*slots, *held(WINDOW - since_the_last, lane=VALIDATION)], key=lambda slot: slot.free_at))
    answers = told(Ledger(slots=slots), allow(12, reserve=4 - len(slots) + 8), requests(*[VALIDATION] * 3))
    assert sum(answer is True for answer in answers) == taken
