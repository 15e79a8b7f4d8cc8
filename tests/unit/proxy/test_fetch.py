import asyncio
from dataclasses import replace
from email.utils import formatdate

import pytest

from campaign_gateway.contract.answers import Verdict
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.fetch import Fetched, Fetcher
from campaign_gateway.proxy.ports import UpstreamError
from campaign_gateway.store.memory import MemoryStore
from tests.support.doubles import (
    LIMITED,
    NOT_FOUND,
    SALES,
    START,
    SUPPORT,
    UNAUTHORIZED,
    ManualClock,
    ScriptedBudget,
    ScriptedUpstream,
    begun,
    campaign_response,
    error_response,
    make_request,
)
from tests.support.meters import CountingMeter

OK = campaign_response()
CLOSED_KEPT = UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "the connection was closed", may_repeat=True)
NEVER_LEFT = UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "no connection", was_sent=False)
SPENT = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=7.0)


class Desk:
    """A fetcher between a scripted platform and a scripted budget."""

    def __init__(self, *script) -> None:
        self.clock, self.meter, self.budget = ManualClock(), CountingMeter(), ScriptedBudget()
        self.upstream = ScriptedUpstream(*script)
        self.store = MemoryStore(2**20, self.clock, self.meter)
        self.fetcher = Fetcher(self.upstream, self.budget, self.store, self.meter)

    async def fetch(self, lane=Lane.INTERACTIVE, reason="uri-miss", wait=5.0, stream=SUPPORT) -> Fetched | Failure:
        return await self.fetcher.fetch(make_request(stream=stream), lane, reason, wait)

    async def answer(self) -> Fetched:
        fetched = await self.fetch()
        assert isinstance(fetched, Fetched)
        return fetched

    async def failure(self) -> Failure:
        fetched = await self.fetch()
        assert isinstance(fetched, Failure)
        return fetched

    def outcomes(self) -> list[tuple[str, ...]]:
        """Reason and outcome of each call counted."""
        return [event[3:] for event in self.meter.events.elements() if event[0] == "upstream"]


async def test_a_read_asks_for_the_campaign_of_its_own_stream():
    desk = Desk(OK)
    await desk.fetch(stream=SALES)
    ((stream, call),) = desk.upstream.calls
    assert stream is SALES
    assert (call.method, call.target) == ("GET", "/campaign/api/v2/public/st-2/campaign/c-1?accountId=acc-2")
    assert (call.headers["iid"], call.headers["accountId"]) == ("app-2", "acc-2")


async def test_an_answer_costs_one_permit_of_the_account_and_is_counted_once():
    desk = Desk(OK)
    fetched = await desk.answer()
    assert fetched.answer.verdict is Verdict.OK
    assert desk.budget.asked == [("acc-1", Lane.INTERACTIVE, "tests", 5.0)]
    assert desk.meter.events == {("upstream", "support", "get", "uri-miss", "ok"): 1}


async def test_each_request_may_leave_only_while_its_own_permit_holds():
    desk = Desk(CLOSED_KEPT, OK)
    await desk.fetch()
    assert len(set(desk.upstream.leave_bys)) == 2
    assert desk.upstream.leave_bys == [permit.leave_by for permit in desk.budget.permits]


async def test_the_read_began_before_its_request_left_and_after_its_permit():
    """Order is by the start of reads (promise 3); time spent in the queue is before it, time on the wire after."""
    desk = Desk(OK)
    original = desk.budget.permit

    def slow_answer(_stream, _call):
        desk.clock.advance(3)
        return OK

    desk.upstream.script = [slow_answer]

    def slow_permit(account, lane, client, wait, key):
        desk.clock.advance(10)
        return original(account, lane, client, wait, key)

    desk.budget.permit = slow_permit  # type: ignore[method-assign, assignment]
    began = desk.clock.now()
    assert (await desk.answer()).started == began + 10


