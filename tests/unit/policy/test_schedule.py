from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Place, Promise, Wait, Want, absorb
from campaign_gateway.policy.schedule import Outlook, grant, line_up, outlook, remaining
from tests.support.budgets import (
    BACKGROUND,
    INTERACTIVE,
    MOST,
    NOW,
    PROOF,
    WINDOW,
    WRITES,
    allow,
    held,
    report,
    told,
    wants,
)

# What stands in the names.


def test_lanes_stand_in_the_order_of_service():
    assert [str(lane) for lane in Lane] == ["writes", "interactive", "proof", "background"]


@pytest.mark.parametrize(
    ("lane", "is_waited_for"), [(WRITES, True), (INTERACTIVE, True), (PROOF, False), (BACKGROUND, False)]
)
def test_the_reserve_is_for_those_who_wait(lane: Lane, is_waited_for: bool):
    assert lane.is_waited_for is is_waited_for


# Grants.


def test_a_place_is_held_for_all_the_time_that_a_call_may_take_and_a_window():
    ledger, answers = grant(Ledger(), allow(), [Want("x", PROOF, "me")], NOW)
    assert answers == [Place("x", PROOF, "me", NOW + MOST)]
    assert ledger.places == (Place("x", PROOF, "me", NOW + MOST),)


def spent(*seconds: float) -> list[Any]:
    return [(each, "spent") for each in seconds]


@pytest.mark.parametrize(
    ("places", "allowance", "asked", "answers"),
    [
        pytest.param((), allow(), wants(*[INTERACTIVE] * 3), [True] * 3, id="as-many-as-there-are"),
        pytest.param((), allow(), wants(*[INTERACTIVE] * 4), [True] * 3 + spent(16), id="and-not-one-more"),
        pytest.param(held(5, 7, 0), allow(), wants(INTERACTIVE), [True], id="free-at-its-very-moment"),
        pytest.param(held(5, 7, 9), allow(), wants(INTERACTIVE), spent(5), id="waits-for-the-first-to-fall-free"),
        pytest.param(held(5, 7, 9), allow(), wants(*[INTERACTIVE] * 3), spent(5, 7, 9), id="each-for-its-own"),
        pytest.param(held(5, 20), allow(2), wants(*[INTERACTIVE] * 2), spent(5, 16), id="a-call-under-way-may-end-now"),
        pytest.param(
            held(5), allow(1), wants(*[INTERACTIVE] * 3), spent(5, 21.5, 38), id="behind-all-places-the-next-window"
        ),
        pytest.param(held(5), allow(0), wants(INTERACTIVE), spent(16), id="no-calls-at-all"),
        pytest.param(held(4, 5, 7, 9), allow(), wants(INTERACTIVE), spent(5), id="overfull-waits-for-two"),
        pytest.param(
            held(5), allow(2, reserve=1), wants(PROOF, BACKGROUND), spent(5, 21.5), id="reserve-is-not-for-background"
        ),
        pytest.param(held(5), allow(2, reserve=1), wants(WRITES), [True], id="reserve-is-for-writes"),
        pytest.param(held(5), allow(2, reserve=1), wants(INTERACTIVE), [True], id="reserve-is-for-who-waits"),
        pytest.param(
            held(5, 7), allow(2, reserve=1), wants(INTERACTIVE, PROOF), spent(5, 23.5), id="the-wait-counts-reserve-in"
        ),
        pytest.param(
            held(5, 7), allow(3, lanes={WRITES: 1}), wants(INTERACTIVE, WRITES), [*spent(5), True], id="a-lanes-share"
        ),
        pytest.param(
            (*held(5), *held(7, lane=WRITES)),
            allow(3, lanes={WRITES: 1}),
            wants(INTERACTIVE),
            [True],
            id="a-share-in-use-is-not-kept-twice",
        ),
        pytest.param(
            held(5, 7, lane=WRITES),
            allow(4, lanes={WRITES: 1, PROOF: 1}),
            wants(WRITES, WRITES),
            [True, (5.0, "spent")],
            id="a-lane-borrows-beyond-its-share-but-not-another-lanes",
        ),
        pytest.param(
            (), allow(3, lanes={BACKGROUND: 3}), wants(BACKGROUND), [True], id="a-lanes-own-share-is-not-kept-from-it"
        ),
        pytest.param(
            held(5, 7),
            allow(4, reserve=1, lanes={WRITES: 1}),
            wants(PROOF),
            [True],
            id="reserve-and-shares-are-not-added-up",
        ),
        pytest.param(
            (*held(5, client="me"), *held(7, client="you")),
            allow(2),
            wants((INTERACTIVE, "third")),
            spent(5),
            id="full-is-full-for-all",
        ),
        pytest.param(
            held(*[5] * 5, client="me"),
            allow(10),
            wants(*[(INTERACTIVE, "me")] * 5),
            [True] * 5,
            id="a-lone-client-may-have-all",
        ),
        pytest.param(
            held(*[5] * 9, lane=WRITES, client="me"),
            allow(10),
            wants((INTERACTIVE, "me")),
            [True],
            id="fairness-counts-interactive-calls-only",
        ),
    ],
)
def test_grants(places: tuple[Place, ...], allowance: Allowance, asked: list[Want], answers: list[Any]):
    assert told(Ledger(places=places), allowance, asked) == answers


