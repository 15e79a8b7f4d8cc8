import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.pacing import (
    APART,
    CROWDED_SCAN_PART,
    EARLY,
    FIRST_SCAN_PART,
    FULL_SCAN_PART,
    FULL_SCAN_SECONDS,
    IDLE_ROTATION_CALLS,
    LONGEST_POLL_INTERVAL_SECONDS,
    NEAR_SECONDS,
    ROTATION_CALLS,
    SCAN_SPREAD_PART,
    SHORTEST_POLL_INTERVAL_SECONDS,
    SHORTEST_ROTATION_SECONDS,
    SLACK,
    SPREAD_SECONDS,
    STRETCH,
    WORTHWHILE,
    Capacity,
    Pace,
    Workload,
    plan_pace,
)
from tests.support.examples import scaled

VOICE, SMS = Channel
CAPACITY = Capacity(calls=60, window=60.0, reserve=5, share=0.5)
EVEN = tuple(float(second) for second in range(1, 56))
"""Places that fall free one a second."""

COUNTS = st.fixed_dictionaries({}, optional={VOICE: st.integers(0, 5000), SMS: st.integers(0, 5000)})
SUPPLIES = st.builds(
    Capacity,
    calls=st.integers(1, 1000),
    window=st.floats(1, 3600),
    reserve=st.integers(0, 50),
    share=st.floats(0.01, 1),
    others=st.floats(0, 2000),
    streams=st.integers(1, 20),
    free=st.integers(-10, 100),
    falls=st.lists(st.floats(0, 60), max_size=80).map(lambda falls: tuple(sorted(falls))),
    is_contended=st.booleans(),
)
RATES = st.fixed_dictionaries({}, optional={VOICE: st.floats(0, 5), SMS: st.floats(0, 5)})
DEMANDS = st.builds(
    Workload,
    used=COUNTS,
    listed=COUNTS,
    moves=RATES,
    rotation_rate=st.floats(0, 2) | st.just(math.inf),
    page_rows=st.integers(1, 100),
    is_scanned=st.booleans(),
)
MANY = settings(max_examples=scaled(150))


def workload(voice: int = 40, sms: int = 0, **fields: Any) -> Workload:
    return Workload({VOICE: voice, SMS: sms}, **fields)


@pytest.mark.parametrize("used", [{}, {VOICE: 0, SMS: 0}, {VOICE: WORTHWHILE - 1}, {VOICE: 1, SMS: WORTHWHILE - 2}])
def test_next_to_nothing_in_use_costs_nothing(used: dict[Channel, int]):
    pace = plan_pace(CAPACITY, Workload(used, listed={VOICE: 5000, SMS: 5000}, moves={VOICE: 1.0}))
    assert pace == Pace({})
    assert (pace.rotation, pace.reads) == (math.inf, 0.0)


def test_from_a_few_campaigns_on_the_list_is_worth_its_calls():
    assert set(plan_pace(CAPACITY, workload(WORTHWHILE)).poll_intervals) == {VOICE}
    assert set(plan_pace(CAPACITY, workload(WORTHWHILE - 1, 1)).poll_intervals) == {VOICE, SMS}


def test_a_channel_that_nobody_uses_is_left_alone():
    assert set(plan_pace(CAPACITY, workload(0, 40, listed={VOICE: 1000, SMS: 40})).poll_intervals) == {SMS}


@pytest.mark.parametrize("share", [0.0, -1.0])
def test_no_share_no_sweep(share: float):
    assert plan_pace(replace(CAPACITY, share=share), workload()) == Pace({})


def test_an_account_without_calls_has_no_pace():
    """As after Redis was lost, before what was granted ahead is known."""
    assert plan_pace(replace(CAPACITY, calls=0), workload()) == Pace({})


@given(SUPPLIES, DEMANDS)
@MANY
def test_all_times_are_positive_and_none_is_too_short(capacity: Capacity, of: Workload):
    pace = plan_pace(capacity, of)
    assert all(SHORTEST_POLL_INTERVAL_SECONDS <= seconds < math.inf for seconds in pace.poll_intervals.values())
    assert pace.rotation >= SHORTEST_ROTATION_SECONDS
    assert pace.full_scan_after >= FULL_SCAN_SECONDS
    assert 0 <= pace.page_after < math.inf
    assert 0 <= pace.reads < math.inf
    assert all(pace.lasts(channel) > seconds * STRETCH for channel, seconds in pace.poll_intervals.items())
    assert pace.blind >= pace.rotation


