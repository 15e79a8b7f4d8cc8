"""One answer from the platform: permit, send, classify, and the few second attempts that are allowed."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from campaign_gateway.contract.answers import Answer, Verdict, classify
from campaign_gateway.contract.operations import Kind, build_call
from campaign_gateway.policy.clock_offset import AGREED, ClockOffset
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure, judge
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.beside import beside
from campaign_gateway.proxy.circuit_breaker import CircuitBreaker
from campaign_gateway.proxy.platform_clock import PlatformClock
from campaign_gateway.proxy.platform_state import PlatformState, shows_failure
from campaign_gateway.proxy.ports import (
    NO_TRACES,
    Budget,
    Meter,
    PlatformCall,
    Refused,
    Store,
    Traces,
    Upstream,
    UpstreamError,
)
from campaign_gateway.proxy.request import Request

_OUTCOMES = {
    Problem.UPSTREAM_INVALID: Verdict.BROKEN.value,
    Problem.UPSTREAM_UNAVAILABLE: "unavailable",
    Problem.UPSTREAM_TIMEOUT: "timeout",
}
"""The metric label `outcome` of calls that got no whole answer; all others carry their verdict."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A classified answer."""

    answer: Answer
    started: float
    """When the read began: before its request left, in seconds of the store's clock."""
    clock: ClockOffset = AGREED
    """Of the platform's clock to that one, as far as it was known then."""


class Fetcher:
    """Asks the platform. Every attempt takes a permit of its own."""

    def __init__(
        self,
        upstream: Upstream,
        budget: Budget,
        store: Store,
        meter: Meter,
        ahead: Callable[[], float] = lambda: 0.0,
        traces: Traces = NO_TRACES,
    ) -> None:
        """A fetcher. `ahead` is that of `PlatformClock`."""
        self._traces = traces
        self._upstream = upstream
        self._budget = budget
        self._store = store
        self._meter = meter
        self.on_call: Callable[[PlatformCall], None] = lambda _: None
        """Called with each call that has ended."""
        self.breaker = CircuitBreaker()
        self.state = PlatformState()
        self.clock = PlatformClock(store.now, ahead)
        """The platform's, which each answer's `Date` shows."""

    def refusal(self, request: Request, lane: Lane, wait: float) -> Failure | None:
        """Why no call could be made, as far as is known already; see `Budget.refusal`."""
        return self._budget.refusal(request.stream.tenant.account, lane, request.client, request.key, wait)

    def prospect(self, request: Request, lane: Lane, wait: float) -> Failure | None:
        """As `refusal`, asked by an onlooker; a credential that rests since it was refused counts too."""
        return self._resting(request) or self._budget.prospect(
            request.stream.tenant.account, lane, request.client, request.key, wait
        )

    def _resting(self, request: Request) -> Failure | None:
        """Why no call may be tried with the stream's credential; None where one may."""
        credential = request.stream.credential
        retry_in = self.breaker.retry_in(
            credential, self._upstream.credential_version(request.stream), time.monotonic()
        )
        if not retry_in:
            return None
        detail = "the platform refuses the credential of this stream; it is tried again later"
        return Failure(Problem.UPSTREAM_UNAUTHORIZED, detail, retry_after=retry_in)

    async def fetch(
        self,
        request: Request,
        lane: Lane,
        reason: str,
        wait: float,
        *,
        first: Callable[[], Awaitable[None]] | None = None,
        calls: list[PlatformCall] | None = None,
    ) -> Fetched | Failure:
        """The platform's answer, or why there is none.

        A second attempt at a read is made in two cases: the platform had closed the kept connection before it read the
        request (nothing was done there), and a refused credential for which a newer secret has appeared. A write is
        sent once at most, whatever happens.

        Args:
            request: what is asked.
            lane: what pays for it.
            reason: the metric label `reason`.
            wait: seconds to wait for each permit at most.
            first: done with a permit in hand, before the request leaves.
            calls: takes each call when it has ended.
        """
        credential, version = request.stream.credential, self._upstream.credential_version(request.stream)
        resting = self._resting(request)
        if resting is not None and not await self._upstream.renew_credential(request.stream, version):
            return resting
        fetched = await self._attempt(request, lane, reason, wait, first, calls)
        if isinstance(fetched, UpstreamError):
            again = fetched.may_repeat
        else:
            is_refused = isinstance(fetched, Fetched) and fetched.answer.verdict is Verdict.UNAUTHORIZED
            again = is_refused and await self._upstream.renew_credential(request.stream, version)
        if again and request.operation.kind is not Kind.WRITE:
            fetched = await self._attempt(request, lane, "retry", wait, first, calls, is_anew=True)
        if isinstance(fetched, Fetched):
            if fetched.answer.verdict is Verdict.UNAUTHORIZED:
                version = self._upstream.credential_version(request.stream)
                self.breaker.note_refusal(credential, version, time.monotonic())
                self.state.refused_credential(credential, request.stream.alias, fetched.answer, time.monotonic())
            elif not shows_failure(fetched.answer):
                self.breaker.note_success(credential)
                self.state.accepted_credential(credential, time.monotonic())
        return fetched if isinstance(fetched, Fetched) else fetched.failure

    def _note_state(self, request: Request, answer: Answer) -> None:
        failure = judge(request.operation, answer) if shows_failure(answer) else None
        if failure is None:
            self.state.answered(time.monotonic())
        else:
            self.state.failed(failure, time.monotonic())

    async def _attempt(
        self,
        request: Request,
        lane: Lane,
        reason: str,
        wait: float,
        first: Callable[[], Awaitable[None]] | None,
        calls: list[PlatformCall] | None,
        *,
        is_anew: bool = False,
    ) -> Fetched | UpstreamError | Refused:
        call = build_call(request.operation, request.stream.tenant, {"id": request.id, **request.values}, request.body)
        account = request.stream.tenant.account
        asked = began = time.monotonic()
        outcome, status = "error", None
        try:
            async with self._budget.permit(account, lane, request.client, wait, request.key) as permit:
                if first is not None:
                    await first()
                began, started = time.monotonic(), self._store.now()
                try:
                    response = await self._upstream.send(request.stream, call, permit.leave_by, is_anew=is_anew)
                except UpstreamError as error:
                    outcome = _OUTCOMES[error.failure.problem]
                    if not error.was_sent:
                        permit.void()
                    self.state.failed(error.failure, time.monotonic())
                    return error
                status = response.status
                self.clock.note(began, time.monotonic(), response.date)
                parts = request.operation, request.id, response, self.clock.now()
                answer = await beside(len(response.body), classify, *parts)
                outcome = answer.verdict.value
                self._note_state(request, answer)
                if answer.verdict is Verdict.LIMITED:
                    # Before the permit is left, so that no waiting call slips out in between.
                    answer = replace(answer, retry_after=await self._budget.pause(account, answer.retry_after))
                return Fetched(answer, started, self.clock.offset())
        except Refused as refused:
            outcome = ""
            return refused
        finally:
            if outcome:
                seconds = time.monotonic() - began
                self._meter.upstream_call(request.stream.alias, request.operation.name, reason, outcome, seconds)
                ended = PlatformCall(request, lane, reason, outcome, status, began - asked, seconds)
                ended = replace(ended, span=self._traces.call(ended))
                self.on_call(ended)
                if calls is not None:
                    calls.append(ended)