def test_places_taken_count_for_the_wants_behind_them():
    ledger, _ = grant(Ledger(), allow(2), wants(INTERACTIVE), NOW)
    ledger, answers = grant(ledger, allow(2), wants(WRITES, WRITES), NOW + 1)
    assert [type(answer) for answer in answers] == [Place, Wait]
    assert len(ledger.places) == 2


@given(st.lists(st.integers(1, 64), max_size=6), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_a_wait_is_true_in_the_order_of_positions(offsets: list[int], calls: int, count: int):
    """If nobody else takes a place, each is served after its wait and not before."""
    allowance = allow(calls)
    ledger = Ledger(places=held(*(offset / 4 for offset in sorted(offsets))))
    asked = wants(*[INTERACTIVE] * count)
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
    ("places", "allowance", "asked"),
    [
        pytest.param(
            (*held(5, 7, lane=WRITES), *held(9)),
            allow(3, lanes={WRITES: 2}),
            wants(INTERACTIVE),
            id="what-falls-free-first-is-another-lanes-share",
        ),
        pytest.param(
            (*held(5, lane=WRITES), *held(9)),
            allow(2, lanes={WRITES: 1}),
            wants(PROOF),
            id="what-falls-free-first-is-the-share-of-writes",
        ),
    ],
)
def test_a_wait_is_true_beside_the_shares_of_other_lanes(
    places: tuple[Place, ...], allowance: Allowance, asked: list[Want]
):
    """`retry_after` is told to callers as the time at which a new try can succeed."""
    ledger = Ledger(places=places)
    [(seconds, _)] = told(ledger, allowance, asked)
    assert told(ledger, allowance, asked, NOW + seconds) == [True]


# What is left.


@pytest.mark.parametrize(
    ("ledger", "left"),
    [
        pytest.param(Ledger(), 3, id="unused"),
        pytest.param(Ledger(places=held(5, 7)), 1, id="places-held"),
        pytest.param(Ledger(places=held(0, 7)), 2, id="a-place-that-is-free"),
        pytest.param(Ledger(places=held(1, 2, 3, 4)), 0, id="overfull-is-none-not-less"),
        pytest.param(Ledger(paused_until=NOW + 1), 0, id="paused"),
        pytest.param(Ledger(learned=2, learned_at=NOW), 2, id="learned"),
        pytest.param(Ledger(expected=2, whole_at=NOW + 1), 0, id="not-whole"),
        pytest.param(Ledger(expected=2, whole_at=NOW), 3, id="whole-by-time"),
    ],
)
def test_remaining(ledger: Ledger, left: int):
    assert remaining(ledger, allow(), NOW) == left


# Order.


def lined_up(places: tuple[Place, ...], asked: list[Want], **fields: Any) -> list[int]:
    """The numbers of the wants, in the order in which they are served."""
    return [want.arrival for want in line_up(Ledger(places=places), allow(12, **fields), asked, NOW)]


def arriving(*rows: tuple[Lane, str] | tuple[Lane, str, bool]) -> list[Want]:
    return [Want(f"w{n}", lane, client, n, *promised) for n, (lane, client, *promised) in enumerate(rows)]


