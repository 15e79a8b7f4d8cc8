"""A meter whose counts a test can look at."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.proxy.ports import HitMeter


class Counted:
    """Implements `Tally`: one of a counter's numbers."""

    def __init__(self, counts: Counter[tuple[str, ...]], *event: str) -> None:
        self._counts, self._event = counts, event

    @property
    def value(self) -> int:
        return self._counts[self._event]

    @value.setter
    def value(self, value: int) -> None:
        self._counts[self._event] = value


class CountingMeter:
    """Implements `Meter` and `RequestMeter`: every event is counted by its labels."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, ...]] = Counter()
        self.ages: list[float] = []
        self.visible: list[float] = []
        """After how many seconds each change was stored."""

    def of(self, *start: str) -> int:
        """How many events began with these labels."""
        return sum(count for event, count in self.events.items() if event[: len(start)] == start)

    def upstream_call(self, stream: str, operation: str, reason: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.events["upstream", stream, operation, reason, outcome] += 1

    def budget_wait(self, lane: str, seconds: float) -> None:
        assert seconds >= 0
        self.events["wait", lane] += 1

    def collapsed(self, scope: str) -> None:
        self.events["collapsed", scope] += 1

    def store_operation(self, store: str, operation: str, outcome: str) -> None:
        self.events["store", store, operation, outcome] += 1

    def store_operations(self, store: str, operation: str, outcome: str) -> Counted:
        return Counted(self.events, "store", store, operation, outcome)

    def webhook_delivery(self, webhook: str, outcome: str) -> None:
        self.events["webhook", webhook, outcome] += 1

    def validation(self, kind: str, outcome: str) -> None:
        self.events["proof", kind, outcome] += 1

    def invalidation(self, cause: str) -> None:
        self.events["invalidation", cause] += 1

    def change_visible(self, stream: str, seconds: float) -> None:
        self.events["change_visible", stream] += 1
        self.visible.append(seconds)

    def change(self, stream: str, type_: str, seconds: float | None) -> None:
        self.events["change", stream, type_] += 1

    def request(
        self, operation: str, client: str, status: int, cache: str, seconds: float, _trace: TraceContext | None = None
    ) -> None:
        assert seconds >= 0
        self.events["request", operation, client, str(status), cache] += 1

    def served(self, operation: str, age: float) -> None:
        self.events["served", operation] += 1
        self.ages.append(age)

    def hits(self, operation: str, client: str, status: int) -> HitMeter:
        return _Hits(self, operation, client, status)


@dataclass
class _Hits:
    """Implements `HitMeter`, as the port says: each is a request and an answer from an entry."""

    meter: CountingMeter
    operation: str
    client: str
    status: int

    def hit(self, seconds: float, age: float) -> None:
        self.meter.request(self.operation, self.client, self.status, "hit", seconds)
        self.meter.served(self.operation, age)


def collecting(registry: CollectorRegistry) -> Callable[[], Awaitable[Iterable[Metric]]]:
    """What reads all metrics of a registry."""

    async def collect() -> Iterable[Metric]:
        return list(registry.collect())

    return collect
