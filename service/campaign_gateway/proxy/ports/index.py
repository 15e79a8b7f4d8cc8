"""What the lists of the streams have shown."""

from collections.abc import Mapping
from typing import Protocol

from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState

USED_SECONDS = 600.0
"""A campaign that was asked for within this time is in use."""


class CampaignIndex(Protocol):
    """What polls of a stream's list have shown, for all replicas, and which of them looks after it. Never raises."""

    def snapshot(self, stream: str) -> IndexSnapshot:
        """What is known, without asking anybody. Its frozen value may be seconds old where replicas share it."""
        ...

    def record_use(self, stream: str, id_: str, now: float) -> None:
        """Notes that a caller asked for the campaign and got it: each time, or now and then while answers stand."""
        ...

    def record_listening(self, stream: str, now: float) -> None:
        """Notes that somebody listens to the stream's changes: that is worth polls of its lists, and no read by id."""
        ...

    def is_listened(self, stream: str) -> bool:
        """Whether somebody listens to the stream's changes, here or, while this replica is leading, on any."""
        ...

    def used(self, stream: str) -> Mapping[str, float]:
        """The campaigns in use (`USED_SECONDS`) and when each was last asked for, without asking anybody.

        By callers of this replica; while it is leading, by those of all replicas, as of about a second ago.
        """
        ...

    def interest(self, stream: str) -> Mapping[str, float]:
        """How often each campaign in use was asked for of late, by the callers that `used` counts.

        A read counts half after each minute. Of hits that go on only some are noted (see `request`), while each answer
        that is out of date counts.
        """
        ...

    def is_leading(self, stream: str) -> bool:
        """Whether this replica is certainly the one that looks after the stream's list, without asking anybody.

        Of all replicas only one is, and of a stream in use one soon is. Nobody is while they cannot agree, or of a
        stream that is not in use.
        """
        ...

    async def wait_for_change(self, stream: str, seconds: float) -> None:
        """Waits until something else is known of the stream's list, or so long."""
        ...

    async def wait(self, stream: str, seconds: float) -> None:
        """Waits until something calls for a look after the stream, or so long; for ever if that is infinite.

        That is: a change of `snapshot` or of `is_leading`, or a use of it when it was not in use. What comes while
        nobody waits ends the next wait at once. For one task per stream.
        """
        ...

    async def publish(self, stream: str, state: IndexState, updates: Mapping[str, IndexedCampaign]) -> bool:
        """Whether `head` and `updates` have taken the place of what was known when `head.number` was one less."""
        ...