@pytest.mark.parametrize(
    ("places", "asked", "fields", "order"),
    [
        pytest.param((), arriving(*((lane, "a") for lane in reversed(Lane))), {}, [3, 2, 1, 0], id="lanes"),
        pytest.param((), arriving((INTERACTIVE, "a"), (INTERACTIVE, "a")), {}, [0, 1], id="first-come"),
        pytest.param(
            held(5, client="a"),
            arriving((INTERACTIVE, "a"), (INTERACTIVE, "b")),
            {},
            [1, 0],
            id="whoever-holds-least-goes-first",
        ),
        pytest.param(
            held(5, lane=WRITES, client="a"),
            arriving((WRITES, "a"), (WRITES, "b")),
            {},
            [1, 0],
            id="among-writers-too",
        ),
        pytest.param(
            held(5, lane=WRITES, client="a"),
            arriving((WRITES, "a"), (INTERACTIVE, "b")),
            {},
            [1, 0],
            id="a-writer-does-not-go-before-a-reader-who-holds-less",
        ),
        pytest.param(
            held(5, lane=WRITES, client="a"),
            arriving((INTERACTIVE, "b"), (WRITES, "a")),
            {"lanes": {WRITES: 2}},
            [1, 0],
            id="but-within-the-places-of-writes",
        ),
        pytest.param(
            held(5, lane=PROOF, client="a"),
            arriving((PROOF, "a"), (PROOF, "b")),
            {},
            [1, 0],
            id="among-those-nobody-waits-for-too",
        ),
        pytest.param(
            (),
            arriving((INTERACTIVE, "a"), (INTERACTIVE, "a"), (INTERACTIVE, "a", True)),
            {},
            [2, 0, 1],
            id="those-who-were-told-to-come-back-go-first",
        ),
        pytest.param(
            held(*[5] * 6, client="a"),
            arriving((INTERACTIVE, "a", True), (INTERACTIVE, "b")),
            {},
            [1, 0],
            id="but-not-before-another-client-that-has-less-than-its-fair-part",
        ),
    ],
)
def test_the_order_in_which_those_who_wait_are_served(
    places: tuple[Place, ...], asked: list[Want], fields: dict[str, Any], order: list[int]
) -> None:
    assert lined_up(places, asked, **fields) == order


# Promises.


def promised(count: int, at: float = 0.0, client: str = "c", replica: str = "r") -> tuple[Promise, ...]:
    return (Promise(replica, client, NOW + at, count),)


HOLD = allow().hold


@pytest.mark.parametrize(
    ("promises", "want", "answer"),
    [
        pytest.param(promised(1), Want("x", INTERACTIVE, "c"), (5.0, "spent"), id="kept-from-a-newcomer"),
        pytest.param(promised(1), Want("x", INTERACTIVE, "c", 0, is_promised=True), True, id="kept-for-who-was-told"),
        pytest.param(promised(1), Want("x", PROOF, "sweep"), (5.0, "spent"), id="kept-from-polls"),
        pytest.param(promised(1, at=1), Want("x", INTERACTIVE, "c"), True, id="not-before-its-time"),
        pytest.param(promised(1, at=-HOLD), Want("x", INTERACTIVE, "c"), True, id="not-for-ever"),
        pytest.param(promised(9, client="greedy"), Want("x", INTERACTIVE, "c"), True, id="not-beyond-a-fair-part"),
    ],
)
def test_a_place_is_left_to_whoever_was_told_to_come_back_for_it(
    promises: tuple[Promise, ...], want: Want, answer: Any
) -> None:
    # Of three places two are held, one of them by each of two clients.
    places = (*held(5, client="c"), *held(7, client="greedy"))
    ledger = absorb(Ledger(places=places, promises=promises), report("a"), allow(), NOW)
    assert told(ledger, allow(), [want]) == [answer]


def test_the_next_refused_is_told_the_place_after_those_that_are_promised() -> None:
    ledger = Ledger(places=held(5, 7, 9), promises=promised(2, at=5))
    [(seconds, _)] = told(ledger, allow(), wants(INTERACTIVE))
    assert seconds == 9


def test_writes_within_their_own_places_are_bound_by_no_promise() -> None:
    ledger = Ledger(places=held(5, 7), promises=promised(3))
    answers = told(ledger, allow(lanes={WRITES: 1}), wants(INTERACTIVE, WRITES))
    assert answers[0] is not True
    assert answers[1] is True


