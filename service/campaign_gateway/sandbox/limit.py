"""The platform's rate limit: so many calls per account in any window, kept as an exact log of arrival times."""

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one arrival is within the limit.

    Attributes:
        within: It may be served.
        retry_after_seconds: Seconds until the oldest counted arrival leaves the window, whole and at least 1;
            0 when within.
    """

    within: bool
    retry_after_seconds: int = 0


class SlidingWindow:
    """At most `calls` arrivals in any half-open span of `window_seconds`.

    Every arrival counts, answered or refused for whatever cause (no token, wrong method, unknown campaign),
    except those that this limit itself refuses: a client that keeps knocking is let in again as soon as its
    oldest counted call is a window old. With `count_refused` those count too, and steady knocking locks a client
    out for ever. Which of the two the real platform does is not known.
    """

    def __init__(self, calls: int, window_seconds: float, *, count_refused: bool = False) -> None:
        self._arrivals: deque[float] = deque()
        self.calls = calls
        self.window_seconds = window_seconds
        self.count_refused = count_refused

    def arrive(self, now: float) -> Verdict:
        """Counts an arrival at a moment (seconds) and says whether it is within the limit."""
        used = self.used(now)
        within = used < self.calls
        retry_after = 0.0
        if not within:
            # The call that has to leave before one more fits; with a limit lowered at run time not the oldest.
            leaving = self._arrivals[used - self.calls] if self.calls else now
            retry_after = leaving + self.window_seconds - now
        if within or self.count_refused:
            self._arrivals.append(now)
        return Verdict(within, 0 if within else max(1, math.ceil(retry_after)))

    def used(self, now: float) -> int:
        """Arrivals that count at a moment."""
        while self._arrivals and self._arrivals[0] <= now - self.window_seconds:
            self._arrivals.popleft()
        return len(self._arrivals)
