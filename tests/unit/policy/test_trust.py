import pytest

from campaign_gateway.policy.trust import (
    LAG_FACTOR,
    LAG_MARGIN_SECONDS,
    LAG_MEMORY_SECONDS,
    LAG_SAMPLES,
    LONGEST_STAND_DOWN_SECONDS,
    MOST_LAG_SECONDS,
    STAND_DOWN_SECONDS,
    Lag,
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
