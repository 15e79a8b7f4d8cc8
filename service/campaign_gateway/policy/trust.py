"""How far a channel's list is believed: when it is left alone after a flaw, and by how much it lags behind.

Pure values; times are seconds of the clock that all replicas share.
"""

from dataclasses import dataclass, replace

from campaign_gateway.policy.backoff import Backoff

STAND_DOWN_SECONDS = 30.0
"""How long a list that proved untrustworthy is left alone at first."""
LONGEST_STAND_DOWN_SECONDS = 600.0
_STAND_DOWN = Backoff(STAND_DOWN_SECONDS, LONGEST_STAND_DOWN_SECONDS)

MOST_LAG_SECONDS = 10.0
"""The lag that is allowed for before any has been measured, and at the most."""
LAG_SAMPLES = 30
"""Moved rows that tell how far the list lags, before they are believed."""
LAG_MEMORY_SECONDS = 900.0
LAG_FACTOR = 1.5
"""A list may lag so much more than it was seen to ..."""
LAG_MARGIN_SECONDS = 1.0
"""... and so much more again."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What has become of the trust in one list."""

    quiet_until: float = 0.0
    """Until then it is left alone."""
    stand_down: Backoff = _STAND_DOWN
    """How long it is left alone, by the times that the trust was lost."""
    lost_at: float = float("-inf")

    def lost(self, now: float) -> "Trust":
        """After a flaw was found."""
        stand_down = self.stand_down.grown()
        return Trust(now + stand_down.current, stand_down, now)

    def held(self, now: float) -> "Trust":
        """After a good poll: what is long ago is forgotten."""
        return Trust() if now - self.lost_at > LONGEST_STAND_DOWN_SECONDS else self


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the lists were seen to lag behind answers by id."""

    longest: float = 0.0
    longest_at: float = 0.0
    samples: int = 0

    def seen(self, lag: float, now: float) -> "Lag":
        """After a moved row has shown that it was so late, at least."""
        if lag >= self.longest or now - self.longest_at > LAG_MEMORY_SECONDS:
            return Lag(lag, now, self.samples + 1)
        return replace(self, samples=self.samples + 1)

    def allowed(self, now: float) -> float:
        """Seconds that the lists are taken to lag."""
        if self.samples < LAG_SAMPLES:
            return MOST_LAG_SECONDS
        longest = self.longest if now - self.longest_at <= 2 * LAG_MEMORY_SECONDS else 0.0
        return min(MOST_LAG_SECONDS, LAG_FACTOR * longest + LAG_MARGIN_SECONDS)
