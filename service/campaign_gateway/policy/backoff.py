"""A wait that grows with each failure in a row."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after failures. The unit is whatever its user counts in: seconds, or windows."""

    first: float
    """After one failure."""
    most: float
    """However many there were."""
    factor: float = 2.0
    """By how much each wait is longer than the one before it."""
    current: float = 0.0
    """After the failures so far; 0 before the first."""

    def grown(self) -> "Backoff":
        """After one more failure."""
        return replace(self, current=min(self.most, self.current * self.factor) if self.current else self.first)
