"""What is known of a stored answer beside the answer itself: by the store, and by the list.

A stored answer is in one of three states. Their laws:

1. A read by id makes it *good*, whatever it was: it looked up the fence before it began, and is stored under it.
2. A gap in what this process receives, or a restart, makes all that it holds *unverified*: an invalidation may have
   been missed. A look-up in the shared store ends that, or a poll of the list that began well after it.
3. An invalidation makes it *invalidated*, whatever it was, and only a read by id ends that. A purge after a write does
   not make less of the write.
4. Only a good one may be fresh. An unverified or purged one has been stale since then; an overwritten one is not even
   stale: nobody gets it before the platform was asked.

| from         | invalidation  | gap          | look-up, poll | read by id |
|--------------|---------------|--------------|---------------|------------|
| good         | invalidated   | unverified   | good          | good       |
| unverified   | invalidated   | unverified   | good          | good       |
| invalidated  | invalidated   | invalidated  | invalidated   | good       |
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from campaign_gateway.policy.stored import Stored, is_from_the_future

WRITE_SETTLE_SECONDS = 10.0
"""How long after a write a read may still show the state before it."""


class Cause(StrEnum):
    """Why stored answers have to be validated."""

    PURGE = "purge"
    """An operator wants them read again, or a caller says that they have changed; until then they are stale."""
    WRITE = "write"
    """A write may have changed what they show; nobody gets them before the platform was asked."""


class CopyState(StrEnum):
    """See the module's laws."""

    GOOD = "good"
    UNVERIFIED = "unverified"
    INVALIDATED = "invalidated"


@dataclass(frozen=True, slots=True)
class Invalidation:
    """The last invalidation of a key that still matters for what is stored there."""

    at: float
    """Seconds of the store's clock."""
    by: Cause
    is_open: bool
    """Whether the answer was read before it. Else it was read soon after a write, and may show the state before it."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The word of a poll of the list that did not see the campaign change."""

    at: float
    """When the poll began, or the answer was read, if that was later."""
    lasts: float = 0.0
    """Seconds from `at` for which that is good."""
    blind: float = 0.0
    """Seconds from the answer's read by id after which no poll validates it any longer."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one stored answer. The store knows the first two, the list the others."""

    invalidation: Invalidation | None = None
    unverified_since: float | None = None
    """Since when an invalidation of it may have been missed."""
    validation: Validation | None = None
    superseded_since: float | None = None
    """From when on the campaign is known to be in another state, or has to be taken to be."""

    @property
    def state(self) -> CopyState:
        """See the module's laws."""
        if self.invalidation is not None and self.invalidation.is_open:
            return CopyState.INVALIDATED
        return CopyState.GOOD if self.unverified_since is None else CopyState.UNVERIFIED

    @property
    def is_overwritten(self) -> bool:
        """Whether a write since its read may have changed what it shows."""
        return self.invalidation is not None and self.invalidation.is_open and self.invalidation.by is Cause.WRITE

    def invalidated(self, by: Cause, at: float) -> "Evidence":
        """After an invalidation; that by a write stays what it is."""
        return replace(self, invalidation=Invalidation(at, Cause.WRITE if self.is_overwritten else by, is_open=True))

    def unverified(self, since: float) -> "Evidence":
        """After a gap."""
        return replace(self, unverified_since=since)

    def settling(self, stored: Stored, written_at: float) -> "Evidence":
        """With a write that came so shortly before the answer's read that it may show the state before it."""
        if self.invalidation is not None or stored.validated_at - written_at > WRITE_SETTLE_SECONDS:
            return self
        if is_from_the_future(written_at, stored.validated_at):
            # The read passed its fence, so it came later: the write was dated by a clock that was wrong.
            return self
        return replace(self, invalidation=Invalidation(written_at, Cause.WRITE, is_open=False))


GOOD = Evidence()
"""Nothing speaks against it."""