@pytest.mark.parametrize(
    ("step", "verdict", "outcome"),
    [
        pytest.param(NOT_FOUND, Verdict.MISSING, "missing", id="400-not-found"),
        pytest.param(error_response(412, "validation"), Verdict.REJECTED, "rejected", id="412"),
        pytest.param(error_response(500, "Internal"), Verdict.BROKEN, "broken", id="500"),
        pytest.param(UNAUTHORIZED, Verdict.UNAUTHORIZED, "unauthorized", id="401"),
        pytest.param(LIMITED, Verdict.LIMITED, "limited", id="429"),
    ],
)
async def test_an_answer_of_any_kind_is_handed_on_and_not_asked_for_again(step, verdict, outcome):
    desk = Desk(step, OK)
    assert (await desk.answer()).answer.verdict is verdict
    assert desk.outcomes() == [("uri-miss", outcome)]
    assert len(desk.upstream.calls) == len(desk.budget.permits) == 1


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (Problem.UPSTREAM_UNAVAILABLE, "unavailable"),
        (Problem.UPSTREAM_INVALID, "broken"),
        (Problem.UPSTREAM_TIMEOUT, "timeout"),
    ],
)
async def test_a_call_without_a_whole_answer_is_a_failure_counted_by_its_kind(problem, outcome):
    desk = Desk(UpstreamError(problem, "what happened"), OK)
    failure = await desk.failure()
    assert (failure.problem, failure.detail) == (problem, "what happened")
    assert desk.outcomes() == [("uri-miss", outcome)]


@pytest.mark.parametrize(
    ("error", "is_void"),
    [
        pytest.param(UpstreamError(Problem.UPSTREAM_TIMEOUT, "no answer in time"), False, id="it-may-have-left"),
        pytest.param(NEVER_LEFT, True, id="it-never-left"),
    ],
)
async def test_a_call_keeps_its_slot_unless_it_certainly_never_left(error, is_void):
    desk = Desk(error)
    await desk.failure()
    assert [permit.is_void for permit in desk.budget.permits] == [is_void]


# Second attempts.


async def test_a_kept_connection_closed_by_the_platform_is_tried_again_on_a_second_permit():
    desk = Desk(CLOSED_KEPT, OK)
    assert (await desk.answer()).answer.verdict is Verdict.OK
    assert len(desk.budget.permits) == len(desk.upstream.calls) == 2
    assert desk.outcomes() == [("uri-miss", "unavailable"), ("retry", "ok")]


async def test_the_second_permit_is_of_the_same_lane_and_patience():
    desk = Desk(CLOSED_KEPT, OK)
    await desk.fetch(Lane.BACKGROUND, "refresh", 0.0)
    assert desk.budget.asked == [("acc-1", Lane.BACKGROUND, "tests", 0.0)] * 2


async def test_a_second_close_is_the_end():
    desk = Desk(CLOSED_KEPT)
    assert (await desk.failure()).problem is Problem.UPSTREAM_UNAVAILABLE
    assert len(desk.upstream.calls) == 2


async def test_without_a_second_permit_there_is_no_second_attempt():
    desk = Desk(CLOSED_KEPT, OK)
    desk.budget.refusals = [None, SPENT]
    assert await desk.failure() is SPENT
    assert len(desk.upstream.calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(NEVER_LEFT, id="refused-connection"),
        pytest.param(UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "closed"), id="closed-on-a-new-connection"),
        pytest.param(UpstreamError(Problem.UPSTREAM_TIMEOUT, "slow"), id="time-out"),
        pytest.param(UpstreamError(Problem.UPSTREAM_INVALID, "cut"), id="cut-answer"),
    ],
)
async def test_nothing_else_on_the_wire_is_tried_again(error):
    desk = Desk(error, OK)
    await desk.failure()
    assert len(desk.upstream.calls) == len(desk.budget.permits) == 1


async def test_a_refused_credential_is_tried_once_more_when_there_is_a_newer_secret():
    desk = Desk(UNAUTHORIZED, OK)
    desk.upstream.newer_secrets = 1
    assert (await desk.answer()).answer.verdict is Verdict.OK
    assert len(desk.budget.permits) == 2
    assert desk.outcomes() == [("uri-miss", "unauthorized"), ("retry", "ok")]


async def test_a_refused_credential_without_a_newer_secret_is_not():
    desk = Desk(UNAUTHORIZED, OK)
    assert (await desk.answer()).answer.verdict is Verdict.UNAUTHORIZED
    assert desk.upstream.renewals == [1]
    assert len(desk.upstream.calls) == 1


async def test_a_second_refusal_is_the_end_whatever_secrets_appear():
    desk = Desk(UNAUTHORIZED)
    desk.upstream.newer_secrets = 5
    assert (await desk.answer()).answer.verdict is Verdict.UNAUTHORIZED
    assert len(desk.upstream.calls) == 2


