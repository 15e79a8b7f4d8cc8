"""Spans as an exporter gets them, of a real story and of a real web room."""

import asyncio
import time
from collections.abc import Iterator
from contextvars import Context
from threading import Event
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from typing_extensions import override

from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import UpstreamError
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.telemetry.logs import HitLines
from campaign_gateway.telemetry.traces import OpenTelemetryTraces, WatchedExporter
from campaign_gateway.web.record import Record, Recorder
from tests.support.doubles import begun, campaign_response
from tests.support.fast import Gateway, calling, far, local, logged, running
from tests.support.meters import CountingMeter
from tests.support.story import Story

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", is_sampled=True)


class Seen(OpenTelemetryTraces):
    """Traces, and the spans that they came to."""

    def __init__(self) -> None:
        self.sink = InMemorySpanExporter()
        super().__init__("https://platform.example:8443", lambda: self.sink)

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        self._provider.force_flush()
        return [span for span in self.sink.get_finished_spans() if kind in {None, span.kind}]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    made = Seen()
    yield made
    made._provider.shutdown()


async def ask(story: Story, traces: Seen, trace: TraceContext | None = None, campaign: str = "c-1") -> Reply:
    """A request, from its head to its record."""
    record = Record("GET", "r-1", time.perf_counter(), "get", "reporting", "/v1/campaigns/{id}", "support", trace=trace)
    recorder = Recorder(CountingMeter(), HitLines(), traces)
    recorder.begin(record)
    reply = await story.read(campaign)
    record.replies, record.failure = (reply,), reply.failure
    recorder.write(record, 200 if reply.failure is None else int(reply.failure.problem.status))
    return reply


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_miss_is_two_spans_in_the_callers_trace_and_a_hit_is_one(traces):
    story = Story(campaign_response(), traces=traces)
    await ask(story, traces, CALLER)
    call, request = traces.spans()
    assert f"{request.context.trace_id:032x}" == f"{call.context.trace_id:032x}" == CALLER.trace_id
    assert f"{request.parent.span_id:016x}" == CALLER.parent_id
    assert call.parent.span_id == request.context.span_id
    assert (request.kind, request.name) == (SpanKind.SERVER, "GET /v1/campaigns/{id}")
    assert said(request) == {
        "http.request.method": "GET",
        "http.route": "/v1/campaigns/{id}",
        "http.response.status_code": 200,
        "campaign_gateway.operation": "get",
        "campaign_gateway.client": "reporting",
        "campaign_gateway.stream": "support",
        "campaign_gateway.cache": "miss",
        "campaign_gateway.fwd": "uri-miss",
    }
    template = "/campaign/api/v2/public/{stream}/campaign/{id}"
    assert (call.kind, call.name) == (SpanKind.CLIENT, f"GET {template}")
    assert said(call).pop("campaign_gateway.permit_wait_seconds") >= 0
    assert {**said(call), "campaign_gateway.permit_wait_seconds": 0} == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.template": template,
        "server.address": "platform.example",
        "server.port": 8443,
        "campaign_gateway.operation": "get",
        "campaign_gateway.stream": "support",
        "campaign_gateway.lane": "interactive",
        "campaign_gateway.reason": "uri-miss",
        "campaign_gateway.outcome": "ok",
        "campaign_gateway.permit_wait_seconds": 0,
    }
    ((_, sent),) = story.upstream.calls
    assert not {name.lower() for name in sent.headers} & {"traceparent", "tracestate", "baggage"}
    assert request.start_time <= call.start_time <= call.end_time <= request.end_time
    traces.sink.clear()
    await ask(story, traces)
    (request,) = traces.spans()
    assert request.parent is None
    assert said(request)["campaign_gateway.cache"] == "hit"
    await story.close()


