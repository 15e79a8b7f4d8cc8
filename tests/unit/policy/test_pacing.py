import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.listing import Channel
from service.policy.pacing import (
    FULL,
    KNOWING_PART,
    SHORTEST_ROTATION_SECONDS,
    SHORTEST_ROUND_SECONDS,
    SLACK,
    SPREAD_SECONDS,
    WALK_PART,
    WALK_SECONDS,
    WORTHWHILE,
    Demand,
    Pace,
    Supply,
    plan_pace,
)

VOICE, SMS = Channel
SUPPLY = Supply(calls=60, window=60.0, reserve=5, share=0.5)

COUNTS = st.fixed_dictionaries({}, optional={VOICE: st.integers(0, 5000), SMS: st.integers(0, 5000)})
SUPPLIES = st.builds(
    Supply,
    calls=st.integers(1, 1000),
    window=st.floats(1, 3600),
    reserve=st.integers(0, 50),
    share=st.floats(0.01, 1),
    others=st.floats(0, 2000),
    streams=st.integers(1, 20),
)
RATES = st.fixed_dictionaries({}, optional={VOICE: st.floats(0, 5), SMS: st.floats(0, 5)})
DEMANDS = st.builds(
    Demand, used=COUNTS, listed=COUNTS, moves=RATES, silent=st.floats(1e-6, 1), page_rows=st.integers(1, 100)
)
MANY = settings(max_examples=150, deadline=None)


def demand(voice: int = 40, sms: int = 0, **fields: Any) -> Demand:
    return Demand({VOICE: voice, SMS: sms}, **fields)


def spent(pace: Pace, of: Demand) -> float:
    """Calls a second that the pace asks for, but for reads that changes ask for."""
    if not pace.rounds:
        return 0.0
    pages = sum(math.ceil(of.listed.get(channel, 0) / of.page_rows) for channel in pace.rounds)
    total = sum(count for channel, count in of.used.items() if channel in pace.rounds)
    return sum(1 / seconds for seconds in pace.rounds.values()) + total / pace.rotation + pages / pace.walk_after


def available(supply: Supply) -> float:
    """The most that rounds and rotation may take, in calls a second: one call a window at least."""
    left = supply.calls - supply.reserve - supply.others
    calls = max(1.0, min(supply.share * supply.calls, FULL * left), supply.share * left * KNOWING_PART)
    return calls / supply.window / supply.streams


@pytest.mark.parametrize("used", [{}, {VOICE: 0, SMS: 0}, {VOICE: WORTHWHILE - 1}, {VOICE: 1, SMS: WORTHWHILE - 2}])
def test_next_to_nothing_in_use_costs_nothing(used: dict[Channel, int]):
    pace = plan_pace(SUPPLY, Demand(used, listed={VOICE: 5000, SMS: 5000}, moves={VOICE: 1.0}))
    assert pace == Pace({})
    assert (pace.rotation, pace.reads) == (math.inf, 0.0)


def test_from_a_few_campaigns_on_the_list_is_worth_its_calls():
    assert set(plan_pace(SUPPLY, demand(WORTHWHILE)).rounds) == {VOICE}
    assert set(plan_pace(SUPPLY, demand(WORTHWHILE - 1, 1)).rounds) == {VOICE, SMS}


def test_a_channel_that_nobody_uses_is_left_alone():
    assert set(plan_pace(SUPPLY, demand(0, 40, listed={VOICE: 1000, SMS: 40})).rounds) == {SMS}


@pytest.mark.parametrize("share", [0.0, -1.0])
def test_no_share_no_sweep(share: float):
    assert plan_pace(replace(SUPPLY, share=share), demand()) == Pace({})


@given(SUPPLIES, DEMANDS)
@MANY
def test_no_more_is_spent_than_there_is(supply: Supply, of: Demand):
    assert spent(plan_pace(supply, of), of) <= available(supply) * (1 + 1e-9)


@given(SUPPLIES, DEMANDS)
@MANY
def test_all_that_there_is_is_spent_where_nothing_is_as_short_as_it_gets(supply: Supply, of: Demand):
    # Without moves a round costs one page nearly always, and no call is kept for reads that they ask for.
    of = replace(of, moves={}, page_rows=100)
    pace = plan_pace(supply, of)
    if pace.rounds and min(pace.rounds.values()) > SHORTEST_ROUND_SECONDS and pace.rotation > SHORTEST_ROTATION_SECONDS:
        assert spent(pace, of) == pytest.approx(available(supply), rel=0.01)


