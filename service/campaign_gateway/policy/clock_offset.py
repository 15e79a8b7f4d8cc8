"""How far the platform's clock is off ours, found out from the `Date` of its answers (RFC 9110 section 6.6.1).

A `Date` has whole seconds, and nobody knows how long its answer was under way. What is certain: at some moment between
sending the request and having the answer, the platform's clock showed that second. So each answer gives an interval of
offsets, as wide as a second and the round trip, and the answers together narrow it down: one that was written as its
second began gives the lower end, one that was written as its second ended the upper end.

Laws of this module:

1. The offset lies in what most of the last answers have in common (K. Marzullo's algorithm, which NTP selects its
   servers by). One with a wrong `Date`, put there by something in front of the platform, is outvoted.
2. A step of either clock is followed as soon as more of the last `MAX_ANSWERS` answers come after it than before. Of
   intervals that equally many have in common, the one of the newest answer counts.
3. Two clocks drift apart, so an interval grows wider with its age.
4. Times of our own are those of a clock that never steps; whoever keeps another one adds the difference when asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_ANSWERS = 15
"""Answers that count: so many leave about 0.1 s of uncertainty, beside half a round trip."""
KEEP_SECONDS = 900.0
DRIFT = 1e-4
"""Seconds per second by which two clocks may drift apart: twice what a quartz does."""
FAR_OFF_SECONDS = 5.0
"""An offset beyond this is worth an operator's attention: half of what a list may lag by."""
NEAR_SECONDS = 4.0
"""An offset that was beyond that is far off until it is within this: no news each time it crosses one line."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """What is known of it."""

    seconds: float = 0.0
    """By which the platform's clock is ahead of ours; negative where it is behind."""
    uncertainty: float = 0.0
    """Seconds by which that may be wrong, either way."""

    def fitting(self, moment: float, latest: float) -> float:
        """The offset in seconds to take out of a moment that the platform's clock named.

        Args:
            moment: in seconds since the epoch, as it was named.
            latest: when it must have passed, by our clock. If an offset within the uncertainty puts the moment there,
                that one is as good as any other, and better than one that makes it come later.
        """
        return max(self.seconds, min(moment - latest, self.seconds + self.uncertainty))


AGREED = ClockOffset()
"""Before any answer had a `Date`, the clocks are taken to agree."""


@dataclass(frozen=True, slots=True)
class DatedAnswer:
    """One answer's evidence."""

    sent: float
    """Our time before its request was sent."""
    had: float
    """Our time when it was there."""
    date: float
    """The second that the platform's clock showed in between, since the epoch."""

    def interval(self, now: float) -> tuple[float, float]:
        """The least and the greatest offset that it allows for."""
        drift = DRIFT * max(0.0, now - self.had)
        return self.date - self.had - drift, self.date + 1.0 - self.sent + drift


def add(answers: Sequence[DatedAnswer], newest: DatedAnswer) -> tuple[DatedAnswer, ...]:
    """The answers that count once there is another one."""
    recent = [answer for answer in answers if newest.had - answer.had <= KEEP_SECONDS]
    return (*recent[-(MAX_ANSWERS - 1) :], newest)


def estimate(answers: Sequence[DatedAnswer]) -> ClockOffset:
    """The offset that most of the answers, oldest first and one at least, agree on."""
    intervals = [answer.interval(answers[-1].had) for answer in answers]

    def sharing(offset: float) -> list[int]:
        return [index for index, (least, greatest) in enumerate(intervals) if least <= offset <= greatest]

    # What most have in common begins where the interval of one of them does.
    best = max((sharing(least) for least, _ in intervals), key=lambda indices: (len(indices), indices[-1]))
    lower = max(intervals[index][0] for index in best)
    upper = min(intervals[index][1] for index in best)
    return ClockOffset((lower + upper) / 2, (upper - lower) / 2)


def is_far_off(offset: ClockOffset, *, was: bool) -> bool:
    """Whether the clocks disagree by more than goes without saying.

    Args:
        offset: of the platform's clock.
        was: whether they did before.
    """
    return abs(offset.seconds) > (NEAR_SECONDS if was else FAR_OFF_SECONDS)
