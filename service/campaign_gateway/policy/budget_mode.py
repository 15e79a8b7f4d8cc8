"""How a replica goes on when it loses the ledger of an account: never by failing open.

| mode           | since                                                 | may send          | callers who can wait |
|----------------|-------------------------------------------------------|-------------------|----------------------|
| `SHARED`       | a change of the ledger was made                       | what it says      | as it says           |
| `BRIEF_LOSS`   | a change failed                                       | as in what follows| are kept             |
| `SOLE`         | after that, if it is the only replica known           | all calls         | as it says           |
| `HOLDING_BACK` | after that, if others are known                       | its allotment     | as it says           |
| `ON_ITS_SHARE` | all calls have left that others made without knowing  | its share         | as it says           |

Whatever the mode, a change that is made brings `SHARED` back. Laws of this module:

1. A replica always keeps its own calls itself. If it is the only one known, they are the whole truth: no pause.
2. If it is one of several, it begins what was allotted to it ahead, and no more, while calls that it cannot know of may
   be in the window: until the others have missed it, and one window after their last call. Then it keeps to its share.
   `policy.allotments` says why that is safe.
3. The others leave its allotment to it no longer than they withhold it (`WITHHELD_WINDOWS`); after that it begins
   nothing until it may count on its share.

All functions are pure; times are seconds of the replica's monotonic clock.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto

from campaign_gateway.policy.ledger import SILENCE_SECONDS, WITHHELD_WINDOWS, Allowance, Lane

BRIEF_LOSS_SECONDS = 1.5
"""A loss of the ledger that may be over at the next look: callers who can wait are kept this long, not refused."""
NEVER = -math.inf


class Mode(Enum):
    """What a replica goes by."""

    SHARED = auto()
    BRIEF_LOSS = auto()
    SOLE = auto()
    HOLDING_BACK = auto()
    ON_ITS_SHARE = auto()


@dataclass(frozen=True, slots=True)
class Contact:
    """When a replica and the others last knew of each other."""

    known: int
    """How many replicas there were when the ledger was last seen, this one included."""
    lost_at: float | None = None
    """When the ledger was lost; None while it is not."""
    seen_at: float = NEVER
    """When it was last changed by this replica."""
    quiet_until: float = NEVER
    """Until when the others take this one for quiet, whatever became of its last change."""

    def mode(self, allowance: Allowance, now: float) -> Mode:
        """What the replica goes by now."""
        if self.lost_at is None:
            return Mode.SHARED
        return next(mode for mode, until in self._timetable(self.lost_at, allowance) if now < until)

    def _timetable(self, lost_at: float, allowance: Allowance) -> Iterator[tuple[Mode, float]]:
        """The modes after a loss, and until when each lasts."""
        yield Mode.BRIEF_LOSS, lost_at + BRIEF_LOSS_SECONDS
        if self.known > 1:
            yield Mode.HOLDING_BACK, self.share_from(allowance)
            yield Mode.ON_ITS_SHARE, math.inf
        yield Mode.SOLE, math.inf

    def share_from(self, allowance: Allowance) -> float:
        """When the replica may count on its share, if it does not see the ledger before."""
        # The others may go on with the whole budget until they miss this replica, and their last calls may take all of
        # their time to arrive.
        return max(self.lost_at or NEVER, self.quiet_until) + SILENCE_SECONDS + allowance.most

    def sits_out(self, allowance: Allowance, now: float) -> float:
        """Seconds for which it has no more than its allotment; 0 where it has all calls, or its share."""
        is_one_of_several = self.lost_at is not None and self.known > 1
        return max(0.0, self.share_from(allowance) - now) if is_one_of_several else 0.0

    def permitted(self, allowance: Allowance, allotment: int, share: int, now: float) -> Allowance:
        """What the replica may do now.

        Args:
            allowance: the account's.
            allotment: calls that it may begin without the ledger.
            share: calls of a window that it may count on by itself.
            now: the time.
        """
        if self.lost_at is None or self.known == 1:
            return allowance
        if self.mode(allowance, now) is Mode.ON_ITS_SHARE:
            return part_of(allowance, share)
        withheld = min(allowance.most, WITHHELD_WINDOWS * allowance.window)
        is_withheld = now < max(self.seen_at, self.quiet_until) + SILENCE_SECONDS + withheld
        return part_of(allowance, allotment if is_withheld else 0)


def part_of(allowance: Allowance, calls: int) -> Allowance:
    """What may be done with a part of an account's calls; writes can count on one of them, if there are several."""
    writes = allowance.lanes.get(Lane.WRITES, 0)
    own = min(max(1, writes * calls // max(1, allowance.calls)), calls - 1) if writes else 0
    return replace(allowance, calls=calls, reserve=0, lanes={Lane.WRITES: own} if own > 0 else {})