@given(SUPPLIES, DEMANDS)
@MANY
def test_no_channel_is_left_alone_for_long(capacity: Capacity, of: Workload):
    """The bounds that are stated are those of the slowest: three quiet campaigns do not wait for minutes."""
    poll_intervals = plan_pace(capacity, of).poll_intervals
    assert (
        not poll_intervals
        or max(poll_intervals.values())
        <= APART * min(poll_intervals.values()) * (1 + 1e-9) + SHORTEST_POLL_INTERVAL_SECONDS
    )


def test_a_few_quiet_campaigns_beside_many_busy_ones():
    poll_intervals = plan_pace(CAPACITY, workload(900, 3, moves={VOICE: 0.4})).poll_intervals
    assert poll_intervals[SMS] <= APART * poll_intervals[VOICE] + 0.01
    assert poll_intervals[SMS] < LONGEST_POLL_INTERVAL_SECONDS


@given(SUPPLIES, DEMANDS, st.floats(0, 500))
@MANY
def test_polls_stretch_when_others_spend(capacity: Capacity, of: Workload, more: float):
    before, after = plan_pace(capacity, of), plan_pace(replace(capacity, others=capacity.others + more), of)
    assert set(before.poll_intervals) == set(after.poll_intervals)
    for channel, seconds in before.poll_intervals.items():
        assert after.poll_intervals[channel] >= seconds * (1 - 1e-9)


@pytest.mark.parametrize("others", [0.0, 30.0, 55.0, 10_000.0])
@pytest.mark.parametrize("moves", [0.0, 1.0, 5.0])
def test_there_is_a_poll_in_so_many_seconds_whatever_else_wants_calls(others: float, moves: float):
    pace = plan_pace(replace(CAPACITY, others=others), workload(400, 100, moves={VOICE: moves}))
    assert all(seconds <= LONGEST_POLL_INTERVAL_SECONDS * APART for seconds in pace.poll_intervals.values())
    assert pace.calls_a_second <= 0.5 + 1e-9


def test_a_small_budget_is_not_spent_on_that():
    pace = plan_pace(Capacity(calls=4, window=60.0, reserve=0, share=0.5, others=4.0), workload(400, 100))
    assert pace.calls_a_second <= 0.25 * 4 / 60


def test_streams_share_an_account():
    alone, shared = plan_pace(CAPACITY, workload(400)), plan_pace(replace(CAPACITY, streams=4), workload(400))
    assert shared.calls_a_second < alone.calls_a_second / 2
    assert shared.rotation > 3 * alone.rotation


def test_calls_go_where_changes_are():
    # Twice the changes: more polls, by the root of it (the square-root rule).
    capacity = replace(CAPACITY, share=0.1)
    even = plan_pace(capacity, workload(40, 40, moves={VOICE: 0.01, SMS: 0.01}))
    assert even.poll_intervals[VOICE] == pytest.approx(even.poll_intervals[SMS])
    uneven = plan_pace(capacity, workload(40, 40, moves={VOICE: 0.02, SMS: 0.01}))
    assert uneven.poll_intervals[SMS] / uneven.poll_intervals[VOICE] == pytest.approx(math.sqrt(2), rel=0.05)


def test_changes_in_use_want_reads():
    assert plan_pace(CAPACITY, workload(40, moves={VOICE: 0.02, SMS: 9.0})).reads == 0.02


# The next poll.


def plan(moves: float = 0.5, **fields: Any) -> tuple[Pace, Capacity]:
    capacity = replace(CAPACITY, **{"free": 0, "falls": EVEN, **fields})
    return plan_pace(capacity, workload(300, 200, moves={VOICE: moves})), capacity


def test_a_poll_comes_as_planned_where_calls_fall_free_evenly():
    pace, capacity = plan(moves=0.3, free=12)
    assert pace.distance(VOICE, capacity, waiting=0) == pytest.approx(pace.poll_intervals[VOICE], rel=0.15)


@pytest.mark.parametrize("waiting", [5, 50])
def test_reads_that_wait_put_a_poll_off(waiting: int):
    pace, capacity = plan()
    assert pace.distance(VOICE, capacity, waiting) > pace.distance(VOICE, capacity, 0) * 0.99
    assert pace.distance(VOICE, capacity, waiting) <= STRETCH * pace.poll_intervals[VOICE]


