import pytest

from campaign_gateway.policy.capacity import capacity, pause
from campaign_gateway.policy.ledger import LONGEST_PAUSE_SECONDS, Lane, Ledger, Slot, WaitReason
from campaign_gateway.policy.reports import absorb
from campaign_gateway.policy.schedule import PROBE_SECONDS, grant
from tests.support.budgets import (
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

# Pauses.


@pytest.mark.parametrize(
    ("slots", "seconds", "length"),
    [
        pytest.param((), 30.0, 30.0, id="told"),
        pytest.param((), 0.0, 0.0, id="told-nothing-to-wait"),
        pytest.param((), 999_999.0, LONGEST_PAUSE_SECONDS, id="told-a-mistake"),
        pytest.param((), None, WINDOW, id="guessed-without-a-call-of-ours-a-window"),
        pytest.param(held(9, 6, 20), None, 6.0, id="guessed-until-our-oldest-call-has-left"),
        pytest.param(held(1), None, WINDOW / 4, id="guessed-no-less-than-a-quarter"),
        pytest.param(held(20), None, WINDOW, id="guessed-no-more-than-a-window"),
    ],
)
def test_how_long_a_pause_lasts(slots: tuple[Slot, ...], seconds: float | None, length: float):
    paused = pause(Ledger(slots=slots), allow(), seconds, NOW)
    assert paused.paused_until == NOW + length
    if length:
        assert told(paused, allow(30), requests(WRITES)) == [(length, WaitReason.PAUSED.value)]


@pytest.mark.parametrize(
    ("second", "until"),
    [
        pytest.param(5.0, 30.0, id="a-shorter-one-changes-nothing"),
        pytest.param(60.0, 70.0, id="a-longer-one-moves-it"),
        pytest.param(None, 30.0, id="a-guess-changes-nothing-either"),
    ],
)
def test_a_pause_only_moves_forward(second: float | None, until: float):
    paused = pause(Ledger(), allow(), 30.0, NOW)
    assert pause(paused, allow(), second, NOW + 10).paused_until == NOW + until


def test_a_pause_refuses_all_lanes_whatever_is_free():
    paused = pause(Ledger(), allow(8), 30.0, NOW)
    assert told(paused, allow(8), requests(*Lane), NOW + 10) == [(20.0, "paused")] * 4


@pytest.mark.parametrize(
    ("slots", "learned"),
    [
        pytest.param(held(5, 7, 9), 2, id="what-was-accepted-of-ours"),
        pytest.param(held(0, 7, 9), 1, id="without-what-has-left-the-window"),
        pytest.param(held(5), 1, id="never-less-than-one"),
        pytest.param((), 1, id="nor-without-any-call"),
        pytest.param(held(*range(1, 8)), 3, id="never-more-than-the-budget"),
    ],
)
def test_a_lower_budget_is_learned(slots: tuple[Slot, ...], learned: int):
    paused = pause(Ledger(slots=slots), allow(), 30.0, NOW)
    assert capacity(paused, allow(), NOW + 30) == learned


@pytest.mark.parametrize(
    ("calls", "windows", "most"),
    [
        pytest.param(30, 0.0, 10, id="as-learned"),
        pytest.param(30, 0.9, 10, id="for-a-window"),
        pytest.param(30, 1.0, 11, id="then-one-more"),
        pytest.param(30, 2.0, 13, id="then-two"),
        pytest.param(30, 3.0, 17, id="then-four"),
        pytest.param(30, 5000.0, 30, id="up-to-the-budget"),
    ],
)
def test_a_learned_budget_grows_back(calls: int, windows: float, most: int):
    ledger = Ledger(learned=10, learned_at=NOW)
    assert capacity(ledger, allow(calls), NOW + windows * WINDOW) == most


def half_open() -> tuple[Ledger, Slot]:
    """A ledger whose pause has run out, and the probe."""
    paused = pause(Ledger(), allow(), 30.0, NOW)
    ledger, [slot] = grant(paused, allow(), requests(INTERACTIVE), NOW + 30)
    assert isinstance(slot, Slot)
    return ledger, slot


def test_after_a_pause_one_call_finds_out_and_the_others_look_again():
    paused = pause(Ledger(slots=held(5, 6, 7)), allow(), 30.0, NOW)
    assert (
        told(paused, allow(), requests(WRITES, INTERACTIVE, VALIDATION), NOW + 30)
        == [True] + [(PROBE_SECONDS, "paused")] * 2
    )


def test_while_it_is_under_way_nobody_else_goes():
    ledger, _ = half_open()
    assert told(ledger, allow(), requests(*Lane), NOW + 32) == [(PROBE_SECONDS, "paused")] * 4


def test_a_probe_that_succeeds_ends_the_pause():
    ledger, probe = half_open()
    ledger = absorb(ledger, report("a", probe, succeeded=frozenset({probe.id})), allow(6), NOW + 31)
    assert ledger.paused_until == 0.0
    assert told(ledger, allow(6), requests(WRITES, WRITES), NOW + 31) == [True, True]


def test_another_call_that_succeeds_does_not():
    ledger, _ = half_open()
    ledger = absorb(ledger, report("a", succeeded=frozenset({"before"})), allow(), NOW + 31)
    assert told(ledger, allow(), requests(WRITES), NOW + 31) == [(PROBE_SECONDS, "paused")]


def test_a_probe_that_never_left_passes_the_task_on():
    ledger, probe = half_open()
    ledger = absorb(ledger, report("a", voided=frozenset({probe.id})), allow(), NOW + 31)
    assert told(ledger, allow(), requests(WRITES, WRITES), NOW + 31) == [True, (PROBE_SECONDS, "paused")]


def test_a_probe_that_nobody_reports_on_passes_the_task_on_when_its_slot_falls_free():
    ledger, _ = half_open()
    assert told(ledger, allow(), requests(WRITES), NOW + 30 + MOST - 0.25) == [(PROBE_SECONDS, "paused")]
    assert told(ledger, allow(), requests(WRITES, WRITES), NOW + 30 + MOST) == [True, (PROBE_SECONDS, "paused")]


def test_a_probe_that_is_refused_pauses_again():
    ledger, probe = half_open()
    ledger = pause(ledger, allow(), 20.0, NOW + 31)
    ledger = absorb(ledger, report("a", probe, succeeded=frozenset({probe.id})), allow(), NOW + 32)
    assert told(ledger, allow(), requests(WRITES), NOW + 32) == [(19.0, "paused")]
