import pytest

from campaign_gateway.policy.sweeping import ListFlaw
from campaign_gateway.policy.trust import (
    LAG_FACTOR,
    LAG_MARGIN_SECONDS,
    LAG_MEMORY_SECONDS,
    LAG_SAMPLES,
    LONGEST_STAND_DOWN_SECONDS,
    MOST_LAG_SECONDS,
    STAND_DOWN_SECONDS,
    Lag,
    ListEvent,
    ListState,
    Trust,
)

NOW = 1000.0


def test_a_list_is_left_alone_for_longer_each_time():
    trust, waits = Trust(), []
    for _ in range(8):
        trust = trust.lost(NOW)
        waits.append(trust.quiet_until - NOW)
    assert waits[:3] == [STAND_DOWN_SECONDS, 2 * STAND_DOWN_SECONDS, 4 * STAND_DOWN_SECONDS]
    assert waits[-1] == LONGEST_STAND_DOWN_SECONDS


def test_what_was_long_ago_is_forgotten():
    trust = Trust().lost(NOW).lost(NOW)
    assert trust.held(NOW + LONGEST_STAND_DOWN_SECONDS) is trust
    assert trust.held(NOW + LONGEST_STAND_DOWN_SECONDS + 1) == Trust()


def measured(*lags: float, at: float = NOW) -> Lag:
    lag = Lag()
    for each in lags:
        lag = lag.seen(each, at)
    return lag


@pytest.mark.parametrize(
    ("lags", "allowed"),
    [
        pytest.param([], MOST_LAG_SECONDS, id="none-measured"),
        pytest.param([0.0] * (LAG_SAMPLES - 1), MOST_LAG_SECONDS, id="too-few-to-tell"),
        pytest.param([0.0] * LAG_SAMPLES, LAG_MARGIN_SECONDS, id="it-does-not-lag"),
        pytest.param(
            [2.0, *[0.0] * LAG_SAMPLES], LAG_FACTOR * 2.0 + LAG_MARGIN_SECONDS, id="more-than-was-seen-is-allowed-for"
        ),
        pytest.param([9.0, *[0.0] * LAG_SAMPLES], MOST_LAG_SECONDS, id="no-more-than-so-much"),
    ],
)
def test_a_lag_is_believed_once_enough_rows_have_told(lags: list[float], allowed: float):
    assert measured(*lags).allowed(NOW) == pytest.approx(allowed)


def test_a_lag_of_long_ago_gives_way_to_what_is_seen_now():
    lag = measured(*[4.0] * LAG_SAMPLES)
    later = NOW + LAG_MEMORY_SECONDS + 1
    assert lag.seen(1.0, later).allowed(later) == pytest.approx(LAG_FACTOR + LAG_MARGIN_SECONDS)
    assert lag.seen(1.0, NOW + 1).allowed(NOW + 1) == pytest.approx(LAG_FACTOR * 4.0 + LAG_MARGIN_SECONDS)
    assert lag.seen(5.0, NOW + 1).allowed(NOW + 1) == pytest.approx(LAG_FACTOR * 5.0 + LAG_MARGIN_SECONDS)


# States.

TRUSTED, STARVED, DISTRUSTED, UNSOUND = ListState
POLLED, POLL_FLAWED, POLLS_STARVED, SCANNED, SCAN_FLAWED = ListEvent
FOUND = {POLL_FLAWED: ListFlaw.TOO_LATE, SCAN_FLAWED: ListFlaw.TOO_LONG}
BEFORE = {
    TRUSTED: (Trust(), None),
    STARVED: (Trust(), ListFlaw.STARVED),
    DISTRUSTED: (Trust(), ListFlaw.DISAGREES),
    UNSOUND: (Trust(unsound=ListFlaw.UNSORTED), ListFlaw.UNSORTED),
}


@pytest.mark.parametrize(
    ("state", "event", "after", "flaw"),
    [
        (TRUSTED, POLLED, TRUSTED, None),
        (TRUSTED, POLL_FLAWED, DISTRUSTED, ListFlaw.TOO_LATE),
        (TRUSTED, POLLS_STARVED, STARVED, ListFlaw.STARVED),
        (TRUSTED, SCANNED, TRUSTED, None),
        (TRUSTED, SCAN_FLAWED, UNSOUND, ListFlaw.TOO_LONG),
        (STARVED, POLLED, TRUSTED, None),
        (STARVED, POLL_FLAWED, DISTRUSTED, ListFlaw.TOO_LATE),
        (STARVED, POLLS_STARVED, STARVED, ListFlaw.STARVED),
        (STARVED, SCANNED, STARVED, ListFlaw.STARVED),
        (STARVED, SCAN_FLAWED, UNSOUND, ListFlaw.TOO_LONG),
        (DISTRUSTED, POLLED, TRUSTED, None),
        (DISTRUSTED, POLL_FLAWED, DISTRUSTED, ListFlaw.TOO_LATE),
        (DISTRUSTED, POLLS_STARVED, DISTRUSTED, ListFlaw.DISAGREES),
        (DISTRUSTED, SCANNED, DISTRUSTED, ListFlaw.DISAGREES),
        (DISTRUSTED, SCAN_FLAWED, UNSOUND, ListFlaw.TOO_LONG),
        (UNSOUND, POLLED, UNSOUND, ListFlaw.UNSORTED),
        (UNSOUND, POLL_FLAWED, UNSOUND, ListFlaw.TOO_LATE),
        (UNSOUND, POLLS_STARVED, UNSOUND, ListFlaw.UNSORTED),
        (UNSOUND, SCANNED, TRUSTED, None),
        (UNSOUND, SCAN_FLAWED, UNSOUND, ListFlaw.TOO_LONG),
    ],
)
def test_what_becomes_of_the_trust(state: ListState, event: ListEvent, after: ListState, flaw: ListFlaw | None):
    trust, published = BEFORE[state]
    assert trust.state(published) is state
    trust, published = trust.after(event, published, NOW, FOUND.get(event))
    assert (trust.state(published), published) == (after, flaw)
    assert (trust.quiet_until > NOW) is (event in FOUND), "left alone after a flaw, and only then"


def test_a_flaw_that_a_poll_found_does_not_hide_that_the_list_is_unsound():
    trust, published = BEFORE[UNSOUND]
    trust, published = trust.after(POLL_FLAWED, published, NOW, ListFlaw.TOO_LATE)
    trust, published = trust.after(POLLED, published, NOW + 2 * LONGEST_STAND_DOWN_SECONDS)
    assert (published, trust.quiet_until) == (ListFlaw.UNSORTED, 0.0)
