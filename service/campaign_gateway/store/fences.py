"""What is known of the invalidations of one key, or of all keys of an operation.

Numbers come from one counter of the store's, so that they show what came first. An entry remembers the number that its
group stood at when it was stored; a later invalidation of the group has a higher one.
"""

from dataclasses import dataclass, replace

from campaign_gateway.policy.evidence import Cause, CopyState, Evidence, Invalidation
from campaign_gateway.policy.stored import Stored

FENCE_SECONDS = 900.0
"""How long an invalidation is remembered: longer than any fill can be under way."""


@dataclass(frozen=True, slots=True)
class GroupFence:
    """The last invalidations of all answers to an operation: numbers, and seconds of the store's clock."""

    write: int = 0
    written_at: float = 0.0
    purge: int = 0
    purged_at: float = 0.0

    @property
    def number(self) -> int:
        """The fence: it differs after each invalidation."""
        return max(self.write, self.purge)

    @property
    def at(self) -> float:
        """When the last one was."""
        return max(self.written_at, self.purged_at)

    def raised(self, number: int, by: Cause, at: float) -> "GroupFence":
        """After one more."""
        if by is Cause.WRITE:
            return replace(self, write=number, written_at=at)
        return replace(self, purge=number, purged_at=at)

    def evidence(self, stored: Stored, own: Evidence, stored_at: int) -> Evidence:
        """What the key's and the group's invalidations say of a stored answer together.

        Args:
            stored: the answer.
            own: what its own key's invalidations say.
            stored_at: the group's number when it was stored.
        """
        if own.is_overwritten:
            return own
        if stored_at < self.write:
            return replace(own, invalidation=Invalidation(self.written_at, Cause.WRITE, is_open=True))
        if stored_at < self.purge and own.state is not CopyState.INVALIDATED:
            return replace(own, invalidation=Invalidation(self.purged_at, Cause.PURGE, is_open=True))
        return own.settling(stored, self.written_at)
