"""A meter that counts what it is told, for tests to look at."""

from collections import Counter


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
    """Implements `Meter` and `RequestMeter`. `counts` maps (method, labels...) to how often."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def upstream_call(self, stream: str, operation: str, reason: str, outcome: str, seconds: float) -> None:
        self.counts["upstream_call", stream, operation, reason, outcome] += 1

    def budget_wait(self, lane: str, seconds: float) -> None:
        self.counts["budget_wait", lane] += 1

    def collapsed(self, scope: str) -> None:
        self.counts["collapsed", scope] += 1

    def store_operation(self, store: str, operation: str, outcome: str) -> None:
        self.counts["store_operation", store, operation, outcome] += 1

    def store_operations(self, store: str, operation: str, outcome: str) -> Counted:
        return Counted(self.counts, "store_operation", store, operation, outcome)

    def validation(self, kind: str, outcome: str) -> None:
        self.counts["proof", kind, outcome] += 1

    def invalidation(self, cause: str) -> None:
        self.counts["invalidation", cause] += 1

    def change_visible(self, stream: str, seconds: float) -> None:
        self.counts["change_visible", stream] += 1

    def request(self, operation: str, client: str, status: int, cache: str, seconds: float) -> None:
        self.counts["request", operation, client, str(status), cache] += 1

    def served(self, operation: str, age: float) -> None:
        self.counts["served", operation] += 1
