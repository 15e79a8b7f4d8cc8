"""Which answers have a log line of their own. All are counted in the metrics, whatever is logged.

A line stands for itself and for the hits before it that have none, so the sum of `stands_for` over the lines is the
number of hits.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

Access = Literal["all", "sampled", "slow", "errors", "off"]

HITS_PER_SECOND = 1_000
SLOW_SECONDS = 1.0
LEAST_SPACING = 16
"""Beyond `per_second`, one hit in so many has a line; one in more where that would still be too many lines."""


class HitSample:
    """Lines for hits: up to `per_second` each hit has one, beyond that one in n."""

    def __init__(self, per_second: int) -> None:
        """A sample that begins with a line for each hit."""
        self._per_second = per_second
        self._since = self._until = 0.0
        self._hits = 0
        """In this second."""
        self._unlogged = 0
        """Since the last line."""
        self._spacing = LEAST_SPACING

    def stands_for(self, now: float, _seconds: float = 0.0) -> int:
        """The number of hits that a line for this one stands for, itself included; 0 if it has no line.

        Args:
            now: in seconds, of any clock. One that goes back begins a new second.
        """
        if not self._since <= now < self._until:
            # The second before says how many to expect: beyond the first lines there are about as many again.
            self._spacing = max(LEAST_SPACING, -(-self._hits // self._per_second))
            self._since, self._until, self._hits = now, now + 1, 0
        self._hits += 1
        self._unlogged += 1
        if self._hits > self._per_second and self._unlogged < self._spacing:
            return 0
        count, self._unlogged = self._unlogged, 0
        return count


class AccessLines:
    """What `log.access` asks for."""

    def __init__(
        self, access: Access = "sampled", hits_per_second: int = HITS_PER_SECOND, slow: float = SLOW_SECONDS
    ) -> None:
        """Decides by the settings of the same names; `slow` in seconds."""
        self._access, self._slow = access, slow
        self.hit: Callable[[float, float], int] = {
            "all": lambda _now, _seconds: 1,
            "sampled": HitSample(hits_per_second).stands_for,
            "slow": lambda _now, seconds: int(seconds >= slow),
            "errors": lambda _now, _seconds: 0,
            "off": lambda _now, _seconds: 0,
        }[access]
        """The number of hits that a line for one stands for, or 0: at this moment, of any clock, and after so long."""

    def other(self, status: int, seconds: float) -> bool:
        """Whether an answer that is not a hit, with this status and after so long, has a line."""
        is_error = status >= HTTPStatus.BAD_REQUEST
        match self._access:
            case "all" | "sampled":
                return True
            case "slow":
                return is_error or seconds >= self._slow
            case "errors":
                return is_error
            case "off":
                return False
