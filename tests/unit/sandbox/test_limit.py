import random

from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.limit import SlidingWindow


def test_the_window_slides_and_is_half_open():
    limit = SlidingWindow(2, 60)
    assert limit.arrive(0).within
    assert limit.arrive(30).within
    assert not limit.arrive(59.9).within
    assert limit.arrive(60).within
    assert not limit.arrive(89.9).within
    assert limit.arrive(90).within


def test_a_refusal_says_when_the_next_call_fits():
    limit = SlidingWindow(1, 60)
    limit.arrive(0)
    assert limit.arrive(22.5).retry_after_seconds == 38
    assert limit.arrive(59.99).retry_after_seconds == 1


def test_knocking_does_not_extend_the_lock_out():
    limit = SlidingWindow(1, 10)
    limit.arrive(0)
    assert [limit.arrive(at).within for at in range(1, 11)] == [False] * 9 + [True]


def test_knocking_extends_the_lock_out_where_refused_calls_count():
    limit = SlidingWindow(1, 10, count_refused=True)
    limit.arrive(0)
    assert not any(limit.arrive(at).within for at in range(1, 100, 5))
    assert limit.arrive(200).within


def test_a_limit_lowered_while_running_waits_for_all_that_are_too_many():
    limit = SlidingWindow(3, 10)
    for at in (0, 1, 2):
        limit.arrive(at)
    limit.calls = 1
    assert limit.arrive(5).retry_after_seconds == 7
    assert not limit.arrive(11.9).within
    assert limit.arrive(12).within


def test_a_limit_of_nothing_admits_nothing():
    verdict = SlidingWindow(0, 60).arrive(5)
    assert not verdict.within
    assert verdict.retry_after_seconds == 60


def test_what_is_admitted_never_exceeds_the_limit_in_any_window():
    rng, limit = random.Random(3), SlidingWindow(7, 5)
    moments = sorted(rng.uniform(0, 200) for _ in range(1_000))
    admitted = [at for at in moments if limit.arrive(at).within]
    assert most_in_window(admitted, 5) == 7