async def test_a_secret_that_changed_while_the_call_was_out_counts_as_newer():
    """The version compared is that of before the call: another read may have found the new secret in between."""
    desk = Desk(UNAUTHORIZED, OK)
    desk.upstream.hold()
    reading = begun(desk.answer())
    await desk.upstream.arrived()
    desk.upstream.secret_version = 2
    desk.upstream.release()
    assert (await reading).answer.verdict is Verdict.OK
    assert desk.upstream.renewals == [1]


async def test_there_are_never_three_attempts():
    desk = Desk(CLOSED_KEPT, UNAUTHORIZED, OK)
    desk.upstream.newer_secrets = 1
    await desk.fetch()
    assert len(desk.upstream.calls) == 2


# The budget.


async def test_a_refused_permit_is_the_failure_and_no_call_is_made_or_counted():
    desk = Desk(OK)
    desk.budget.refusals = [SPENT]
    assert await desk.failure() is SPENT
    assert desk.upstream.calls == []
    assert desk.outcomes() == []


@pytest.mark.parametrize(("told", "seconds"), [("30", 30.0), (None, None), ("soon", None)])
async def test_the_platforms_limit_pauses_the_account_for_as_long_as_it_said(told, seconds):
    desk = Desk(error_response(429, "You've exceeded the per-minute rate limit.", retry_after=told))
    await desk.fetch()
    assert [row[:2] for row in desk.budget.pauses] == [("acc-1", seconds)]


@pytest.mark.parametrize(("told", "left"), [("30", 30.0), (None, 60.0), ("999999999", 300.0)])
async def test_a_limit_tells_the_wait_that_the_budget_will_keep_rather_than_the_platforms_own(told, left):
    desk = Desk(error_response(429, "You've exceeded the per-minute rate limit.", retry_after=told))
    assert (await desk.answer()).answer.retry_after == left


async def test_the_pause_comes_before_the_permit_is_left():
    """A waiting call would otherwise slip out between the two."""
    desk = Desk(LIMITED)
    await desk.fetch()
    ((_, _, held),) = desk.budget.pauses
    assert held == 1
    assert desk.budget.open_permits == 0


@pytest.mark.parametrize("step", [OK, NOT_FOUND, UNAUTHORIZED, error_response(500, "Internal")])
async def test_nothing_else_pauses(step):
    desk = Desk(step)
    await desk.fetch()
    assert desk.budget.pauses == []


async def test_a_cancelled_call_ends_its_permit_and_keeps_its_slot():
    desk = Desk(OK)
    desk.upstream.hold()
    reading = begun(desk.fetch())
    await desk.upstream.arrived()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert desk.budget.open_permits == 0
    assert not desk.budget.permits[0].is_void
    assert desk.outcomes() == [("uri-miss", "error")]


async def test_an_unexpected_error_is_raised_counted_and_leaves_the_permit():
    desk = Desk(LookupError("a defect"))
    with pytest.raises(LookupError):
        await desk.fetch()
    assert desk.budget.open_permits == 0
    assert desk.outcomes() == [("uri-miss", "error")]


# The platform's clock.


def dated(ahead: float, *, of=OK):
    """The answer, with a `Date` by a clock that is so far ahead of the store's."""
    return replace(of, date=formatdate(START + ahead, usegmt=True))


@pytest.mark.parametrize("ahead", [-25.0, 25.0])
async def test_every_answer_tells_the_platforms_time(ahead):
    desk = Desk(dated(ahead), dated(ahead, of=error_response(500, "no")), campaign_response())
    assert (await desk.answer()).clock.seconds == pytest.approx(ahead + 0.5, abs=1.0)
    await desk.fetch()
    await desk.fetch()
    assert desk.fetcher.clock.seconds_ahead() == pytest.approx(ahead + 0.5, abs=1.0)


async def test_a_pause_until_a_date_is_as_long_as_the_platform_means():
    until = formatdate(START - 25.0 + 7.0, usegmt=True)
    desk = Desk(dated(-25.0, of=replace(LIMITED, retry_after=until)))
    await desk.fetch()
    assert [seconds for _, seconds, _ in desk.budget.pauses] == [7.0]


async def test_a_pause_until_a_date_goes_by_the_clock_that_earlier_answers_showed():
    until = formatdate(START - 25.0 + 7.0, usegmt=True)
    desk = Desk(dated(-25.0), replace(LIMITED, retry_after=until))
    await desk.fetch()
    await desk.fetch()
    assert [seconds for _, seconds, _ in desk.budget.pauses] == [pytest.approx(6.5, abs=1.0)]
