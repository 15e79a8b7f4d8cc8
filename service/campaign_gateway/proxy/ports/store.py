"""Where stored answers live."""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from campaign_gateway.policy.evidence import Cause, Evidence
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports.meter import Tally


class Copy(NamedTuple):
    """What this process itself holds for a key, and the fence that stands there."""

    stored: Stored | None
    evidence: Evidence
    fence: Hashable
    """Opaque, and for the store alone."""
    written_at: float
    """See `Found`."""
    may_answer: bool
    """Whether it may be used without asking anybody."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds for a key, what it knows of it, and the fence that stood there when it was looked up."""

    stored: Stored | None
    evidence: Evidence
    fence: Hashable
    """Opaque; handed back with the `put` of a fill that began after this look-up."""
    written_at: float = 0.0
    """When a write last may have changed it, as far as this process knows; 0 for never."""
    raw: object = None
    """Opaque; what it was made of, for the next look-up to compare."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Whether this replica may fill a key, and what is stored by now."""

    is_mine: bool
    found: Found


class Put(StrEnum):
    """What became of a `put`; also the metric label `outcome`."""

    STORED = "stored"
    FENCED = "fenced"
    """An invalidation came after the fill's look-up."""
    OLDER = "older"
    """The stored entry comes from a read that started later."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Handlers:
    """What is called with what another replica publishes."""

    on_invalidated: Callable[[str | None], None]
    """With each key that was invalidated; with None when it may be any."""
    on_written: Callable[[str], object]
    """With each writer whose write has ended (see `proxy.writers`)."""
    on_hinted: Callable[[str, Sequence[str]], object]
    """With a stream, and campaigns of it that are to be read first."""


class Store(Protocol):
    """Where entries live. Never raises: a store that cannot answer holds nothing."""

    now: Callable[[], float]
    """Seconds since the epoch on the one clock that all users of this store share."""
    epoch: Epoch
    """Ends when `peek` may say something else of any key, but for what only time brings about."""
    local_hits: Tally
    """Counts the reads that are answered out of what `peek` shows, for whoever answers them."""

    def peek(self, key: str) -> Copy:
        """What this process holds, without asking anybody; of a good copy the very same objects until it changes."""
        ...

    def shows(self, key: str, stored: Stored, evidence: Evidence) -> bool:
        """Whether `peek` may still answer, with these very objects; at a fraction of its price."""
        ...

    def holds(self, key: str) -> bool | None:
        """Whether it may have anything of the key; None where that cannot be known without asking."""
        ...

    @property
    def is_subscribed(self) -> bool:
        """Whether it learns of all that ends the epoch, which also ends when that is no longer so."""
        ...

    async def get(self, key: str, copy: Copy | None = None, raw: object = None) -> Found:
        """What is stored under a key, in one trip.

        Args:
            key: the entry's key.
            copy: what `peek` has shown at this moment, if that was asked for.
            raw: that of an earlier look-up: if nothing has changed since, this one brings the very same answer.
        """
        ...

    async def acquire_lease(self, key: str, found: Found | None = None) -> Lease:
        """The lease on filling the key, unless another replica holds it; in one trip.

        A lease ends within seconds of its holder's death, and with the next invalidation. Where replicas cannot agree,
        each has one.

        Args:
            key: the entry's key.
            found: what the last look-up found; it is not brought again if it is still what is stored.
        """
        ...

    async def release_lease(self, key: str, fence: Hashable) -> None:
        """Gives up the lease, after the fill was stored or failed, and wakes those who wait for it.

        Args:
            key: the entry's key.
            fence: that of the look-up that acquired it; an invalidation since has ended it already.
        """
        ...

    async def wait_for_lease(self, key: str, seconds: float) -> None:
        """Waits until the key's lease is released, or so long."""
        ...

    async def put(self, key: str, stored: Stored, fence: Hashable, keep: float) -> Put:
        """Stores an answer for `keep` seconds, unless the fence moved or a later read is stored already."""
        ...

    async def invalidate(self, key: str, by: Cause) -> bool:
        """As `invalidate_many`, of one key."""
        return await self.invalidate_many((key,), by)

    async def invalidate_many(self, keys: Collection[str], by: Cause) -> bool:
        """Moves the fences: what is stored has to be validated, and no fill that looked up before now will be stored.

        Args:
            keys: entries' keys, or those of all answers to an operation of a stream (`all_of`).
            by: why.

        Returns:
            Whether that holds for all replicas from now on; where others cannot be told, it does as soon as they can.
        """
        ...

    def invalidated_at(self, key: str) -> float:
        """When the key, or all of its operation, was last invalidated, as far as this process knows; 0 for never."""
        ...

    async def publish_write(self, writer: str) -> bool:
        """Publishes that a write by `writer` (see `proxy.writers`) has just ended.

        Returns:
            Whether no other replica can have missed it.
        """
        ...

    async def publish_hint(self, stream: str, campaigns: Sequence[str]) -> bool:
        """Publishes which campaigns of a stream are to be read first (see `proxy.hints`).

        Returns:
            Whether another replica may have received it.
        """
        ...
