"""Counters and histograms as plain numbers, published when Prometheus asks.

The client library's own take a lock and a few microseconds for each event, more than a whole hit. Here an event is an
addition. All events happen on the loop's thread; a scrape on another one may see a histogram's sum a moment before its
count.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from typing_extensions import override


class Counter:
    """A number of events."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """One more."""
        self.value += 1


class Histogram:
    """How values spread over ranges, each with its upper bound in it."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        """The last value of a range of which somebody recorded a trace, by the range."""

    def observe(self, value: float, trace_id: str | None = None) -> None:
        """One more value; of a trace that somebody records, or None."""
        number = bisect_left(self.bounds, value)
        self.counts[number] += 1
        self.sum += value
        if trace_id is not None:
            self.exemplars[number] = Exemplar({"trace_id": trace_id}, value, time.time())


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The value that this part of the values does not exceed, spread evenly in their range; None where there are none.

    Args:
        bounds: upper bounds of the ranges.
        counts: values in each, and one more for those beyond, of which only the last bound is known.
        part: between 0 and 1.
    """
    wanted, below = part * sum(counts), 0
    if not wanted:
        return None
    for lower, upper, count in zip((0.0, *bounds[:-1]), bounds, counts, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return bounds[-1]


_Child = TypeVar("_Child", Counter, Histogram)


class _MetricFamily(Collector, Generic[_Child]):
    """One metric: a child for each set of label values that has occurred."""

    def __init__(self, name: str, text: str, labels: Sequence[str], make: Callable[[], _Child]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self.children: dict[tuple[str, ...], _Child] = defaultdict(make)
        """By label values."""

    def __call__(self, *values: str) -> _Child:
        """The child for these label values."""
        return self.children[values]


class CounterFamily(_MetricFamily[Counter]):
    """A Prometheus counter."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        super().__init__(name, text, labels, Counter)
        registry.register(self)

    @override
    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, child in list(self.children.items()):
            family.add_metric(values, child.value)
        yield family


class HistogramFamily(_MetricFamily[Histogram]):
    """A Prometheus histogram."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        super().__init__(name, text, labels, partial(Histogram, bounds))
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        registry.register(self)

    @override
    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, child in list(self.children.items()):
            counts = zip(self._names, accumulate(child.counts), strict=True)
            exemplars = dict(child.exemplars)
            family.add_metric(
                values,
                [(*pair, exemplars[n]) if n in exemplars else pair for n, pair in enumerate(counts)],
                child.sum,
            )
        yield family
