"""The gateway's metrics (Prometheus). Labels are closed sets: never an id, a path, a token or a text."""

import asyncio
import time
from bisect import bisect_left
from collections import Counter as Tallies
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from typing_extensions import override

from campaign_gateway import __version__
from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.proxy.ports import HitMeter, Meter, RequestMeter, Tally
from campaign_gateway.telemetry.counters import Counter, CounterFamily, Histogram, HistogramFamily

PREFIX = "campaign_gateway_"
TURN_SECONDS = 0.005
"""How long values are read before others have their turn."""

_REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_UPSTREAM_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAIT_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
_CHANGE_BUCKETS = (0.5, 1, 2, 4, 6, 8, 10, 15, 30, 60, 120, 300, 600)
_TURN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_NOT_MODIFIED = "304"
_AGE_BUCKETS = (1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400)


class Gauges:
    """Values that are read when Prometheus asks, not kept up to date on every request."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, list[tuple[dict[str, str], Callable[[], float]]]]] = {}

    def add(self, name: str, text: str, read: Callable[[], float], **labels: str) -> None:
        """A gauge, or a counter if its name says so, whose value is what `read` returns at the time of the scrape."""
        self._families.setdefault(name, (text, []))[1].append((labels, read))

    def drop(self, *names: str) -> None:
        """Forgets these families, which may be added anew, with other labels."""
        for name in names:
            self._families.pop(name, None)

    def steps(self) -> Iterator[Metric | None]:
        """One family per name, and None after each value: others may have their turn there."""
        for name, (text, rows) in list(self._families.items()):
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(PREFIX + name, text, labels=list(rows[0][0]))
            for labels, read in rows:
                family.add_metric(list(labels.values()), read())
                yield None
            yield family


@dataclass(frozen=True, slots=True)
class Totals:
    """What was answered since the start."""

    answers: Mapping[str, int]
    """By what the cache did."""
    seconds: tuple[int, ...]
    """Answers by how long they took, and one more number for those beyond `second_bounds`."""
    ages: tuple[int, ...]
    """Answers by their age, likewise."""
    second_bounds: tuple[float, ...] = _REQUEST_BUCKETS
    age_bounds: tuple[float, ...] = _AGE_BUCKETS


@dataclass(slots=True)
class ClientTotals:
    """What one client was answered since the start."""

    requests: int = 0
    hits: int = 0
    not_modified: int = 0


class HitCounters(HitMeter):
    """What `Metrics.request` and `Metrics.served` do, with the children at hand."""

    __slots__ = ("_ages", "_least", "_requests", "_seconds")

    def __init__(self, requests: Counter, seconds: Histogram, ages: Histogram) -> None:
        self._requests, self._seconds, self._ages = requests, seconds, ages
        self._least = seconds.bounds[0]

    @override
    def hit(self, seconds: float, age: float) -> None:
        self._requests.value += 1
        # As `observe` does, without the calls: this is half of what counting a hit costs.
        histogram = self._seconds
        # Nearly all hits take less than the least bound.
        histogram.counts[0 if seconds <= self._least else bisect_left(histogram.bounds, seconds)] += 1
        histogram.sum += seconds
        histogram = self._ages
        histogram.counts[bisect_left(histogram.bounds, age)] += 1
        histogram.sum += age


class Metrics(Meter, RequestMeter):
    """All that is counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> CounterFamily:
            return CounterFamily(PREFIX + name, text, labels, registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> HistogramFamily:
            return HistogramFamily(PREFIX + name, text, labels, buckets, registry)

        self.registry = registry
        """Of what is counted; the gauges are read apart, by `collect`."""
        self.gauges = Gauges()
        build = Info(PREFIX + "build", "The running version.", registry=registry)
        build.info({"version": __version__})
        self._requests = counter(
            "requests_total",
            "Requests answered on the API port, by what the cache did: hit, stale, miss, revalidated or none.",
            *("operation", "client", "status", "cache"),
        )
        self._request_seconds = histogram(
            "request_duration_seconds",
            "Seconds from a request's head to its whole answer.",
            _REQUEST_BUCKETS,
            *("operation", "cache"),
        )
        self._served_age = histogram(
            "served_age_seconds", "Age of served answers in seconds.", _AGE_BUCKETS, "operation"
        )
        self._upstream = counter(
            "upstream_requests_total",
            "Calls to the platform, by reason and outcome.",
            *("stream", "operation", "reason", "outcome"),
        )
        self._upstream_seconds = histogram(
            "upstream_request_duration_seconds",
            "Seconds from a permit to the platform's whole answer, or to the failure of the call.",
            _UPSTREAM_BUCKETS,
            "operation",
        )
        self._budget_wait = histogram(
            "budget_wait_seconds",
            "Seconds until a call was granted or refused a permit.",
            _WAIT_BUCKETS,
            "lane",
        )
        self._collapsed = counter(
            "collapsed_requests_total", "Requests that joined the fill of another request.", "scope"
        )
        self._task_failures = counter(
            "task_failures_total", "Failures of work in the background; each is begun again.", "task"
        )
        self._connections_refused = counter(
            "connections_refused_total", "Connections of callers refused for want of file descriptors."
        )()
        self._connections_ended = counter(
            "connections_unread_total", "Connections ended because their callers did not read an answer."
        )()
        self.loop_blocked = histogram(
            "loop_blocked_seconds",
            "Seconds that a beat of the event loop, one each 10 to 100 ms, was held up by a turn of this process.",
            _TURN_BUCKETS,
        )().observe
        """Called with the seconds of each beat."""
        self._store = counter(
            "store_operations_total", "Operations on a store, by outcome.", "store", "operation", "outcome"
        )
        self._validations = counter(
            "proofs_total",
            "Validations of entries by a read, by kind and outcome: unchanged, changed or failed.",
            "kind",
            "outcome",
        )

        self._invalidations = counter(
            "invalidations_total", "Invalidations of stored answers, by cause: write, purge or hint.", "cause"
        )
        self._change_visible = histogram(
            "change_visible_seconds",
            "Seconds from a campaign's updatedAt until an answer with that change was stored.",
            _CHANGE_BUCKETS,
            "stream",
        )

        self._changes = counter(
            "campaign_changes_total", "Entries added to the log of changes by this process.", "stream", "type"
        )
        self._change_delay = histogram(
            "change_delay_seconds",
            "Seconds from a campaign's updatedAt until the change was in the log.",
            _CHANGE_BUCKETS,
            "stream",
        )

    def totals(self) -> Totals:
        """What was answered so far, whoever asked for what."""
        answers: Tallies[str] = Tallies()
        for (_, _, _, cache), child in self._requests.children.items():
            answers[cache] += child.value
        seconds, ages = self._request_seconds.children.values(), self._served_age.children.values()
        return Totals(answers, _joined(_REQUEST_BUCKETS, seconds), _joined(_AGE_BUCKETS, ages))

    def by_client(self) -> dict[str, ClientTotals]:
        """What each client was answered so far."""
        clients: dict[str, ClientTotals] = {}
        for (_, client, status, cache), child in self._requests.children.items():
            row = clients.setdefault(client, ClientTotals())
            row.requests += child.value
            row.hits += child.value if cache == "hit" else 0
            row.not_modified += child.value if status == _NOT_MODIFIED else 0
        return clients

    async def collect(self) -> list[Metric]:
        """All families, read a few milliseconds at a time: with 500 streams there are 33,000 values."""
        families, until = [], time.monotonic() + TURN_SECONDS
        for family in chain(self.gauges.steps(), self.registry.collect()):
            if family is not None:
                families.append(family)
            if time.monotonic() >= until:
                await asyncio.sleep(0)
                until = time.monotonic() + TURN_SECONDS
        return families

    @override
    def request(
        self,
        operation: str,
        client: str,
        status: int,
        cache: str,
        seconds: float,
        trace: TraceContext | None = None,
    ) -> None:
        self._requests(operation, client, str(status), cache).inc()
        recorded = None if trace is None or not trace.is_sampled else trace.trace_id
        self._request_seconds(operation, cache).observe(seconds, recorded)

    @override
    def served(self, operation: str, age: float) -> None:
        self._served_age(operation).observe(age)

    @override
    def hits(self, operation: str, client: str, status: int) -> HitMeter:
        return HitCounters(
            self._requests(operation, client, str(status), "hit"),
            self._request_seconds(operation, "hit"),
            self._served_age(operation),
        )

    @override
    def upstream_call(self, stream: str, operation: str, reason: str, outcome: str, seconds: float) -> None:
        self._upstream(stream, operation, reason, outcome).inc()
        self._upstream_seconds(operation).observe(seconds)

    @override
    def budget_wait(self, lane: str, seconds: float) -> None:
        self._budget_wait(lane).observe(seconds)

    @override
    def collapsed(self, scope: str) -> None:
        self._collapsed(scope).inc()

    def task_failures(self, task: str, failures: int) -> None:
        """Counts failures of work in the background; 0 makes the series."""
        self._task_failures(task).value += failures

    def connection_refused(self) -> None:
        """Counts a caller's connection that there was no file descriptor for."""
        self._connections_refused.inc()

    def connection_unread(self) -> None:
        """Counts a connection that was ended because its caller did not read."""
        self._connections_ended.inc()

    @override
    def store_operation(self, store: str, operation: str, outcome: str) -> None:
        self._store.children[store, operation, outcome].value += 1

    @override
    def store_operations(self, store: str, operation: str, outcome: str) -> Tally:
        return self._store(store, operation, outcome)

    @override
    def validation(self, kind: str, outcome: str) -> None:
        self._validations(kind, outcome).inc()

    @override
    def invalidation(self, cause: str) -> None:
        self._invalidations(cause).inc()

    @override
    def change_visible(self, stream: str, seconds: float) -> None:
        self._change_visible(stream).observe(seconds)

    @override
    def change(self, stream: str, type_: str, seconds: float | None) -> None:
        self._changes(stream, type_).inc()
        if seconds is not None:
            self._change_delay(stream).observe(seconds)

    def changes_of(self, stream: str, types: Iterable[str]) -> None:
        """Makes the stream's series, so that the first change is seen as a rise from zero."""
        for type_ in types:
            self._changes(stream, type_)
        self._change_delay(stream)


def _joined(bounds: tuple[float, ...], histograms: Iterable[Histogram]) -> tuple[int, ...]:
    return tuple(map(sum, zip([0] * (len(bounds) + 1), *(row.counts for row in histograms), strict=True)))


class WorkerMetrics:
    """What a supervisor knows of its workers, in a registry of its own."""

    def __init__(self, workers: int) -> None:
        self.registry = CollectorRegistry()
        self._up = Gauge(PREFIX + "workers_up", "Workers that answered this scrape.", registry=self.registry)
        restarts = prometheus_client.Counter(
            PREFIX + "worker_restarts_total",
            "Workers started to replace one that ended.",
            ["worker"],
            registry=self.registry,
        )
        # All of them at once, so that the first restart is seen as a rise from zero.
        self._restarts = [restarts.labels(str(number)) for number in range(workers)]

    def restarted(self, worker: int) -> None:
        """Another worker was started in the place of this number."""
        self._restarts[worker].inc()

    def answered(self, workers: int) -> None:
        """So many workers are in this scrape."""
        self._up.set(workers)
