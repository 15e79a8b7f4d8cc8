"""A platform that fails, and a credential that is refused: one log line when it begins and one when it ends."""

import logging

import pytest

from campaign_gateway.contract.answers import Response
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.platform_state import FAILURES_IN_A_ROW, PlatformState, Trouble
from tests.support.doubles import SUPPORT, UNAUTHORIZED, campaign_response, error_response, make_request
from tests.support.story import Story

NO_CONNECTION = Failure(Problem.UPSTREAM_UNAVAILABLE, "no connection", was_sent=False)
SLOW = Failure(Problem.UPSTREAM_TIMEOUT, "no answer in time")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


@pytest.fixture(autouse=True)
def _log_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_platform_that_fails_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    state = PlatformState()
    for second in range(FAILURES_IN_A_ROW - 1):
        state.failed(NO_CONNECTION, float(second))
    assert not lines(caplog), "single failures are the callers' to see"
    for second in range(FAILURES_IN_A_ROW - 1, 50):
        state.failed(NO_CONNECTION, float(second))
    assert state.trouble == Trouble("no connection", 0.0)
    state.failed(SLOW, 50.0)
    state.answered(60.0)
    state.answered(61.0)
    assert [state.trouble] == [None]
    assert lines(caplog) == [
        "WARNING the platform fails (no connection): callers get what is stored, as long as that is not too old",
        "WARNING the platform fails (no answer in time): callers get what is stored, as long as that is not too old",
        "INFO the platform answers again, after 60 s",
    ]


def test_an_answer_in_between_begins_the_count_anew(caplog: pytest.LogCaptureFixture) -> None:
    state = PlatformState()
    for second in range(20):
        state.failed(SLOW, float(second))
        if second % 2:
            state.answered(float(second))
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("answer", "fails"),
    [
        pytest.param(error_response(500, "boom"), True, id="500"),
        pytest.param(Response(200, "text/html", b"<html></html>"), True, id="a-page"),
        pytest.param(error_response(429, "You've exceeded the per-minute rate limit."), False, id="429"),
        pytest.param(error_response(404, "Campaign not found"), False, id="404"),
        pytest.param(campaign_response("c-other"), False, id="one-odd-campaign"),
        pytest.param(campaign_response(), False, id="good"),
    ],
)
async def test_which_answers_show_a_platform_that_fails(answer, fails: bool) -> None:
    story = Story(*[answer] * FAILURES_IN_A_ROW)
    for _ in range(FAILURES_IN_A_ROW):
        await story.exchange.read_again(make_request(), Lane.VALIDATION, "sweep")
    assert (story.fetcher.state.trouble is not None) is fails
    await story.close()


async def test_a_refused_credential_is_told_once_by_its_name_and_code(caplog: pytest.LogCaptureFixture) -> None:
    story = Story(UNAUTHORIZED, UNAUTHORIZED, campaign_response())
    for _ in range(3):
        story.fetcher.breaker.note_success(SUPPORT.credential)
        await story.exchange.read_again(make_request(), Lane.VALIDATION, "sweep")
    told = [line for line in lines(caplog) if "credential" in line]
    assert len(told) == 2
    assert told[0].startswith(
        f"WARNING the platform refuses credential {SUPPORT.credential} (stream support, status 401, code "
    )
    assert told[1].startswith(f"INFO the platform accepts credential {SUPPORT.credential} again, after ")
    await story.close()
