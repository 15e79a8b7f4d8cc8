"""One clock for all who share a store, so that an entry's age is the same on every replica."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STEP_SECONDS = 1.0
"""A correction beyond this is a step: ages by the clock before it were wrong."""


class StoreClock:
    """Seconds since the epoch: this machine's until it is first set by the store's server, then the server's.

    Runs on the monotonic clock in between, so a step of the machine's wall clock changes no age.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._is_set = False
        self.uncertainty = 0.0
        """How far `now` may be off the server's clock, in seconds: half the trip of the last setting."""
        self.ahead = 0.0
        """Seconds by which it is known to be ahead of the server's, since that was set back."""
        self.on_step: Callable[[], None] = lambda: None
        """Called when the clock has stepped."""

    def now(self) -> float:
        """The time."""
        return time.monotonic() + self._offset

    def behind(self, server_time: float, sent_at: float, received_at: float) -> float:
        """Seconds by which the server's clock was set back since this one was last set by it; 0 for less than a step.

        Arguments as for `set`.
        """
        behind = (sent_at + received_at) / 2 + self._offset - server_time
        return behind if self._is_set and behind > STEP_SECONDS else 0.0

    def set(self, server_time: float, sent_at: float, received_at: float) -> None:
        """Sets the clock by the server's.

        Args:
            server_time: what the server said, in seconds since the epoch.
            sent_at: monotonic time just before the question.
            received_at: monotonic time just after the answer.
        """
        offset = server_time - (sent_at + received_at) / 2
        has_stepped = abs(offset - self._offset) > STEP_SECONDS
        self._offset, self._is_set = offset, True
        self.uncertainty = (received_at - sent_at) / 2
        if has_stepped:
            self.on_step()


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment, from which a later process of this machine can work out how long ago it was."""

    now: float
    """On the writer's `StoreClock`, like all other instants that are written down with it."""
    boot: str
    """Names the run of the machine; empty where the system has no name for it."""
    monotonic: float
    """Seconds since that began. A step of the wall clock does not show in it."""
    wall: float
    """Seconds since the epoch, for when the machine was started again."""


def stamp(now: float) -> Stamp:
    """This moment, which is `now` on the writer's clock."""
    return Stamp(now, _boot(), time.monotonic(), time.time())


def shift_between(written: Stamp, read: Stamp) -> float:
    """Seconds to add to instants on the clock of `written` to have them on that of `read`.

    Exact within one run of the machine. After a restart of it the wall clock is believed, but never that it went back.
    """
    passed = read.monotonic - written.monotonic
    if not written.boot or read.boot != written.boot or passed < 0:
        passed = max(0.0, read.wall - written.wall)
    return read.now - passed - written.now


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
