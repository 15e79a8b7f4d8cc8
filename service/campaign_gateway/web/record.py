"""What is written down of each answer: one log line and its counts. Nobody else in this room logs or counts answers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import perf_counter

from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import NO_TRACES, Answered, HitLog, RequestMeter, Traces
from campaign_gateway.proxy.reply import Outcome, Reply

_NO_OUTCOME = Outcome()
_log = logging.getLogger("campaign_gateway.requests")


@dataclass(slots=True)
class Record:
    """What is known of a request so far."""

    method: str
    request_id: str
    began: float
    """When it came, on the performance counter."""
    operation: str = "none"
    client: str = "none"
    route: str | None = None
    """Its path, with placeholders."""
    stream: str | None = None
    campaign: str | None = None
    replies: Sequence[Reply] = ()
    failure: Failure | None = None
    """Why there is no other answer."""
    peer: str | None = None
    """The address of a caller who is not known, or may not."""
    reason: str | None = None
    """What the log says of the failure that its caller is not told; None for nothing."""
    trace: TraceContext | None = None
    """That it belongs to, if it says so."""


class Recorder:
    """Logs and counts answers."""

    def __init__(self, meter: RequestMeter, log: HitLog, traces: Traces = NO_TRACES) -> None:
        """A recorder.

        Args:
            meter: where answers are counted.
            log: where the lines of hits and refusals go, which are too many to be made one by one.
            traces: where the spans of requests go.
        """
        self._meter = meter
        self._log = log
        self._traces = traces
        self._hits: dict[bytes, tuple[HTTPStatus, Outcome]] = {}
        """What lines of hits say, by what they have in common."""

    def begin(self, record: Record) -> None:
        """Opens the span of a request that is not answered at once."""
        if self._traces.is_on:
            self._traces.begin(record.trace, record.began)

    def write(self, record: Record, status: int) -> None:
        """One answer that was made for its request alone."""
        seconds = perf_counter() - record.began
        outcome = record.replies[0].outcome if len(record.replies) == 1 else _NO_OUTCOME
        trace = self._trace(record, status, outcome, seconds)
        self._meter.request(record.operation, record.client, status, outcome.cache, seconds, trace)
        ages = [reply.age for reply in record.replies if reply.entry is not None]
        for age in ages:
            self._meter.served(record.operation, age)
        is_hit = outcome.cache == "hit" and status < HTTPStatus.BAD_REQUEST
        if not (stands_for := self._log.stands_for(status, seconds, is_hit=is_hit)):
            return
        fields = {
            "request_id": record.request_id,
            "trace_id": None if trace is None else trace.trace_id,
            "method": record.method,
            "operation": record.operation,
            "client": record.client,
            "stream": record.stream,
            "campaign": record.campaign,
            "status": status,
            "cache": outcome.cache,
            "fwd": outcome.fwd,
            "detail": outcome.detail,
            "age": int(max(ages)) if ages else None,
            **_why(record.failure, record.peer, record.reason),
            "milliseconds": round(seconds * 1000, 2),
            "stands_for": stands_for if stands_for > 1 else None,
        }
        level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        _log.log(
            level, "request", extra={"fields": {name: value for name, value in fields.items() if value is not None}}
        )

    def _trace(self, record: Record, status: int, outcome: Outcome, seconds: float) -> TraceContext | None:
        """The trace that the request's span is in, now that it has ended."""
        if not self._traces.is_on:
            return record.trace
        problem = None if record.failure is None else record.failure.problem.value.name
        answered = Answered(
            record.method, record.route, record.operation, record.client, record.stream, status, outcome, problem
        )
        return self._traces.answered(answered, record.trace, record.began + seconds, seconds)

    def shown(self, campaign: str) -> bytes:
        """The campaign's id as lines show it."""
        return self._log.campaign(campaign)

    def hit_line(self, status: HTTPStatus, detail: Detail | None) -> bytes:
        """The part of a line that hits of one kind have in common, between the campaign and the age."""
        members = {"status": status.value, "cache": "hit", "detail": detail}
        line = self._log.answer({name: value for name, value in members.items() if value is not None})
        self._hits[line] = status, Outcome(ttl=1.0, detail=detail)
        return line

    def of_caller(self, method: str, route: str, operation: str, client: str, stream: str) -> "CallerRecorder":
        """Records what is answered to one caller, to one kind of request; the stream by its alias."""
        asked = Answered(method, route, operation, client, stream, HTTPStatus.OK, _NO_OUTCOME)
        return CallerRecorder(self._meter, self._log, self._traces, self._hits, asked)


