"""How far a channel's list is believed, when it is left alone after a flaw, and by how much it lags behind.

| the list is ... | poll went through | poll flawed  | polls starved | full scan went through | full scan flawed |
|-----------------|-------------------|--------------|---------------|------------------------|------------------|
| `TRUSTED`       | `TRUSTED`         | `DISTRUSTED` | `STARVED`     | `TRUSTED`              | `UNSOUND`        |
| `STARVED`       | `TRUSTED`         | `DISTRUSTED` | `STARVED`     | `STARVED`              | `UNSOUND`        |
| `DISTRUSTED`    | `TRUSTED`         | `DISTRUSTED` | `DISTRUSTED`  | `DISTRUSTED`           | `UNSOUND`        |
| `UNSOUND`       | `UNSOUND`         | `UNSOUND`    | `UNSOUND`     | `TRUSTED`              | `UNSOUND`        |

Laws of this module:

1. Polls validate something only while the list is trusted. All replicas know why it is not: the flaw is published.
2. After a flaw the list is left alone, for longer each time; what was long ago is forgotten.
3. What a full scan has found further down no poll can take back.
4. Polls that get no call, or come to no end, validate nothing from then on. That is no flaw of the list, so it is not
   left alone.

Pure values; times are seconds of the clock that all replicas share.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

from campaign_gateway.policy.backoff import Backoff
from campaign_gateway.policy.sweeping import ListFlaw

STAND_DOWN_SECONDS = 30.0
"""How long a list that was found to be wrong is left alone at first."""
LONGEST_STAND_DOWN_SECONDS = 600.0
_STAND_DOWN = Backoff(STAND_DOWN_SECONDS, LONGEST_STAND_DOWN_SECONDS)

MOST_LAG_SECONDS = 10.0
"""The lag that is allowed for before any has been measured, and at the most."""
LAG_SAMPLES = 30
"""Changed rows that show how far the list lags, before they are believed."""
LAG_MEMORY_SECONDS = 900.0
LAG_FACTOR = 1.5
"""A list may lag so much more than it was seen to ..."""
LAG_MARGIN_SECONDS = 1.0
"""... and so much more again."""


class ListState(Enum):
    """Whether what a list shows is believed."""

    TRUSTED = auto()
    STARVED = auto()
    DISTRUSTED = auto()
    UNSOUND = auto()


class ListEvent(Enum):
    """What became of a poll or of a full scan."""

    POLLED = auto()
    POLL_FLAWED = auto()
    POLLS_STARVED = auto()
    SCANNED = auto()
    SCAN_FLAWED = auto()


_AFTER = {
    ListState.TRUSTED: {
        ListEvent.POLL_FLAWED: ListState.DISTRUSTED,
        ListEvent.POLLS_STARVED: ListState.STARVED,
        ListEvent.SCAN_FLAWED: ListState.UNSOUND,
    },
    ListState.STARVED: {
        ListEvent.POLLED: ListState.TRUSTED,
        ListEvent.POLL_FLAWED: ListState.DISTRUSTED,
        ListEvent.SCAN_FLAWED: ListState.UNSOUND,
    },
    ListState.DISTRUSTED: {ListEvent.POLLED: ListState.TRUSTED, ListEvent.SCAN_FLAWED: ListState.UNSOUND},
    ListState.UNSOUND: {ListEvent.SCANNED: ListState.TRUSTED},
}
"""The table above; what is not here leaves the state as it is."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the replica that looks after a list knows of the trust in it."""

    quiet_until: float = 0.0
    """Until then it is left alone."""
    stand_down: Backoff = _STAND_DOWN
    """How long it is left alone, by the times that the trust was lost."""
    lost_at: float = float("-inf")
    unsound: ListFlaw | None = None
    """The flaw that a full scan has found."""

    def state(self, published: ListFlaw | None) -> ListState:
        """Whether the list is believed, where that flaw of it is known to all replicas."""
        if self.unsound is not None:
            return ListState.UNSOUND
        if published is None:
            return ListState.TRUSTED
        return ListState.STARVED if published is ListFlaw.STARVED else ListState.DISTRUSTED

    def after(
        self, event: ListEvent, published: ListFlaw | None, now: float, found: ListFlaw | None = None
    ) -> tuple["Trust", ListFlaw | None]:
        """The trust after an event, and the flaw that all replicas are to know; None for none.

        Args:
            event: what happened.
            published: the flaw that they know.
            now: the time.
            found: the flaw that a poll or a full scan has found.
        """
        before = self.state(published)
        state = _AFTER[before].get(event, before)
        match event:
            case ListEvent.POLLED:
                trust = self.held(now)
            case ListEvent.POLL_FLAWED | ListEvent.SCAN_FLAWED:
                trust = self.lost(now)
            case _:
                trust = self
        unsound = self.unsound if state is ListState.UNSOUND else None
        if event is ListEvent.SCAN_FLAWED:
            unsound = found
        trust = replace(trust, unsound=unsound)
        match state:
            case ListState.TRUSTED:
                return trust, None
            case ListState.STARVED:
                return trust, ListFlaw.STARVED
            case _:
                return trust, found or (unsound if event is ListEvent.POLLED else published)

    def lost(self, now: float) -> "Trust":
        """After a flaw was found."""
        stand_down = self.stand_down.grown()
        return Trust(now + stand_down.current, stand_down, now, self.unsound)

    def held(self, now: float) -> "Trust":
        """After a good poll: what is long ago is forgotten."""
        return Trust(unsound=self.unsound) if now - self.lost_at > LONGEST_STAND_DOWN_SECONDS else self


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the lists were seen to lag behind answers by id."""

    longest: float = 0.0
    longest_at: float = 0.0
    samples: int = 0

    def seen(self, lag: float, now: float) -> "Lag":
        """After a changed row has shown that it was so late, at least."""
        if lag >= self.longest or now - self.longest_at > LAG_MEMORY_SECONDS:
            return Lag(lag, now, self.samples + 1)
        return replace(self, samples=self.samples + 1)

    def allowed(self, now: float) -> float:
        """Seconds that the lists are taken to lag."""
        if self.samples < LAG_SAMPLES:
            return MOST_LAG_SECONDS
        longest = self.longest if now - self.longest_at <= 2 * LAG_MEMORY_SECONDS else 0.0
        return min(MOST_LAG_SECONDS, LAG_FACTOR * longest + LAG_MARGIN_SECONDS)