async def test_who_joins_a_fill_is_linked_to_its_call(traces):
    story = Story(campaign_response(), traces=traces)
    first = await story.held(ask(story, traces))
    others = [begun(ask(story, traces)) for _ in range(2)]
    await asyncio.sleep(0)
    story.upstream.release()
    await asyncio.gather(first, *others)
    (call,) = traces.spans(SpanKind.CLIENT)
    requests = traces.spans(SpanKind.SERVER)
    joined = [span for span in requests if said(span).get("campaign_gateway.collapsed")]
    assert [[link.context.span_id for link in span.links] for span in joined] == [[call.context.span_id]] * 2
    (alone,) = [span for span in requests if span not in joined]
    assert (alone.links, alone.context.span_id) == ((), call.parent.span_id)
    assert len({span.context.trace_id for span in requests}) == 3
    await story.close()


async def test_a_call_that_fails_says_so_and_whoever_joined_it_is_linked_too(traces):
    story = Story(UpstreamError(Problem.UPSTREAM_TIMEOUT, "no answer in time"), traces=traces)
    first = await story.held(ask(story, traces))
    second = begun(ask(story, traces))
    await asyncio.sleep(0)
    story.upstream.release()
    await asyncio.gather(first, second)
    (call,) = traces.spans(SpanKind.CLIENT)
    assert (call.status.status_code, said(call)["error.type"]) == (StatusCode.ERROR, "timeout")
    assert "http.response.status_code" not in said(call)
    for request in traces.spans(SpanKind.SERVER):
        assert (request.status.status_code, said(request)["error.type"]) == (StatusCode.ERROR, "upstream-timeout")
    assert sum(len(span.links) for span in traces.spans(SpanKind.SERVER)) == 1
    await story.close()


async def test_a_refusal_is_no_call_and_a_call_for_nobody_is_in_no_request(traces):
    story = Story(campaign_response(), traces=traces)
    story.budget.refuse_all = Failure(Problem.BUDGET_EXHAUSTED, "no call is left")
    await ask(story, traces)
    assert [span.kind for span in traces.spans()] == [SpanKind.SERVER]
    story.budget.refuse_all = None
    traces.sink.clear()
    await asyncio.get_running_loop().create_task(story.read("c-2"), context=Context())
    (call,) = traces.spans()
    assert (call.kind, call.parent) == (SpanKind.CLIENT, None)
    await story.close()


@pytest.mark.parametrize("layer", [local, far])
async def test_hits_of_the_fast_road_have_spans_and_lines_of_their_own_traces(traces, layer):
    head = b"GET /v1/campaigns/c-1 HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer cgk_reporting\r\nX-Request-ID: r\r\n"
    parents = [b"traceparent: 00-%032x-%016x-01\r\ntracestate: a=%d\r\n" % (n, n, n) for n in range(1, 7)]
    gateway = Gateway(traces=traces, layer=layer)
    async with running(gateway):
        with logged() as lines:
            async with calling(gateway) as caller:
                await caller.send(*(head + parent + b"\r\n" for parent in parents))
                await caller.send(*[head + b"\r\n"] * 5)
            gateway.lines.flush()
        assert gateway.fast.taken >= 6
    assert [answered.status for answered in caller.answers] == [200] * 11
    spans = traces.spans()
    assert [span.kind for span in spans] == [SpanKind.SERVER] * 11
    assert {said(span)["campaign_gateway.cache"] for span in spans} == {"hit"}
    assert sorted(span.parent.span_id for span in spans if span.parent) == list(range(1, 7))
    assert {(span.context.trace_id, span.context.trace_state.get("a")) for span in spans if span.parent} == {
        (number, str(number)) for number in range(1, 7)
    }
    assert sorted(line["trace_id"] for line in lines) == sorted(f"{span.context.trace_id:032x}" for span in spans)
    assert len({span.context.span_id for span in spans}) == 11
    assert not any("c-1" in str(value) for span in spans for value in said(span).values())


async def test_what_the_caller_does_not_sample_is_not_sent_and_still_has_its_trace(traces):
    trace = CALLER._replace(is_sampled=False)
    story = Story(campaign_response(), traces=traces)
    await ask(story, traces, trace)
    assert traces.spans() == []
    await story.close()