# Proof.


@pytest.mark.parametrize(
    ("places", "fields", "is_served"),
    [
        pytest.param(held(*[1] * 60), {"refused": {"c": NOW - 1}}, True, id="no-proof-for-a-quarter-of-a-window"),
        pytest.param(held(*[1] * 60), {}, False, id="nobody-is-refused"),
        pytest.param(
            (*held(*[1] * 59), *held(WINDOW - 3, lane=PROOF)), {"refused": {"c": NOW - 1}}, False, id="one-is-recent"
        ),
    ],
)
def test_one_call_for_proof_in_a_while_is_served_before_callers(
    places: tuple[Place, ...], fields: dict[str, Any], is_served: bool
) -> None:
    ledger, allowance = Ledger(places=places, **fields), allow(60, reserve=5)
    asked = arriving((INTERACTIVE, "a"), (PROOF, "sweep"), (PROOF, "sweep"))
    in_order = line_up(ledger, allowance, asked, NOW)
    assert [want.arrival for want in in_order] == ([1, 0, 2] if is_served else [0, 1, 2])
    later = replace(ledger, places=places[1:])
    answers = told(later, allowance, in_order)
    assert [answer is True for answer in answers] == [True, False, False]


# An even pace.


def test_while_another_ones_callers_are_refused_a_greedy_client_takes_no_burst() -> None:
    ledger = Ledger(places=held(*[5] * 6, client="greedy"), refused={"modest": NOW - 1})
    answers = told(ledger, allow(12), wants(*[(INTERACTIVE, "greedy")] * 3, (INTERACTIVE, "modest")))
    assert answers[0] is True
    assert answers[1:3] != [True, True], "at an even pace"
    assert answers[3] is True


def test_it_takes_all_at_once_where_nobody_else_is_refused() -> None:
    ledger = Ledger(places=held(*[5] * 6, client="greedy"), refused={"greedy": NOW - 1})
    assert told(ledger, allow(12), wants(*[(INTERACTIVE, "greedy")] * 6)) == [True] * 6


def test_background_calls_are_spread_but_none_is_refused_while_half_of_the_places_are_free() -> None:
    answers = told(Ledger(), allow(60), wants(*[BACKGROUND] * 60))
    assert answers[:30] == [True] * 30
    assert True not in answers[30:]


# The reserve.


@pytest.mark.parametrize(
    ("ledger", "taken"),
    [
        pytest.param(Ledger(), 10, id="nobody-needs-a-call"),
        pytest.param(Ledger(places=held(5, lane=PROOF)), 9, id="polls-are-nobody"),
        pytest.param(Ledger(refused={"c": NOW - WINDOW}), 10, id="a-window-after-the-last-refusal"),
        pytest.param(Ledger(refused={"c": NOW - WINDOW + 1}), 8, id="within-it"),
        pytest.param(Ledger(places=held(5)), 7, id="a-caller-holds-a-place"),
    ],
)
def test_the_reserve_shrinks_to_what_writes_can_count_on_while_no_caller_needs_calls(
    ledger: Ledger, taken: int
) -> None:
    answers = told(ledger, allow(12, reserve=4, lanes={WRITES: 2}), wants(*[PROOF] * 12))
    assert sum(answer is True for answer in answers) == taken


# What planners see.


def test_the_outlook() -> None:
    places = (*held(5, lane=WRITES), *held(6), *held(19, lane=PROOF))
    ledger = Ledger(places=places, promises=promised(2), refused={"c": NOW - 1})
    known = outlook(ledger, allow(12, reserve=4, lanes={WRITES: 2}), NOW)
    assert known == Outlook(
        capacity=12, window=WINDOW, free=12 - 3 - 4 - 2, falls=(5.0, 6.0, WINDOW), callers=2, is_wanted=True
    )
    assert not outlook(replace(ledger, refused={"c": NOW - 6}), allow(12), NOW).is_wanted
    assert outlook(replace(ledger, paused_until=NOW + 1), allow(12), NOW).free == 0


def test_the_outlook_of_an_overfull_account_says_how_many_have_to_fall_free_before() -> None:
    assert outlook(Ledger(places=held(5, 6, 7)), allow(2, reserve=1), NOW).free == -2
