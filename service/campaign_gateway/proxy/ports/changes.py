"""The streams' logs of changes."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from campaign_gateway.policy.changes import Change, Finding
from campaign_gateway.proxy.change_window import Position, Window


class ChangeLog(Protocol):
    """What has changed, stream by stream, for all replicas. What lists show is added by `CampaignIndex.publish`."""

    on_added: Callable[[str, Sequence[Change]], None]
    """Called with what this replica has added to a stream's log."""

    async def follow(self, stream: str) -> Window | None:
        """The window on the stream's log, which is kept up to date from now on for a while; None where it cannot be.

        The same one each time, also when another log has taken the place of the stream's.
        """
        ...

    async def end(self, stream: str) -> Position | None:
        """Where the stream's log ends, also if no window holds it yet; None where Redis is lost.

        One trip to Redis.
        """
        ...

    async def note(self, stream: str, campaign: str, finding: Finding) -> None:
        """Adds what a read or a write has shown, if that is news. Without Redis that is left to the next poll."""
        ...

    async def note_written(self, stream: str, campaigns: Collection[str], at: float, *, is_creation: bool) -> None:
        """Remembers that a write through the gateway may have changed, or made, these campaigns."""
        ...
