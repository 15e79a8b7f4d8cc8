"""Which keys are left alone for a while, because their last fill failed and there is something to serve meanwhile."""

from collections import OrderedDict
from dataclasses import dataclass

from campaign_gateway.policy.settle import Failure

FIRST_SECONDS = 1.0
"""Rest after one failure; doubles with each further one in a row."""
LONGEST_SECONDS = 30.0
MAX_KEYS = 10_000
"""Beyond this the longest-known are forgotten; the price is one try too many."""


@dataclass(frozen=True, slots=True)
class _Rest:
    began: float
    until: float
    seconds: float
    failure: Failure


class Rests:
    """Failed keys. A platform that is down is asked again and again, but not by every reader."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, _Rest] = OrderedDict()

    def current(self, key: str, now: float, since: float = 0.0) -> Failure | None:
        """The failure that the key rests from, if it came not before `since`; None when it may be tried."""
        rest = self._by_key.get(key)
        return rest.failure if rest is not None and now < rest.until and rest.began >= since else None

    def begin(self, key: str, failure: Failure, now: float) -> None:
        """Lets the key rest: at least as long as the platform asked for."""
        last = self._by_key.pop(key, None)
        seconds = min(LONGEST_SECONDS, last.seconds * 2) if last is not None else FIRST_SECONDS
        self._by_key[key] = _Rest(now, now + max(seconds, failure.retry_after or 0.0), seconds, failure)
        if len(self._by_key) > MAX_KEYS:
            self._by_key.popitem(last=False)

    def end(self, key: str) -> None:
        """A fill succeeded."""
        self._by_key.pop(key, None)