class CallerRecorder:
    """Logs and counts rendered answers to one caller, with what they have in common made ready."""

    __slots__ = (
        *("_answered", "_client", "_hits", "_log", "_meter", "_operation", "_traces"),
        *("caller", "count_not_modified", "count_ok", "write"),
    )

    def __init__(
        self,
        meter: RequestMeter,
        log: HitLog,
        traces: Traces,
        hits: Mapping[bytes, tuple[HTTPStatus, Outcome]],
        answered: Answered,
    ) -> None:
        """A recorder of what is answered as `answered` says, but for its status and outcome; `hits`: by their lines."""
        self._meter, self._log, self._traces, self._hits, self._answered = meter, log, traces, hits, answered
        operation, client = answered.operation, answered.client
        self._operation, self._client = operation, client
        fields = {"method": answered.method, "operation": operation, "client": client, "stream": answered.stream}
        self.caller = log.caller(fields)
        """For `write`, which logs a hit: see `HitLog.hit`."""
        # Without traces, not even the question whether there are any.
        self.write = self._write_traced if traces.is_on else log.hit
        self.count_ok = meter.hits(operation, client, HTTPStatus.OK).hit
        self.count_not_modified = meter.hits(operation, client, HTTPStatus.NOT_MODIFIED).hit

    def refusal(
        self,
        reply: Reply,
        campaign: str,
        status: int,
        request_id: bytes,
        began: float,
        trace: TraceContext | None = None,
    ) -> None:
        """One refusal, since no call may be made."""
        seconds, outcome = perf_counter() - began, reply.outcome
        fields = {
            "status": status,
            "cache": outcome.cache,
            "detail": outcome.detail,
            **_why(reply.failure),
        }
        members = {name: value for name, value in fields.items() if value is not None}
        line, shown = self._log.ageless(members), self._log.campaign(campaign)
        if self._traces.is_on:
            problem = None if reply.failure is None else reply.failure.problem.value.name
            answered = replace(self._answered, status=status, outcome=outcome, problem=problem)
            trace = self._traces.answered(answered, trace, began + seconds, seconds)
        self._meter.request(self._operation, self._client, status, outcome.cache, seconds, trace)
        self._log.hit(request_id, self.caller, shown, line, b"", began + seconds, seconds, trace, refused=status)

    def _write_traced(
        self,
        request_id: bytes,
        caller: bytes,
        campaign: bytes,
        answer: bytes,
        age: bytes,
        ended: float,
        seconds: float,
        trace: TraceContext | None = None,
        *,
        refused: int | None = None,
    ) -> None:
        """As `HitLog.hit`, with a span."""
        status, outcome = self._hits[answer]
        own = self._traces.answered(replace(self._answered, status=status, outcome=outcome), trace, ended, seconds)
        self._log.hit(request_id, caller, campaign, answer, age, ended, seconds, own, refused=refused)


def _why(failure: Failure | None, peer: str | None = None, reason: str | None = None) -> Mapping[str, object]:
    """What an answer that is a failure comes from; nothing of the request is in it."""
    if failure is None:
        return {}
    is_about_caller = failure.problem in {Problem.UNAUTHENTICATED, Problem.FORBIDDEN}
    return {
        "problem": failure.problem.value.name,
        "upstream_status": failure.upstream_status,
        "upstream_code": failure.upstream_code,
        "reason": reason or failure.detail
        if is_about_caller or failure.problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        else None,
        "peer": peer if is_about_caller else None,
    }
