"""An account's window, cell by cell."""

from collections import Counter
from dataclasses import replace

import pytest

from campaign_gateway.policy.cells import MOST_CELLS, Cell, CellKind, window_of
from campaign_gateway.policy.ledger import Ledger, PauseState
from tests.support.budgets import BACKGROUND, INTERACTIVE, NOW, VALIDATION, WINDOW, WRITES, allow, held

CALL, FREE, RESERVE, LEARNED, WITHHELD = CellKind
MIXED = tuple(
    sorted(
        (
            *held(3.0, 1.0, client="b"),
            *held(2.0, client="a", start=5),
            *held(4.0, lane=VALIDATION, client="sweep"),
            *held(8.0, lane=BACKGROUND, client="sweep"),
            *held(9.0, lane=WRITES, client="z"),
        ),
        key=lambda slot: slot.free_at,
    )
)


def test_calls_stand_by_lane_and_client_and_tell_when_they_fall_free():
    window = window_of(Ledger(slots=MIXED), allow(8), allow(8), NOW)
    assert window.cells == (
        Cell(CALL, WRITES, "z", 9.0),
        Cell(CALL, INTERACTIVE, "a", 2.0),
        Cell(CALL, INTERACTIVE, "b", 1.0),
        Cell(CALL, INTERACTIVE, "b", 3.0),
        Cell(CALL, VALIDATION, "sweep", 4.0),
        Cell(CALL, BACKGROUND, "sweep", 8.0),
        Cell(FREE),
        Cell(FREE),
    )
    assert (window.held[INTERACTIVE], window.clients, window.next_free) == (
        3,
        {"a": 1, "b": 2, "sweep": 2, "z": 1},
        1.0,
    )
    assert (window.calls, window.window, window.remaining) == (8, WINDOW, 2)


@pytest.mark.parametrize(
    ("ledger", "calls", "permitted", "expected"),
    [
        pytest.param(Ledger(), 8, 8, {FREE: 6, RESERVE: 2}, id="all-free"),
        pytest.param(Ledger(slots=held(*[5.0] * 7)), 8, 8, {CALL: 7, RESERVE: 1}, id="the-reserve-is-spent-last"),
        pytest.param(Ledger(slots=held(-1.0, 5.0)), 8, 8, {CALL: 1, FREE: 5, RESERVE: 2}, id="past-is-free"),
        pytest.param(Ledger(learned=5, learned_at=NOW), 8, 8, {FREE: 3, RESERVE: 2, LEARNED: 3}, id="learned"),
        pytest.param(Ledger(), 8, 4, {FREE: 2, RESERVE: 2, WITHHELD: 4}, id="by-its-own-share"),
        pytest.param(Ledger(expected=2, whole_at=NOW + 9), 8, 8, {WITHHELD: 8}, id="not-whole-yet"),
        pytest.param(Ledger(slots=held(*[5.0] * 9)), 8, 8, {CALL: 9}, id="a-budget-that-was-more-before"),
        pytest.param(Ledger(), 10**6, 10**6, {FREE: MOST_CELLS}, id="bounded"),
    ],
)
def test_the_cells_that_are_no_calls(ledger, calls, permitted, expected):
    window = window_of(ledger, allow(calls, reserve=2), allow(permitted, reserve=2), NOW)
    assert Counter(cell.kind for cell in window.cells) == expected


@pytest.mark.parametrize(
    ("fields", "pause", "left"),
    [
        ({}, PauseState.OPEN, 0.0),
        ({"paused_until": NOW + 7}, PauseState.PAUSED, 7.0),
        ({"paused_until": NOW - 1}, PauseState.OVER, 0.0),
    ],
)
def test_a_pause_and_what_is_left_of_it(fields, pause, left):
    window = window_of(replace(Ledger(), **fields), allow(), allow(), NOW)
    assert (window.pause, window.pause_left) == (pause, left)
    assert window.remaining == (0 if pause is PauseState.PAUSED else 3)
