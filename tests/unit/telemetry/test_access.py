import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.telemetry.access import LEAST_SPACING, AccessLines, HitSample


def lines_of_second(sample: HitSample, hits: int, start: float) -> list[int]:
    """What each line of so many hits, evenly in one second, stands for."""
    counts = [sample.stands_for(start + number / (hits + 1)) for number in range(hits)]
    return [count for count in counts if count]


def test_up_to_the_limit_each_hit_has_its_line():
    sample = HitSample(100)
    for second in range(3):
        assert lines_of_second(sample, 100, 10 + second) == [1] * 100


def test_beyond_it_one_in_n_has_a_line_that_says_so():
    lines = lines_of_second(HitSample(100), 100 + 3 * LEAST_SPACING, 10.0)
    assert lines == [1] * 100 + [LEAST_SPACING] * 3


@pytest.mark.parametrize("hits", [1_000, 10_000, 40_000])
def test_however_many_hits_there_are_the_lines_are_about_twice_the_limit_at_most(hits):
    sample = HitSample(50)
    lines_of_second(sample, hits, 10.0)
    assert 50 <= len(lines_of_second(sample, hits, 11.0)) <= 101 + hits // 1_000


def test_a_clock_that_goes_back_begins_a_new_second():
    sample = HitSample(1)
    assert [sample.stands_for(now) for now in (100.0, 100.5, 3.0, 3.5)] == [1, 0, 2, 0]


@given(st.lists(st.floats(0, 5), max_size=200), st.integers(1, 20))
def test_each_hit_is_in_the_sum_once_when_the_next_line_is_written(moments, per_second):
    sample = HitSample(per_second)
    counts = [sample.stands_for(moment) for moment in sorted(moments)]
    last = sample.stands_for(1e9)
    assert sum(counts) + last == len(moments) + 1


@pytest.mark.parametrize(
    ("access", "hit", "slow_hit", "ok", "slow", "missing", "failed"),
    [
        ("all", 1, 1, True, True, True, True),
        ("sampled", 1, 1, True, True, True, True),
        ("slow", 0, 1, False, True, True, True),
        ("errors", 0, 0, False, False, True, True),
        ("off", 0, 0, False, False, False, False),
    ],
)
def test_each_setting_wants_its_lines(access, hit, slow_hit, ok, slow, missing, failed):
    lines = AccessLines(access, hits_per_second=10, slow=0.5)
    assert (lines.hit(10.0, 0.001), lines.hit(10.0, 0.5)) == (hit, slow_hit)
    assert [lines.other(200, 0.1), lines.other(200, 0.5), lines.other(404, 0.1), lines.other(503, 0.1)] == [
        ok,
        slow,
        missing,
        failed,
    ]


def test_what_is_no_hit_has_its_line_however_many_there_are():
    lines = AccessLines("sampled", hits_per_second=1)
    assert all(lines.other(status, 0.1) for status in (200, 304, 404, 503) for _ in range(100))
