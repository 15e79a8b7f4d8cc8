"""Where stored answers live."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from campaign_gateway.policy.entry import Cause, Entry
from campaign_gateway.proxy.epoch import Epoch


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds for a key, and the fence that stood there when it was looked up."""

    entry: Entry | None
    fence: Hashable
    """Opaque; handed back with the `put` of a fill that began after this look-up."""
    written_at: float = 0.0
    """When a write last may have changed it, as far as this process knows; 0 for never."""
    raw: object = None
    """Opaque; what the entry was made of, for the next look-up to compare."""


@dataclass(frozen=True, slots=True)
class Lead:
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


class Store(Protocol):
    """Where entries live. Never raises: a store that cannot answer holds nothing."""

    def now(self) -> float:
        """Seconds since the epoch on the one clock that all users of this store share."""
        ...

    def peek(self, key: str) -> Entry | None:
        """The entry, if this process holds a copy that it may use without asking anybody."""
        ...

    def holds(self, key: str) -> bool | None:
        """Whether it may have anything of the key; None where that cannot be known without asking."""
        ...

    @property
    def epoch(self) -> Epoch:
        """Ends when `peek` may say something else of any key, but for what only time brings about."""
        ...

    @property
    def is_told(self) -> bool:
        """Whether it learns of all that ends the epoch; it ends as well when that ceases to be so."""
        ...

    async def get(self, key: str, raw: object = None) -> Found:
        """The entry and the fence of a key, in one trip.

        Args:
            key: the entry's key.
            raw: that of an earlier look-up: if nothing has changed since, this one brings the very same entry.
        """
        ...

    async def lead(self, key: str) -> Lead:
        """Takes the lead in filling the key, unless another replica has it; in one trip.

        A leader that dies loses the lead within seconds, and any leader with the next invalidation. Where replicas
        cannot agree, each leads.
        """
        ...

    async def leave(self, key: str, fence: Hashable) -> None:
        """Gives up the lead, after the fill was stored or failed, and wakes those who `follow`.

        Args:
            key: the entry's key.
            fence: that of the look-up that took the lead; an invalidation since has ended the lead already.
        """
        ...

    async def follow(self, key: str, seconds: float) -> None:
        """Waits until the key's leader has left, or so long."""
        ...

    async def put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        """Stores the entry for `keep` seconds, unless the fence moved or a later read is stored already."""
        ...

    async def invalidate(self, key: str, by: Cause) -> None:
        """Moves the fence: what is stored needs a new proof, and no fill that looked up before now will be stored.

        Args:
            key: an entry's key, or that of all answers to an operation of a stream (`all_of`).
            by: why.
        """
        ...

    def invalidated_at(self, key: str) -> float:
        """When the key, or all of its operation, was last invalidated, as far as this process knows; 0 for never."""
        ...

    async def tell_written(self, writer: str) -> None:
        """Lets all replicas know that a write by `writer` (see `proxy.versions`) has just ended."""
        ...

    async def tell_hinted(self, stream: str, campaigns: Sequence[str]) -> bool:
        """Lets the other replicas know which campaigns of a stream are to be read first (see `proxy.hints`).

        Returns:
            Whether there is somebody who may have heard it.
        """
        ...
