"""Counters and histograms as plain numbers, published when Prometheus asks.

The client library's own take a lock and a few microseconds for each event, more than a whole hit. Here an event is an
addition. All events happen on the loop's thread; a scrape on another one may see a histogram's sum a moment before its
count.
"""

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
from typing_extensions import override


class Count:
    """A number of events."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """One more."""
        self.value += 1


class Spread:
    """How values spread over ranges, each with its upper bound in it."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


_Cell = TypeVar("_Cell", Count, Spread)


class _Family(Collector, Generic[_Cell]):
    """One metric: a cell for each set of label values that has occurred."""

    def __init__(self, name: str, text: str, labels: Sequence[str], make: Callable[[], _Cell]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self.cells: dict[tuple[str, ...], _Cell] = defaultdict(make)
        """By label values."""

    def __call__(self, *values: str) -> _Cell:
        """The cell for these label values."""
        return self.cells[values]


class Counts(_Family[Count]):
    """Implements a Prometheus counter."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        super().__init__(name, text, labels, Count)
        registry.register(self)

    @override
    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, cell in list(self.cells.items()):
            family.add_metric(values, cell.value)
        yield family


class Spreads(_Family[Spread]):
    """Implements a Prometheus histogram."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        super().__init__(name, text, labels, partial(Spread, bounds))
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        registry.register(self)

    @override
    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, cell in list(self.cells.items()):
            buckets = list(zip(self._names, accumulate(cell.counts), strict=True))
            family.add_metric(values, buckets, cell.sum)
        yield family
