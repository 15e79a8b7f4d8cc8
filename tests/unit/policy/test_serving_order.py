from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.policy.ledger import Lane, Ledger, Slot, SlotRequest
from campaign_gateway.policy.serving_order import line_up
from tests.support.budgets import INTERACTIVE, NOW, VALIDATION, WINDOW, WRITES, allow, held, told


def lined_up(slots: tuple[Slot, ...], asked: list[SlotRequest], **fields: Any) -> list[int]:
    """The numbers of the requests, in the order in which they are served."""
    return [request.arrival for request in line_up(Ledger(slots=slots), allow(12, **fields), asked, NOW)]


def arriving(*rows: tuple[Lane, str] | tuple[Lane, str, bool]) -> list[SlotRequest]:
    return [SlotRequest(f"w{n}", lane, client, n, *promised) for n, (lane, client, *promised) in enumerate(rows)]


@pytest.mark.parametrize(
    ("slots", "asked", "fields", "order"),
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
            held(5, lane=WRITES, client="a"), arriving((WRITES, "a"), (WRITES, "b")), {}, [1, 0], id="among-writers-too"
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
            id="but-within-the-slots-of-writes",
        ),
        pytest.param(
            held(5, lane=VALIDATION, client="a"),
            arriving((VALIDATION, "a"), (VALIDATION, "b")),
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
    slots: tuple[Slot, ...], asked: list[SlotRequest], fields: dict[str, Any], order: list[int]
) -> None:
    assert lined_up(slots, asked, **fields) == order


@pytest.mark.parametrize(
    ("slots", "fields", "is_served"),
    [
        pytest.param(held(*[1] * 60), {"refused": {"c": NOW - 1}}, True, id="no-validation-for-a-quarter-of-a-window"),
        pytest.param(held(*[1] * 60), {}, False, id="nobody-is-refused"),
        pytest.param(
            (*held(*[1] * 59), *held(WINDOW - 3, lane=VALIDATION)),
            {"refused": {"c": NOW - 1}},
            False,
            id="one-is-recent",
        ),
    ],
)
def test_one_call_for_validation_in_a_while_is_served_before_callers(
    slots: tuple[Slot, ...], fields: dict[str, Any], is_served: bool
) -> None:
    ledger, allowance = Ledger(slots=slots, **fields), allow(60, reserve=5)
    asked = arriving((INTERACTIVE, "a"), (VALIDATION, "sweep"), (VALIDATION, "sweep"))
    in_order = line_up(ledger, allowance, asked, NOW)
    assert [request.arrival for request in in_order] == ([1, 0, 2] if is_served else [0, 1, 2])
    later = replace(ledger, slots=slots[1:])
    answers = told(later, allowance, in_order)
    assert [answer is True for answer in answers] == [True, False, False]
