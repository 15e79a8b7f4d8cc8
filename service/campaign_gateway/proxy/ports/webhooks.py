"""Where changes are sent to, and where it is written down how far that is."""

from collections.abc import Callable
from typing import Protocol

from campaign_gateway.policy.webhooks import Delivery, Sending


class Target(Protocol):
    """A webhook's other end."""

    async def post(self, id_: str, body: bytes) -> Delivery:
        """What became of sending one event, after 10 s at most. Nothing is sent twice, no redirect followed."""
        ...


class SendingRecords(Protocol):
    """The records of webhooks, for all replicas."""

    async def read(self, name: str) -> Sending | None:
        """The record of this name; None where there is none, or the store is lost."""
        ...

    async def change(self, name: str, step: Callable[[Sending | None, float], Sending | None]) -> Sending | None:
        """The record as it was written; None where the step wanted none, or the store is lost.

        Args:
            name: of the record.
            step: makes the new record of that which is there, and the time; may be called several times.
        """
        ...