def test_a_burst_that_is_to_come_back_puts_a_poll_off():
    # As many calls are free in a window; but none of them for half a minute.
    late = tuple(sorted(30.0 + second / 2 for second in range(55)))
    pace, capacity = plan(moves=0.3, free=3)
    assert pace.distance(VOICE, replace(capacity, falls=late), 0) > 1.2 * pace.distance(
        VOICE, replace(capacity, free=12), 0
    )


def test_calls_left_over_bring_a_poll_sooner():
    pace, capacity = plan(moves=0.1, free=55, falls=())
    assert pace.distance(VOICE, capacity, 0) < pace.poll_intervals[VOICE] * 1.01


@given(SUPPLIES, DEMANDS, st.integers(0, 100))
@MANY
def test_the_distance_keeps_within_what_validations_allow_for(capacity: Capacity, of: Workload, waiting: int):
    pace = plan_pace(capacity, of)
    for channel, planned in pace.poll_intervals.items():
        assert EARLY * planned <= pace.distance(channel, capacity, waiting) <= STRETCH * planned
        assert pace.spare(capacity) <= max(0, capacity.free) + len(capacity.falls)


# Full scans and the rotation.


@pytest.mark.parametrize(("campaigns", "after"), [(0, 600.0), (1_000, 600.0), (10_000, 100 / (FULL_SCAN_PART * 1.0))])
def test_full_scans_are_as_often_as_their_part_pays_for(campaigns: int, after: float):
    assert plan_pace(CAPACITY, workload(40, listed={VOICE: campaigns})).full_scan_after == pytest.approx(after)


def test_smaller_pages_make_full_scans_dearer():
    of = workload(40, listed={VOICE: 10_000})
    assert plan_pace(CAPACITY, replace(of, page_rows=10)).full_scan_after > plan_pace(CAPACITY, of).full_scan_after


@pytest.mark.parametrize("campaigns", [1_000, 4_500, 10_000])
def test_a_full_scan_is_strolled(campaigns: int):
    of = workload(400, 100, listed={VOICE: campaigns}, page_rows=50)
    pages = math.ceil(campaigns / 50) + 1
    pace = plan_pace(CAPACITY, of)
    assert pace.page_after * pages == pytest.approx(SCAN_SPREAD_PART * pace.full_scan_after)
    first = plan_pace(CAPACITY, replace(of, is_scanned=False))
    assert 1 / first.page_after == pytest.approx(FIRST_SCAN_PART * 55 / 60)
    for each in (of, replace(of, is_scanned=False)):
        crowded = plan_pace(replace(CAPACITY, is_contended=True), each)
        assert 1 / crowded.page_after == pytest.approx(CROWDED_SCAN_PART)


@pytest.mark.parametrize("moves", [0.0, 0.3, 2.0])
def test_the_rotation_has_a_floor_and_uses_what_is_left(moves: float):
    pace = plan_pace(CAPACITY, workload(1000, moves={VOICE: moves}))
    calls = 1000 / pace.rotation
    assert ROTATION_CALLS * 0.999 <= calls <= IDLE_ROTATION_CALLS * 1.001
    if moves == 0:
        assert calls == pytest.approx(IDLE_ROTATION_CALLS)
    if moves == 2.0:
        assert calls == pytest.approx(ROTATION_CALLS)


def test_turns_that_reads_of_changes_make_needless_are_left_to_polls():
    of = workload(400, moves={VOICE: 0.5})
    assert (
        plan_pace(CAPACITY, replace(of, rotation_rate=0.0)).poll_intervals[VOICE]
        < plan_pace(CAPACITY, of).poll_intervals[VOICE]
    )


def test_how_long_a_validation_has_to_be_good():
    pace = Pace({VOICE: 4.0, SMS: 10.0}, rotation=100.0)
    assert (pace.lasts(VOICE), pace.lasts(SMS)) == (4.0 * SLACK + SPREAD_SECONDS, 10.0 * SLACK + SPREAD_SECONDS)
    assert pace.blind == 100.0 * SLACK
    assert Pace({}).blind == math.inf
    assert NEAR_SECONDS > SHORTEST_POLL_INTERVAL_SECONDS