def test_a_refused_hit_of_the_fast_road_is_an_error(traces):
    recorder = Recorder(CountingMeter(), HitLines(), traces).of_caller("GET", "/v1/campaigns/{id}", "get", "a", "s")
    failure = Failure(Problem.BUDGET_EXHAUSTED, "no call is left")
    recorder._log = type("Sink", (), {name: lambda *_, **__: b"" for name in ("ageless", "campaign", "hit")})()
    recorder.refusal(Reply(Outcome(), failure=failure), "c-1", 503, b"r", time.perf_counter(), CALLER)
    (span,) = traces.spans()
    assert said(span)["campaign_gateway.problem"] == said(span)["error.type"] == "budget-exhausted"


@pytest.mark.parametrize("method", ["PROPFIND", "15551234567"])
def test_a_method_that_nobody_knows_is_not_repeated(traces, method):
    Recorder(CountingMeter(), HitLines(), traces).write(Record(method, "r-1", time.perf_counter()), 405)
    (span,) = traces.spans()
    assert (span.name, said(span)["http.request.method"]) == ("HTTP", "_OTHER")


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "campaign-gateway"),
        ({"OTEL_SERVICE_NAME": "edge"}, "edge"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=from-attributes,team=a"}, "from-attributes"),
    ],
)
def test_the_service_is_named_by_the_standard_variables(variables, name, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    traces = Seen()
    Recorder(CountingMeter(), HitLines(), traces).write(Record("GET", "r-1", time.perf_counter()), 404)
    (span,) = traces.spans()
    assert span.resource.attributes["service.name"] == name
    traces._provider.shutdown()


def test_what_is_not_taken_is_counted_and_told_of_once(caplog):
    results = [SpanExportResult.SUCCESS, *[SpanExportResult.FAILURE] * 3, *[SpanExportResult.SUCCESS] * 2]

    class Scripted(SpanExporter):
        @override
        def export(self, spans: Any) -> SpanExportResult:
            return results.pop(0)

    exporter = WatchedExporter(Scripted())
    caplog.set_level("INFO")
    while results:
        exporter.export([None] * 5)  # type: ignore[list-item]
    assert (exporter.exported, exporter.lost) == (15, 15)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_the_end_does_not_wait_for_a_collector_that_hangs():
    class Hung(SpanExporter):
        @override
        def export(self, spans: Any) -> SpanExportResult:
            time.sleep(3)
            return SpanExportResult.FAILURE

    traces = OpenTelemetryTraces("https://platform.example", Hung)
    Recorder(CountingMeter(), HitLines(), traces).write(Record("GET", "r-1", time.perf_counter()), 404)
    began = time.monotonic()
    await traces.close(0.01)
    assert time.monotonic() - began < 2.5


def test_a_hit_that_is_answered_where_a_request_was_before_has_a_span_of_its_own(traces):
    recorder = Recorder(CountingMeter(), HitLines(), traces)
    first, second = (Record("GET", "r-1", time.perf_counter(), trace=trace) for trace in (None, CALLER))
    recorder.begin(first)
    recorder.write(first, 404)
    # A connection's callbacks keep the context of the task that began them.
    recorder.write(second, 404)
    assert [span.parent is None for span in traces.spans()] == [True, False]


def test_what_the_queue_has_no_room_for_is_counted_as_lost(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    may_send = Event()

    class Gated(InMemorySpanExporter):
        @override
        def export(self, spans: Any) -> SpanExportResult:
            assert may_send.wait(30)
            return super().export(spans)

    traces = OpenTelemetryTraces("https://platform.example", Gated)
    recorder = Recorder(CountingMeter(), HitLines(), traces)
    for _ in range(100):
        recorder.write(Record("GET", "r-1", time.perf_counter()), 404)
    may_send.set()
    traces._provider.force_flush()
    traces._provider.shutdown()
    # Eight wait, and as many may be on their way already.
    assert 84 <= traces.lost <= 92
    assert traces.exported + traces.lost == 100
