"""The index of a process that shares it with nobody."""

from collections.abc import Callable, Mapping

from typing_extensions import override

from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState, apply
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import CampaignIndex
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.usage import Usage
from campaign_gateway.store.waits import Changes, Wakes

NOTHING = IndexSnapshot()


class LocalIndex(CampaignIndex):
    """What lists have shown to one process, which looks after all of them."""

    def __init__(self, epoch: Epoch, now: Callable[[], float], log: LocalChanges | None = None) -> None:
        """An index.

        Args:
            epoch: ended whenever `snapshot` says something else.
            now: the store's clock.
            log: receives what has changed.
        """
        self._log = log or LocalChanges(now)
        self._epoch = epoch
        self._now = now
        self._changes, self._wakes = Changes(), Wakes()
        self._usage = Usage(self._wakes.notify)
        self._snapshots: dict[str, IndexSnapshot] = {}

    @override
    def snapshot(self, stream: str) -> IndexSnapshot:
        return self._snapshots.get(stream) or NOTHING

    @override
    def record_use(self, stream: str, id_: str, now: float) -> None:
        self._usage.note(stream, id_, now)

    @override
    def record_listening(self, stream: str, now: float) -> None:
        self._usage.listen(stream, now)

    @override
    def is_listened(self, stream: str) -> bool:
        return self._usage.is_listened(stream, self._now())

    @override
    def used(self, stream: str) -> Mapping[str, float]:
        return self._usage.used(stream, self._now())

    @override
    def interest(self, stream: str) -> Mapping[str, float]:
        return self._usage.interest(stream, self._now())

    @override
    def is_leading(self, stream: str) -> bool:
        return True

    @override
    async def wait_for_change(self, stream: str, seconds: float) -> None:
        await self._changes.wait(stream, seconds)

    @override
    async def wait(self, stream: str, seconds: float) -> None:
        await self._wakes.wait(stream, seconds)

    @override
    async def publish(self, stream: str, state: IndexState, updates: Mapping[str, IndexedCampaign]) -> bool:
        if state.number != self.snapshot(stream).state.number + 1:
            return False
        self._log.add_all(stream, self.snapshot(stream), state, updates)
        self._snapshots[stream] = apply(self.snapshot(stream), state, updates)
        self._epoch.end()
        self._changes.notify(stream)
        self._wakes.notify(stream)
        return True
