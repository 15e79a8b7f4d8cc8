"""The records of webhooks of a process that shares them with nobody."""

from collections.abc import Callable

from typing_extensions import override

from campaign_gateway.policy.webhooks import Sending
from campaign_gateway.proxy.ports import SendingRecords


class LocalSendingRecords(SendingRecords):
    """Records that end with the process, as its log of changes does."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Records by the store's clock."""
        self._now = now
        self._by_name: dict[str, Sending] = {}

    @override
    async def read(self, name: str) -> Sending | None:
        return self._by_name.get(name)

    @override
    async def change(self, name: str, step: Callable[[Sending | None, float], Sending | None]) -> Sending | None:
        new = step(self._by_name.get(name), self._now())
        if new is not None:
            self._by_name[name] = new
        return new
