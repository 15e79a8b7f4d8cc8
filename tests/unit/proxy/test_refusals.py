"""One refusal neither locks for ever nor are repeats paid from the budget."""

import pytest

from campaign_gateway.proxy.refusals import FIRST_SECONDS, LONGEST_SECONDS, Refusals


def refused(times: int, version: int = 1, now: float = 0.0) -> Refusals:
    refusals = Refusals()
    for _ in range(times):
        refusals.refused("main", version, now)
    return refusals


@pytest.mark.parametrize(
    ("times", "wait"),
    [
        pytest.param(0, 0.0, id="never-refused"),
        pytest.param(1, 0.0, id="one-refusal-locks-nothing"),
        pytest.param(2, FIRST_SECONDS, id="a-repeat-opens-it"),
        pytest.param(3, 2 * FIRST_SECONDS, id="and-doubles"),
        pytest.param(50, LONGEST_SECONDS, id="up-to-a-bound"),
    ],
)
def test_the_wait_grows_with_repeats(times: int, wait: float) -> None:
    assert refused(times).wait("main", 1, 0.0) == wait
    assert refused(times).open_count(0.0) == (1 if wait else 0)


def test_after_the_wait_one_call_may_find_out() -> None:
    assert refused(2).wait("main", 1, FIRST_SECONDS) == 0.0


def test_another_version_of_the_secret_closes_it() -> None:
    refusals = refused(5)
    assert refusals.wait("main", 2, 0.0) == 0.0
    refusals.refused("main", 2, 0.0)
    assert refusals.wait("main", 2, 0.0) == 0.0, "the new secret starts anew"


def test_a_success_closes_it() -> None:
    refusals = refused(5)
    refusals.accepted("main")
    assert refusals.wait("main", 1, 0.0) == 0.0


def test_credentials_do_not_answer_for_each_other() -> None:
    assert refused(5).wait("other", 1, 0.0) == 0.0
