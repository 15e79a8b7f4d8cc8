"""The platform's clock as seen from the store's, by which all ages and lifetimes are counted."""

import logging
import time
from collections.abc import Callable

from campaign_gateway.contract.dates import http_date
from campaign_gateway.policy.clock_offset import AGREED, ClockOffset, DatedAnswer, add, estimate, is_far_off

_log = logging.getLogger(__name__)


class PlatformClock:
    """Learns from every answer that carries a `Date`; one for each platform host.

    The platform's clock is kept against the monotonic one, and compared with the store's only when somebody asks: so a
    step of the store's clock, which another Redis may bring, is no step of the platform's.
    """

    def __init__(self, now: Callable[[], float], ahead: Callable[[], float] = lambda: 0.0) -> None:
        """A clock of which nothing is known yet.

        Args:
            now: the store's clock.
            ahead: seconds by which that is known to be ahead of the time, which is nobody's fault any longer.
        """
        self._now = now
        self._ahead = ahead
        self._answers: tuple[DatedAnswer, ...] = ()
        self._to_monotonic: ClockOffset | None = None
        self.is_far_off = False
        """Whether the last answer left it further from the store's clock than goes without saying."""

    @property
    def is_known(self) -> bool:
        """Whether an answer has shown the time yet."""
        return self._to_monotonic is not None

    def offset(self) -> ClockOffset:
        """How far it is ahead of the store's clock; `AGREED` until an answer has shown it."""
        known = self._to_monotonic
        if known is None:
            return AGREED
        return ClockOffset(known.seconds - (self._now() - time.monotonic()), known.uncertainty)

    def true_offset(self) -> ClockOffset:
        """How far it is ahead of the time by which the store's clock was set."""
        offset = self.offset()
        return ClockOffset(offset.seconds + self._ahead(), offset.uncertainty)

    def seconds_ahead(self) -> float | None:
        """The offset in seconds, to be taken out of every moment that the platform names; None until it is known."""
        return self.offset().seconds if self.is_known else None

    def now(self) -> float:
        """What it shows now, in seconds since the epoch."""
        return self._now() + self.offset().seconds

    def note(self, sent: float, had: float, date: str | None) -> None:
        """Takes an answer's word for the time.

        Args:
            sent: monotonic time before the request was sent.
            had: monotonic time when the answer was there.
            date: the answer's `Date`; None, and what is no date of HTTP, counts for nothing.
        """
        moment = None if date is None else http_date(date)
        if moment is None:
            return
        self._answers = add(self._answers, DatedAnswer(sent, had, moment))
        self._to_monotonic = estimate(self._answers)
        offset, was = self.true_offset(), self.is_far_off
        self.is_far_off = is_far_off(offset, was=was)
        if self.is_far_off and not was:
            _log.warning("the platform's clock is %s: its times are corrected by this offset", describe(offset))
        elif was and not self.is_far_off:
            _log.info("the platform's clock is close to ours again: %s", describe(offset))


def describe(offset: ClockOffset) -> str:
    """The offset in words."""
    return f"{abs(offset.seconds):.1f} s {'ahead of' if offset.seconds > 0 else 'behind'} ours"