@given(SUPPLIES, DEMANDS)
@MANY
def test_all_times_are_positive_and_none_is_too_short(supply: Supply, of: Demand):
    pace = plan_pace(supply, of)
    assert all(seconds >= SHORTEST_ROUND_SECONDS for seconds in pace.rounds.values())
    assert pace.rotation >= SHORTEST_ROTATION_SECONDS
    assert pace.walk_after >= WALK_SECONDS
    assert 0 <= pace.reads < math.inf
    assert pace.lasts > max(pace.rounds.values(), default=0.0)
    assert pace.blind >= pace.rotation


@given(SUPPLIES, DEMANDS, st.floats(0, 500))
@MANY
def test_rounds_stretch_when_others_spend(supply: Supply, of: Demand, more: float):
    before, after = plan_pace(supply, of), plan_pace(replace(supply, others=supply.others + more), of)
    assert set(before.rounds) == set(after.rounds)
    for channel, seconds in before.rounds.items():
        assert after.rounds[channel] >= seconds * (1 - 1e-9)
    assert after.walk_after >= before.walk_after * (1 - 1e-9)


@given(SUPPLIES, DEMANDS, st.floats(0, 50))
@MANY
def test_however_many_changes_want_reads_rounds_go_on(supply: Supply, of: Demand, more: float):
    busy = replace(of, moves={channel: of.moves.get(channel, 0.0) + more for channel in of.used})
    pace = plan_pace(supply, busy)
    assert set(pace.rounds) == set(plan_pace(supply, of).rounds)
    assert all(0 < seconds < math.inf for seconds in pace.rounds.values())
    assert pace.rotation > 0


def test_rounds_and_rotation_keep_their_part_of_what_others_leave():
    swamped = demand(40, moves={VOICE: 1000.0})
    free, busy = plan_pace(SUPPLY, demand(40)), plan_pace(SUPPLY, swamped)
    assert busy.rounds[VOICE] > free.rounds[VOICE]
    assert busy.rotation < 40 * SUPPLY.window / (SUPPLY.share * 55 * KNOWING_PART) * 40


def test_one_call_a_window_is_left_when_callers_want_all():
    pace = plan_pace(replace(SUPPLY, others=10_000.0), demand(40))
    assert spent(pace, demand(40)) == pytest.approx(1 / 60, rel=1e-3)


def test_streams_share_an_account():
    alone, shared = plan_pace(SUPPLY, demand(400)), plan_pace(replace(SUPPLY, streams=4), demand(400))
    assert shared.rotation > 3 * alone.rotation


def test_calls_go_where_changes_are():
    # Four times the changes: twice the rounds (the square-root rule).
    supply = replace(SUPPLY, share=0.1)
    even = plan_pace(supply, demand(40, 40, moves={VOICE: 0.01, SMS: 0.01}))
    assert even.rounds[VOICE] == pytest.approx(even.rounds[SMS])
    uneven = plan_pace(supply, demand(40, 40, moves={VOICE: 0.04, SMS: 0.01}))
    assert uneven.rounds[SMS] / uneven.rounds[VOICE] == pytest.approx(2.0, rel=0.05)


def test_more_silent_changes_quicken_the_rotation():
    supply = replace(SUPPLY, share=0.1)
    loud, silent = (plan_pace(supply, demand(200, silent=part)) for part in (0.001, 0.5))
    assert silent.rotation < loud.rotation
    assert silent.rounds[VOICE] > loud.rounds[VOICE]


def test_changes_in_use_want_reads():
    assert plan_pace(SUPPLY, demand(40, moves={VOICE: 0.02, SMS: 9.0})).reads == 0.02


@pytest.mark.parametrize(
    ("campaigns", "walk_after"),
    [(0, WALK_SECONDS), (100, WALK_SECONDS), (1400, WALK_SECONDS), (100_000, 1000 / (WALK_PART * 0.5))],
)
def test_full_rounds_are_as_often_as_their_part_pays_for(campaigns: int, walk_after: float):
    assert plan_pace(SUPPLY, demand(40, listed={VOICE: campaigns})).walk_after == pytest.approx(walk_after)


def test_smaller_pages_make_full_rounds_dearer():
    of = demand(40, listed={VOICE: 10_000})
    assert plan_pace(SUPPLY, replace(of, page_rows=10)).walk_after > plan_pace(SUPPLY, of).walk_after


def test_how_long_a_proof_has_to_be_good():
    pace = Pace({VOICE: 4.0, SMS: 10.0}, rotation=100.0)
    assert pace.lasts == 10.0 * SLACK + SPREAD_SECONDS
    assert pace.blind == 100.0 * SLACK
    assert (Pace({}).lasts, Pace({}).blind) == (SPREAD_SECONDS, math.inf)
