"""The index of a process that shares it with nobody."""

from collections.abc import Callable, Mapping

from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState, apply
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.store.usage import Usage
from campaign_gateway.store.waits import News, Wakes

NOTHING = IndexSnapshot()


class LocalIndex:
    """Implements `CampaignIndex` for one process."""

    def __init__(self, epoch: Epoch, now: Callable[[], float]) -> None:
        """An index.

        Args:
            epoch: ended whenever `view` says something else.
            now: the store's clock.
        """
        self._epoch = epoch
        self._now = now
        self._news, self._wakes = News(), Wakes()
        self._usage = Usage(self._wakes.come)
        self._views: dict[str, IndexSnapshot] = {}

    def snapshot(self, stream: str) -> IndexSnapshot:
        """See `CampaignIndex`."""
        return self._views.get(stream) or NOTHING

    def record_use(self, stream: str, id_: str, now: float) -> None:
        """See `CampaignIndex`."""
        self._usage.note(stream, id_, now)

    def used(self, stream: str) -> Mapping[str, float]:
        """See `CampaignIndex`."""
        return self._usage.used(stream, self._now())

    def interest(self, stream: str) -> Mapping[str, float]:
        """See `CampaignIndex`."""
        return self._usage.interest(stream, self._now())

    def is_leading(self, _stream: str) -> bool:
        """See `CampaignIndex`. There is nobody else."""
        return True

    async def wait_for_change(self, stream: str, seconds: float) -> None:
        """See `CampaignIndex`."""
        await self._news.wait(stream, seconds)

    async def wait(self, stream: str, seconds: float) -> None:
        """See `CampaignIndex`."""
        await self._wakes.wait(stream, seconds)

    async def publish(self, stream: str, state: IndexState, updates: Mapping[str, IndexedCampaign]) -> bool:
        """See `CampaignIndex`."""
        if state.number != self.snapshot(stream).state.number + 1:
            return False
        self._views[stream] = apply(self.snapshot(stream), state, updates)
        self._epoch.end()
        self._news.come(stream)
        self._wakes.come(stream)
        return True
