"""The arithmetic of an exact call budget: never more than `calls` arrivals in any `window` seconds.

Laws of this module:

1. A call arrives at the platform at some moment between its send and its end (answer, failure or time-out), and we
   cannot know when. So a call holds its place from the moment its permit is given until `window` seconds after its end.
2. While at most `calls` places are held at any time, no window of that length can see more arrivals. Proof: take the
   last-sent of `calls + 1` arrivals within one window; at its send all the others still hold their places.
3. A call that certainly never left (refused connection) gives its place back at once.

Neither a token bucket nor a fixed window has property 2: both let nearly twice the budget into some windows.
"""

import heapq
from enum import StrEnum


class Lane(StrEnum):
    """What a call is for, in the order in which the budget serves them."""

    WRITES = "writes"
    INTERACTIVE = "interactive"
    """A caller waits and has nothing else to be given."""
    PROOF = "proof"
    """Newer proof of what is stored, on a caller's wish or for the published bound."""
    BACKGROUND = "background"
    """Nobody waits."""

    @property
    def is_waited_for(self) -> bool:
        """Whether it may use the calls that a budget keeps in reserve."""
        return self in {Lane.WRITES, Lane.INTERACTIVE}


class CallLog:
    """Places held by calls of one account. Times are seconds of one monotonic clock, passed in."""

    __slots__ = ("_ended", "_in_flight", "calls", "window")

    def __init__(self, calls: int, window: float) -> None:
        self.calls = calls
        self.window = window
        self._in_flight = 0
        self._ended: list[float] = []

    def free(self, now: float) -> int:
        """Places that a call may take now."""
        while self._ended and self._ended[0] + self.window <= now:
            heapq.heappop(self._ended)
        return self.calls - self._in_flight - len(self._ended)

    def take(self) -> None:
        """Hold one place for a call that is about to be sent. The caller has asked `free` first."""
        self._in_flight += 1

    def end(self, now: float) -> None:
        """The call got its answer, or failed after it may have left."""
        self._in_flight -= 1
        heapq.heappush(self._ended, now)

    def give_back(self) -> None:
        """The call never left."""
        self._in_flight -= 1

    def wait(self, now: float, places: int = 1) -> float:
        """Seconds until `places` are free, if nobody else takes one: exact for calls that have ended.

        A call still in flight is assumed to end now; it can only end later, so the true wait may be longer, never
        shorter.
        """
        short = places - self.free(now)
        if short <= 0:
            return 0.0
        known = heapq.nsmallest(short, self._ended)
        if len(known) < short:
            return self.window
        return known[-1] + self.window - now
