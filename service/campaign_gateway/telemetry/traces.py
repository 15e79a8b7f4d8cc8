"""Traces as OpenTelemetry has them. Imported only where they are wanted: nobody else needs its packages.

Laws of this module:

1. Spans hold what the metrics' labels hold, and numbers: no path, query, header, body, address of a caller, or id.
2. A span that no call is in is made when it has ended, from what is known of it then: hits stay on the fast road.
3. Spans are sent by the SDK's own thread. The loop waits for it nowhere, and at the end for a bounded time.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from http import HTTPStatus
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from typing_extensions import override

from campaign_gateway import __version__
from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.proxy.ports import Answered, PlatformCall, Traces

SERVICE = "campaign-gateway"
"""Unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` names another one."""
_PREFIX = "campaign_gateway."
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})
_GOOD = frozenset({"ok", "missing"})
"""Outcomes of calls that are what the platform is for."""

_log = logging.getLogger(__name__)


class _Open:
    """The span of a request that is being answered. It stays known to the tasks that were begun meanwhile."""

    __slots__ = ("context", "is_ended", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.context = set_span_in_context(span, Context())
        self.is_ended = False


class WatchedExporter(SpanExporter):
    """An exporter whose spans are counted, with one log line when it begins to fail and one when it works again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False
        # Counted by the thread that sends, and by nobody else.
        self.taken = self.exported = self.lost = 0
        """Spans: out of the queue so far, and what became of them."""

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails:
            self.lost += len(spans)
        else:
            self.exported += len(spans)
        if fails and not self._fails:
            _log.warning("spans are lost: the collector that the OTEL_ variables name does not take them")
        elif self._fails and not fails:
            _log.info("the collector takes spans again")
        self._fails = fails
        return result

    @override
    def shutdown(self) -> None:
        self._exporter.shutdown()


class CountingProcessor(BatchSpanProcessor):
    """The SDK's queue, which counts the spans that it has no room for."""

    def __init__(self, exporter: WatchedExporter) -> None:
        super().__init__(exporter)
        self._watched = exporter
        self._most: int = self._default_max_queue_size()  # type: ignore[no-untyped-call]
        self._ended = 0
        self.dropped = 0

    @override
    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            waiting = self._ended - self.dropped - self._watched.taken
            self._ended += 1
            # The oldest gives way.
            self.dropped += waiting >= self._most
        super().on_end(span)


class OpenTelemetryTraces(Traces):
    """Spans by the conventions for HTTP, with exporter, sampler and resource by the standard `OTEL_` variables."""

    is_on = True

    def __init__(self, platform: str, make_exporter: Callable[[], SpanExporter] = OTLPSpanExporter) -> None:
        """Traces.

        Args:
            platform: the platform's URL.
            make_exporter: makes where spans are sent to.

        Raises:
            ValueError: a variable has a value that cannot be meant.
        """
        # Their lines quote the variables that hold secrets, and come once for each attempt.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3").setLevel(logging.WARNING)
        self._exporter = WatchedExporter(make_exporter())
        named = {"service.name": SERVICE, "service.version": __version__, **OTELResourceDetector().detect().attributes}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._queue = CountingProcessor(self._exporter)
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("campaign_gateway", __version__)
        url = urlsplit(platform)
        self._server: dict[str, Any] = {
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }
        self._request: ContextVar[_Open | None] = ContextVar("request", default=None)

    async def close(self, seconds: float) -> None:
        """Sends what is left, for so long at most."""
        loop = asyncio.get_running_loop()
        sent = loop.create_future()

        def shut_down() -> None:
            self._provider.shutdown()
            # The loop may be closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(sent.set_result, None)

        # Not one of the loop's threads: those are waited for without a bound.
        Thread(target=shut_down, name="send the last spans", daemon=True).start()
        await asyncio.wait([sent], timeout=seconds)

    @property
    @override
    def exported(self) -> int:
        return self._exporter.exported

    @property
    @override
    def lost(self) -> int:
        return self._exporter.lost + self._queue.dropped

    @override
    def begin(self, trace: TraceContext | None, began: float) -> None:
        span = self._tracer.start_span("HTTP", _remote(trace), SpanKind.SERVER, start_time=_wall(began))
        self._request.set(_Open(span))

    @override
    def answered(
        self, answered: Answered, trace: TraceContext | None, ended: float, seconds: float
    ) -> TraceContext | None:
        method = answered.method if answered.method in _METHODS else "HTTP"
        name = method if answered.route is None else f"{method} {answered.route}"
        attributes = _attributes(answered)
        request = self._request.get()
        if request is None or request.is_ended:
            span = self._tracer.start_span(
                name, _remote(trace), SpanKind.SERVER, attributes, start_time=_wall(ended - seconds)
            )
        else:
            span, request.is_ended = request.span, True
            span.update_name(name)
            span.set_attributes(attributes)
        if answered.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        span.end(_wall(ended))
        context = span.get_span_context()
        return TraceContext(
            format_trace_id(context.trace_id), format_span_id(context.span_id), context.trace_flags.sampled
        )

    @override
    def call(self, call: PlatformCall) -> SpanContext:
        request, row, ended = self._request.get(), call.request.operation, time.time_ns()
        template = row.family + row.path
        attributes = self._server | {
            "http.request.method": row.method,
            "url.template": template,
            _PREFIX + "operation": row.name,
            _PREFIX + "stream": call.request.stream.alias,
            _PREFIX + "lane": call.lane.value,
            _PREFIX + "reason": call.reason,
            _PREFIX + "outcome": call.outcome,
            _PREFIX + "permit_wait_seconds": round(call.waited, 6),
        }
        if call.reason == "retry":
            attributes["http.request.resend_count"] = 1
        if call.status is not None:
            attributes["http.response.status_code"] = call.status
        if call.outcome not in _GOOD:
            attributes["error.type"] = call.outcome
        span = self._tracer.start_span(
            f"{row.method} {template}",
            Context() if request is None else request.context,
            SpanKind.CLIENT,
            attributes,
            start_time=ended - int(call.seconds * 1e9),
        )
        if call.outcome not in _GOOD:
            span.set_status(StatusCode.ERROR)
        span.end(ended)
        return span.get_span_context()

    @override
    def join(self, calls: Iterable[PlatformCall]) -> None:
        request = self._request.get()
        for call in calls:
            if request is not None and isinstance(call.span, SpanContext):
                request.span.add_link(call.span)


def _attributes(answered: Answered) -> dict[str, Any]:
    outcome = answered.outcome
    is_error = answered.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    attributes = {
        "http.request.method": answered.method if answered.method in _METHODS else "_OTHER",
        "http.route": answered.route,
        "http.response.status_code": answered.status,
        "error.type": (answered.problem or str(answered.status)) if is_error else None,
        _PREFIX + "operation": answered.operation,
        _PREFIX + "client": answered.client,
        _PREFIX + "stream": answered.stream,
        _PREFIX + "cache": outcome.cache,
        _PREFIX + "fwd": None if outcome.fwd is None else outcome.fwd.value,
        _PREFIX + "detail": None if outcome.detail is None else outcome.detail.value,
        _PREFIX + "collapsed": outcome.collapsed or None,
        _PREFIX + "problem": answered.problem,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _remote(trace: TraceContext | None) -> Context:
    """The caller's place in a trace as a parent; nothing that is current is one."""
    if trace is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if trace.is_sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([trace.state]) if trace.state else None
    context = SpanContext(
        int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=flags, trace_state=state
    )
    return set_span_in_context(NonRecordingSpan(context), Context())


def _wall(moment: float) -> int:
    """The moment on the performance counter, in nanoseconds since the epoch."""
    return time.time_ns() - int((time.perf_counter() - moment) * 1e9)
