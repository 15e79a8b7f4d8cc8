"""What every part of the gateway is opened with."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from campaign_gateway.app import status
from campaign_gateway.app.build import Plan, plan_gateway
from campaign_gateway.app.certificates import Certificates
from campaign_gateway.app.listen import WorkerSlot
from campaign_gateway.proxy.ports import NO_TRACES, Traces
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.settings import Settings, traces_fault, wants_traces
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.telemetry.logs import dropped_lines
from campaign_gateway.telemetry.metrics import Metrics

FAREWELL_SECONDS = 3.0
"""The last of the grace, or a quarter of a short one: for answers that were given and are still on their way into the
store, and for telling other replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What every part of the gateway is opened with, and closed by."""

    plan: Plan
    metrics: Metrics
    certificates: Certificates
    traces: Traces
    clock: StoreClock
    watchers: Tasks
    """What runs for as long as the gateway."""
    fills: Tasks
    """What ends by itself: fills, writes."""
    slot: WorkerSlot | None
    """This process's, if it is one of several workers."""
    stack: AsyncExitStack
    """Closes what was opened, the last of it first."""
    farewell: float
    """Seconds at the end of the grace in which nobody is answered any more."""

    @property
    def settings(self) -> Settings:
        """Those in use."""
        return self.plan.settings

    @property
    def worker(self) -> int | None:
        """This process's number, if it is one of several workers."""
        return None if self.slot is None else self.slot.number


def open_runtime(settings: Settings, slot: WorkerSlot | None, stack: AsyncExitStack) -> Runtime:
    """A runtime in which nothing runs yet; the last spans are sent when `stack` is left.

    Raises:
        ValueError: a variable of OpenTelemetry has a value that cannot be meant.
    """
    farewell = min(FAREWELL_SECONDS, settings.shutdown.grace / 4)
    metrics = _open_metrics()
    certificates = Certificates(metrics.gauges)
    certificates.show(settings)
    return Runtime(
        plan=plan_gateway(settings),
        metrics=metrics,
        certificates=certificates,
        traces=_open_traces(settings, metrics, stack, farewell / 4),
        clock=StoreClock(),
        watchers=Tasks(metrics.task_failures),
        fills=Tasks(metrics.task_failures),
        slot=slot,
        stack=stack,
        farewell=farewell,
    )


def _open_metrics() -> Metrics:
    metrics = Metrics(CollectorRegistry())
    status.show_logs(metrics.gauges, dropped_lines)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=metrics.registry)
    return metrics


def _open_traces(settings: Settings, metrics: Metrics, stack: AsyncExitStack, seconds: float) -> Traces:
    """Where spans go; at the end, so long is waited for the last ones to be sent."""
    traces: Traces = NO_TRACES
    if wants_traces() and traces_fault() is None:
        # Only here: its packages are an extra, and take 200 ms to import.
        from campaign_gateway.telemetry.traces import OpenTelemetryTraces  # noqa: PLC0415

        traces = opened = OpenTelemetryTraces(settings.platform.url)
        stack.push_async_callback(opened.close, seconds)
    status.show_traces(metrics.gauges, traces)
    return traces
