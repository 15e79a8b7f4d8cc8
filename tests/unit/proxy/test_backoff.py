import pytest

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy import backoff
from campaign_gateway.proxy.backoff import Backoffs

DOWN = Failure(Problem.UPSTREAM_UNAVAILABLE, "no connection")


def test_a_key_that_never_failed_may_be_tried():
    assert Backoffs().current("a", 0.0) is None


def test_one_failure_leaves_only_its_own_key_alone_for_a_second():
    failures = Backoffs()
    failures.failed("a", DOWN, 100.0)
    assert failures.current("a", 100.0) is DOWN
    assert failures.current("a", 100.999) is DOWN
    assert failures.current("a", 101.0) is None
    assert failures.current("b", 100.0) is None


def test_a_failure_from_before_a_moment_is_out_of_date_after_it():
    failures = Backoffs()
    failures.failed("a", DOWN, 100.0)
    assert failures.current("a", 100.5, since=100.0) is DOWN
    assert failures.current("a", 100.5, since=100.25) is None
    failures.failed("a", DOWN, 100.5)
    assert failures.current("a", 100.5, since=100.25) is DOWN


def test_each_further_failure_in_a_row_doubles_the_wait_up_to_the_longest():
    failures, now, lengths = Backoffs(), 0.0, []
    for _ in range(8):
        failures.failed("a", DOWN, now)
        until = next(second for second in range(1, 1000) if failures.current("a", now + second) is None)
        lengths.append(until)
        now += until
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_success_begins_the_doubling_anew():
    failures = Backoffs()
    for _ in range(4):
        failures.failed("a", DOWN, 0.0)
    failures.succeeded("a")
    assert failures.current("a", 0.0) is None
    failures.failed("a", DOWN, 50.0)
    assert failures.current("a", 51.0) is None


def test_the_success_of_a_key_that_never_failed_is_no_matter():
    failures = Backoffs()
    failures.succeeded("a")
    assert failures.current("a", 0.0) is None


@pytest.mark.parametrize(
    ("told", "waited"),
    [
        pytest.param(20.0, 20.0, id="longer-than-ours-is-honoured"),
        pytest.param(0.2, 1.0, id="shorter-than-ours-is-not"),
        pytest.param(None, 1.0, id="nothing-told"),
    ],
)
def test_the_wait_that_the_platform_told_is_kept(told, waited):
    failures = Backoffs()
    failures.failed("a", Failure(Problem.UPSTREAM_PAUSED, "pause", retry_after=told, upstream_status=429), 0.0)
    assert failures.current("a", waited - 0.01) is not None
    assert failures.current("a", waited) is None


def test_the_newest_failure_is_the_one_told():
    failures, other = Backoffs(), Failure(Problem.UPSTREAM_TIMEOUT, "slow")
    failures.failed("a", DOWN, 0.0)
    failures.failed("a", other, 0.0)
    assert failures.current("a", 0.0) is other


def test_the_number_of_keys_is_bounded_and_the_longest_known_go_first(monkeypatch):
    monkeypatch.setattr(backoff, "MAX_KEYS", 3)
    failures = Backoffs()
    for key in ("a", "b", "c", "a", "d"):
        failures.failed(key, DOWN, 0.0)
    assert [key for key in "abcd" if failures.current(key, 0.5)] == ["a", "c", "d"]
