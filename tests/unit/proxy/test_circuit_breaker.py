"""One refusal neither locks for ever nor are repeats paid from the budget."""

import pytest

from campaign_gateway.proxy.circuit_breaker import WAITS, CircuitBreaker


def refused(times: int, version: int = 1, now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(times):
        breaker.note_refusal("main", version, now)
    return breaker


@pytest.mark.parametrize(
    ("times", "wait"),
    [
        pytest.param(0, 0.0, id="never-refused"),
        pytest.param(1, 0.0, id="one-refusal-locks-nothing"),
        pytest.param(2, WAITS.first, id="a-repeat-opens-it"),
        pytest.param(3, 2 * WAITS.first, id="and-doubles"),
        pytest.param(50, WAITS.most, id="up-to-a-bound"),
    ],
)
def test_the_wait_grows_with_repeats(times: int, wait: float) -> None:
    assert refused(times).retry_in("main", 1, 0.0) == wait
    assert refused(times).open_count(0.0) == (1 if wait else 0)


def test_after_the_wait_one_call_may_find_out() -> None:
    assert refused(2).retry_in("main", 1, WAITS.first) == 0.0


def test_another_version_of_the_secret_closes_it() -> None:
    breaker = refused(5)
    assert breaker.retry_in("main", 2, 0.0) == 0.0
    breaker.note_refusal("main", 2, 0.0)
    assert breaker.retry_in("main", 2, 0.0) == 0.0, "the new secret starts anew"


def test_a_success_closes_it() -> None:
    breaker = refused(5)
    breaker.note_success("main")
    assert breaker.retry_in("main", 1, 0.0) == 0.0


def test_credentials_do_not_answer_for_each_other() -> None:
    assert refused(5).retry_in("other", 1, 0.0) == 0.0
