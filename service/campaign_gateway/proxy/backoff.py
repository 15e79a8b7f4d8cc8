"""Which keys are left alone for a while, because their last fill failed and there is something to serve meanwhile."""

from collections import OrderedDict
from dataclasses import dataclass

from campaign_gateway.policy.backoff import Backoff
from campaign_gateway.policy.settle import Failure

WAITS = Backoff(first=1.0, most=30.0)
"""Seconds that a key is left alone after failures in a row."""
MAX_KEYS = 10_000
"""Beyond this the longest-known are forgotten; the price is one try too many."""


@dataclass(frozen=True, slots=True)
class _Failed:
    at: float
    until: float
    waits: Backoff
    failure: Failure


class Backoffs:
    """Failed keys. A platform that is down is asked again and again, but not by every reader."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, _Failed] = OrderedDict()

    def current(self, key: str, now: float, since: float = 0.0) -> Failure | None:
        """The failure for which the key is left alone, if it came not before `since`; None when it may be tried."""
        failed = self._by_key.get(key)
        return failed.failure if failed is not None and now < failed.until and failed.at >= since else None

    def failed(self, key: str, failure: Failure, now: float) -> None:
        """Leaves the key alone: at least as long as the platform asked for."""
        last = self._by_key.pop(key, None)
        waits = (WAITS if last is None else last.waits).grown()
        self._by_key[key] = _Failed(now, now + max(waits.current, failure.retry_after or 0.0), waits, failure)
        if len(self._by_key) > MAX_KEYS:
            self._by_key.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """A fill brought an answer."""
        self._by_key.pop(key, None)
