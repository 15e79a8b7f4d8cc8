"""One clock for all who share a store, so that an entry's age is the same on every replica."""

import time
from collections.abc import Callable

STEP_SECONDS = 1.0
"""A correction beyond this is a step: ages told by the clock before it were not true."""


class StoreClock:
    """Seconds since the epoch: this machine's until it is first set by the store's server, then the server's.

    Runs on the monotonic clock in between, so a step of the machine's wall clock changes no age.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.error = 0.0
        """How far `now` may be off the server's clock, in seconds: half the trip of the last setting."""
        self.on_step: Callable[[], None] = lambda: None
        """Called when the clock has stepped."""

    def now(self) -> float:
        """The time."""
        return time.monotonic() + self._offset

    def set(self, server_time: float, asked: float, answered: float) -> None:
        """Sets the clock by the server's.

        Args:
            server_time: what the server said, in seconds since the epoch.
            asked: monotonic time just before the question.
            answered: monotonic time just after the answer.
        """
        offset = server_time - (asked + answered) / 2
        has_stepped = abs(offset - self._offset) > STEP_SECONDS
        self._offset = offset
        self.error = (answered - asked) / 2
        if has_stepped:
            self.on_step()
